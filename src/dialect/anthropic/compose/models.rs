//! What the names of Anthropic's models say about them.
//!
//! Source: Anthropic's guides "Extended thinking", "Adaptive thinking" and "Effort", which list the models.

/// The generation in a name such as `claude-opus-4-7-20260401`, `claude-3-5-haiku` or `anthropic/claude-sonnet-5`:
/// (major, minor). `None` where the name has none.
pub(in crate::dialect) fn generation(model: &str) -> Option<(u32, u32)> {
    let name = model.rsplit_once('/').map_or(model, |(_, name)| name);
    let mut numbers = name.split(['-', '.', '@', ':', '[']).filter_map(|piece| {
        // A date is no version.
        piece.parse::<u32>().ok().filter(|_| piece.len() <= 2)
    });
    let major = numbers.next()?;
    Some((major, numbers.next().unwrap_or(0)))
}

/// Newer than all that the lists name, or of a family without a number.
fn is_newest(model: &str) -> bool {
    ["fable", "mythos"].iter().any(|family| model.contains(family))
}

/// Whether the model decides by itself how much it reasons; older ones want a budget.
pub(super) fn is_adaptive(model: &str) -> bool {
    is_newest(model) || generation(model).is_none_or(|generation| generation >= (4, 6))
}

/// Whether the model reasons at all.
pub(super) fn reasons(model: &str) -> bool {
    is_adaptive(model) || generation(model).is_some_and(|generation| generation >= (3, 7))
}

/// Whether reasoning can be turned off by saying so.
pub(super) fn can_be_told_not_to(model: &str) -> bool {
    reasons(model) && !is_newest(model)
}

/// Whether the model takes `temperature` and its kin.
pub(super) fn takes_sampling(model: &str) -> bool {
    !is_newest(model) && generation(model).is_none_or(|generation| generation < (4, 7))
}

/// Whether the model refuses `temperature` and `top_p` in one request.
pub(super) fn takes_one_of_two(model: &str) -> bool {
    generation(model).is_some_and(|generation| generation >= (4, 0))
}

/// The most output that is asked for where the caller names no limit.
pub(super) fn default_output(model: &str, is_stream: bool) -> u64 {
    match generation(model) {
        Some(generation) if generation < (3, 7) => 4096,
        _ if is_stream => 32_000,
        _ => 16_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!(generation("claude-opus-4-7-20260401"), Some((4, 7)));
        assert_eq!(generation("anthropic/claude-sonnet-4.5"), Some((4, 5)));
        assert_eq!(generation("claude-3-5-haiku-20241022"), Some((3, 5)));
        assert_eq!(generation("claude-sonnet-4-20250514"), Some((4, 0)));
        assert_eq!(generation("claude-fable-latest"), None);
        assert!(is_adaptive("claude-opus-4-6") && !is_adaptive("claude-haiku-4-5"));
        assert!(takes_sampling("claude-sonnet-4-6") && !takes_sampling("claude-sonnet-5"));
        assert!(!takes_sampling("claude-mythos-1"));
    }
}
