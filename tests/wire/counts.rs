//! Token counts: the estimate against what the providers counted.

use cproxy::dialect::{Dialect, head};

use crate::support::recordings::recordings;

/// All input of an answer, cached or not: from the first usage that isn't empty.
fn counted(answer: &str) -> Option<u64> {
    let first = |name: &str, from: usize| -> Option<(usize, u64)> {
        answer[from..].match_indices(&format!("\"{name}\":")).find_map(|(at, key)| {
            let rest = answer[from + at + key.len()..].trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok().filter(|count| *count > 0).map(|count| (from + at, count))
        })
    };
    if let Some((_, count)) = first("prompt_tokens", 0) {
        return Some(count);
    }
    let (at, count) = first("input_tokens", 0)?;
    // The usage in which it stands: Anthropic counts apart what is cached.
    let begin = answer[..at].rfind("\"usage\"").unwrap_or(0);
    let end = answer[at..].find("\n").map_or(answer.len(), |end| at + end);
    let cached = ["cache_read_input_tokens", "cache_creation_input_tokens"].into_iter();
    let cached = cached.filter_map(|name| first(name, begin).filter(|(at, _)| *at < end));
    Some(count + cached.map(|(_, count)| count).sum::<u64>())
}

#[test]
fn estimates_are_within_a_tenth_of_what_was_counted() {
    for (provider, dialect) in [
        ("anthropic", Dialect::Anthropic),
        ("openai_chat", Dialect::OpenAiChat),
        ("openai_responses", Dialect::OpenAiResponses),
        ("openrouter", Dialect::OpenAiChat),
        ("gemini_openai", Dialect::OpenAiChat),
    ] {
        let all = recordings(provider, "");
        for (name, request) in all.iter().filter(|(name, _)| name.ends_with(".request.json")) {
            let stem = name.trim_end_matches(".request.json");
            let answer = all.iter().find_map(|(other, body)| {
                other.strip_prefix(stem)?.starts_with(".response").then(|| String::from_utf8_lossy(body))
            });
            let Some(counted) = answer.as_deref().and_then(counted) else { continue };
            let Ok(head) = head::scan_as(request, dialect) else { continue };
            let estimate = head.tokens_for(&head.model);
            println!("{provider}/{stem} ({}): counted {counted}, estimated {estimate}", head.model);
            let off = (estimate as f64 - counted as f64).abs();
            assert!(
                off <= 0.1 * counted as f64,
                "{provider}/{stem}: {estimate} for {counted}, {:?}",
                head.weight
            );
        }
    }
}
