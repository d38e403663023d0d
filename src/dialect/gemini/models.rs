//! What the names of Google's models say about them.
//!
//! Source: Gemini API, "Gemini thinking" (which models take a level, which a budget, and what they allow).

/// How a model is told to reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It can't.
    None,
    /// By a number of tokens.
    Budget {
        /// The least that it takes; zero: reasoning can be turned off.
        least: u64,
        /// The most.
        most: u64,
    },
    /// By a level.
    Level {
        /// Whether it knows `minimal` (and `medium`) beside `low` and `high`.
        is_fine: bool,
    },
}

/// Reads a name such as `gemini-2.5-flash` or `models/gemini-3-pro-preview`.
pub(super) fn thinking(model: &str) -> Thinking {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    let Some(rest) = name.strip_prefix("gemini-") else { return Thinking::None };
    let version: f64 = rest.split('-').next().and_then(|version| version.parse().ok()).unwrap_or(3.0);
    let is_flash = rest.contains("flash");
    if rest.contains("-image") || rest.contains("-tts") || version < 2.5 {
        Thinking::None
    } else if version < 3.0 {
        match is_flash {
            true => Thinking::Budget { least: 0, most: 24_576 },
            false => Thinking::Budget { least: 128, most: 32_768 },
        }
    } else {
        Thinking::Level { is_fine: is_flash || version > 3.0 }
    }
}

/// Whether a call that comes back must carry a thought signature.
pub(super) fn needs_signatures(model: &str) -> bool {
    !["gemini-1", "gemini-2", "gemma"].iter().any(|old| model.contains(old))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!(thinking("gemini-2.0-flash"), Thinking::None);
        assert_eq!(thinking("gemini-2.5-flash-lite"), Thinking::Budget { least: 0, most: 24_576 });
        assert_eq!(thinking("gemini-2.5-pro"), Thinking::Budget { least: 128, most: 32_768 });
        assert_eq!(thinking("gemini-3-pro-preview"), Thinking::Level { is_fine: false });
        assert_eq!(thinking("models/gemini-3.1-pro"), Thinking::Level { is_fine: true });
        assert_eq!(thinking("gemma-3-27b"), Thinking::None);
    }
}
