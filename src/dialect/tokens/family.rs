//! Families of models, and how each counts.

use crate::dialect::anthropic::compose::generation;

/// Models that count alike: by their vendor's tokenizer, and by how the vendor writes a request out for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Anthropic's, up to 4.5.
    ClaudeTo45,
    /// Anthropic's 4.6.
    Claude46,
    /// Anthropic's newer ones: the most costly, and so what a model is taken for of which nothing is known.
    #[default]
    Claude,
    /// OpenAI's.
    OpenAi,
    /// Google's.
    Gemini,
    /// Others, as they are run by many: Qwen, Llama, DeepSeek, Mistral.
    Open,
}

/// How a family counts.
pub(super) struct Scale {
    /// A text, in hundredths of what we say.
    pub(super) text: u64,
    /// Characters outside ASCII, likewise.
    pub(super) foreign: u64,
    /// What describes tools, likewise: some vendors write it out shorter than it came.
    pub(super) tool_text: u64,
    /// A request beside its messages.
    pub(super) request: u64,
    /// A message (and the system prompt) beside its content.
    pub(super) message: u64,
    /// Offering any tools at all: the vendor's own prompt about them.
    pub(super) first_tool: u64,
    /// A tool beside its text.
    pub(super) tool: u64,
    /// A call or a result beside its content.
    pub(super) call: u64,
    /// Whether the vendor's own tools are there, with the prompts that the vendor adds for them.
    pub(super) is_vendor: bool,
}

// === impl Family ===

impl Family {
    /// The family of a model, by its name (`claude-opus-4-8`, `openai/gpt-5.2`).
    pub fn of(model: &str) -> Family {
        let name = model.rsplit_once('/').map_or(model, |(_, name)| name).to_ascii_lowercase();
        let begins = |names: &[&str]| names.iter().any(|begin| name.starts_with(begin));
        match () {
            () if name.contains("claude") => match generation(&name) {
                Some(generation) if generation <= (4, 5) => Family::ClaudeTo45,
                Some((4, 6)) => Family::Claude46,
                _ => Family::Claude,
            },
            () if begins(&["gemini", "gemma"]) => Family::Gemini,
            () if begins(&["gpt-", "chatgpt", "codex", "o1", "o3", "o4"]) => Family::OpenAi,
            () if begins(OPEN) => Family::Open,
            () => Family::Claude,
        }
    }

    /// Found by comparison with what the vendors counted.
    pub(super) fn scale(self) -> Scale {
        let claude = Scale {
            text: 105,
            foreign: 150,
            tool_text: 105,
            request: 8,
            message: 3,
            first_tool: 500,
            tool: 20,
            call: 46,
            is_vendor: true,
        };
        match self {
            Family::ClaudeTo45 => Scale { first_tool: 340, ..claude },
            Family::Claude46 => claude,
            // A new tokenizer, which the vendor says to need up to a third more.
            Family::Claude => Scale { text: 120, tool_text: 120, ..claude },
            Family::OpenAi => Scale {
                text: 100,
                foreign: 100,
                tool_text: 55,
                request: 3,
                message: 4,
                first_tool: 8,
                tool: 4,
                call: 6,
                is_vendor: false,
            },
            Family::Gemini => Scale {
                text: 100,
                foreign: 100,
                tool_text: 80,
                request: 1,
                message: 2,
                first_tool: 0,
                tool: 5,
                call: 6,
                is_vendor: false,
            },
            Family::Open => Scale {
                text: 105,
                foreign: 115,
                tool_text: 110,
                request: 4,
                message: 5,
                first_tool: 120,
                tool: 12,
                call: 20,
                is_vendor: false,
            },
        }
    }
}

/// How the names of models begin whose weights are open.
const OPEN: &[&str] = &[
    "qwen",
    "qwq",
    "llama",
    "meta-llama",
    "deepseek",
    "mistral",
    "ministral",
    "mixtral",
    "codestral",
    "devstral",
    "magistral",
    "pixtral",
    "glm",
    "kimi",
    "phi",
    "granite",
    "minimax",
    "grok",
    "command",
    "nemotron",
    "sonar",
];
