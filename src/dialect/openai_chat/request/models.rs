//! What the names of OpenAI's models say about them.

/// A model of OpenAI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dialect) enum OpenAi {
    /// `gpt-<major>.<minor>`.
    Gpt(u32, u32),
    /// `o<n>`.
    O(u32),
}

/// Reads a name such as `gpt-5.4-mini` or `openai/o3`; `None` for models that don't reason or aren't OpenAI's.
pub(in crate::dialect) fn openai_reasoning(model: &str) -> Option<OpenAi> {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    if name.contains("-chat") || name.contains("-oss") {
        return None;
    }
    let number = |text: &str| -> Option<(u32, usize)> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        Some((text.get(..digits)?.parse().ok()?, digits))
    };
    if let Some(rest) = name.strip_prefix("gpt-") {
        let (major, digits) = number(rest)?;
        let minor = rest.get(digits..)?.strip_prefix('.').and_then(number).map_or(0, |(minor, _)| minor);
        return (major >= 5).then_some(OpenAi::Gpt(major, minor));
    }
    let (n, digits) = number(name.strip_prefix('o')?)?;
    let ends = name.get(1 + digits..).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    ends.then_some(OpenAi::O(n))
}

pub(in crate::dialect) fn is_openai_reasoning(model: &str) -> bool {
    openai_reasoning(model).is_some()
}

// === impl OpenAi ===

impl OpenAi {
    /// The highest level of effort that the model is known to have.
    pub(in crate::dialect) fn highest(self) -> &'static str {
        match self {
            OpenAi::Gpt(major, minor) if (major, minor) >= (5, 2) => "xhigh",
            OpenAi::Gpt(..) | OpenAi::O(_) => "high",
        }
    }

    /// The level at which the model reasons least, if there is one.
    pub(in crate::dialect) fn least(self) -> Option<&'static str> {
        match self {
            OpenAi::Gpt(major, minor) if (major, minor) >= (5, 1) => Some("none"),
            OpenAi::Gpt(..) => Some("minimal"),
            OpenAi::O(_) => None,
        }
    }

    /// Whether the model tells what it says between calls from its answer (`phase`), and wants that told back.
    pub(in crate::dialect) fn has_phases(self) -> bool {
        matches!(self, OpenAi::Gpt(major, minor) if (major, minor) >= (5, 3))
    }

    /// Whether Chat Completions takes tools from it only without any reasoning.
    pub(in crate::dialect) fn reasons_without_tools_only(self) -> bool {
        matches!(self, OpenAi::Gpt(major, minor) if (major, minor) >= (5, 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!(openai_reasoning("gpt-5.4-mini"), Some(OpenAi::Gpt(5, 4)));
        assert_eq!(openai_reasoning("openai/o4-mini"), Some(OpenAi::O(4)));
        assert_eq!(openai_reasoning("o3"), Some(OpenAi::O(3)));
        for other in
            ["gpt-4o", "gpt-4.1", "openai/gpt-oss-120b", "gpt-5-chat-latest", "o", "olmo-2", "omni", "claude"]
        {
            assert_eq!(openai_reasoning(other), None, "{other}");
        }
    }
}
