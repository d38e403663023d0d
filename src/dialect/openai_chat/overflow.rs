//! Context overflows: found in the words of many servers, and put in Anthropic's, by which callers recover.
//!
//! Sources: the error texts of OpenAI, OpenRouter, vLLM, llama.cpp, LM Studio, Google and Groq; Anthropic's API
//! reference for the wording.

use super::error::Envelope;

const SIGNS: &[&str] = &[
    "maximum context length",
    "exceeds the available context size",
    "exceeds the context window",
    "exceed context limit",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "context the overflows",
    "greater than the context length",
    "contextwindowexceedederror",
    "content_length_exceeds_threshold",
    "exceeds the maximum number of tokens allowed",
    "context_length_exceeded",
];

/// Anthropic's wording, if this is an overflow.
pub(super) fn rewrite(status: u16, envelope: &Envelope) -> Option<String> {
    let text = envelope.message.to_ascii_lowercase();
    let by_code = envelope.code == "context_length_exceeded" || envelope.kind == "exceed_context_size_error";
    // Groq: a request that alone is larger than a minute's tokens.
    let too_large = status == 413 && (text.contains("token") || text.contains("context"));
    if !by_code && !too_large && !SIGNS.iter().any(|sign| text.contains(sign)) {
        return None;
    }
    if text.contains("prompt is too long") || text.contains("input length and `max_tokens`") {
        return Some(envelope.message.clone());
    }
    let numbers = Numbers::read(&text);
    let limit = envelope.window.or(numbers.limit);
    let input = envelope.prompt.or(numbers.input);
    Some(match (input, numbers.output, limit) {
        (Some(input), Some(output), Some(limit)) if input < limit => format!(
            "input length and `max_tokens` exceed context limit: {input} + {output} > {limit}, decrease input \
             length or `max_tokens` and try again"
        ),
        (Some(input), _, Some(limit)) => format!("prompt is too long: {input} tokens > {limit} maximum"),
        _ => match (numbers.total, limit) {
            (Some(total), Some(limit)) => format!("prompt is too long: {total} tokens > {limit} maximum"),
            _ if envelope.message.is_empty() => "prompt is too long".to_owned(),
            _ => format!("prompt is too long: {}", envelope.message),
        },
    })
}

/// How many tokens fit beside the input, where a message says so in Anthropic's words.
pub(super) fn room(message: &str) -> Option<u64> {
    let (_, sum) = message.split_once("exceed context limit: ")?;
    let mut numbers = numbers(sum).map(|(number, _, _)| number);
    let (input, _, limit) = (numbers.next()?, numbers.next()?, numbers.next()?);
    limit.checked_sub(input).filter(|&room| room > 0)
}

/// The figures of an overflow message.
#[derive(Debug, Default)]
struct Numbers {
    limit: Option<u64>,
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
}

// === impl Numbers ===

impl Numbers {
    /// Tells figures apart by the words around them.
    fn read(text: &str) -> Numbers {
        let mut found = Numbers::default();
        for (number, before, after) in numbers(text) {
            let precedes = |words: &[&str]| words.iter().any(|word| after.starts_with(word));
            let follows = |words: &[&str]| words.iter().any(|word| before.ends_with(word));
            if precedes(&[
                " in the completion",
                " tokens for the completion",
                " in the output",
                " output tokens",
            ]) {
                found.output = Some(number);
            } else if precedes(&[
                " tokens from the input",
                " in the messages",
                " of text input",
                " of tool input",
                " of image input",
                " in the prompt",
                " input tokens",
                " in the functions",
            ]) {
                found.input = Some(found.input.unwrap_or(0).saturating_add(number));
            } else if follows(&[
                "context length is ",
                "context length of ",
                "context length of only ",
                "context size (",
                "tokens allowed (",
                "limit ",
                "context window of ",
                "limit of ",
            ]) {
                found.limit.get_or_insert(number);
            } else if follows(&[
                "request (",
                "resulted in ",
                "requested ",
                "requested about ",
                "a total of ",
                "token count (",
                "keep the first ",
                "token count of ",
            ]) {
                found.total.get_or_insert(number);
            }
        }
        found
    }
}

/// The whole numbers in a text, each with what stands before and behind it. Commas within count as digits.
fn numbers(text: &str) -> impl Iterator<Item = (u64, &str, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text.get(at..)?.find(|c: char| c.is_ascii_digit())?;
            let rest = text.get(start..)?;
            let is_part = |(nth, c): (usize, char)| {
                let comma = c == ','
                    && rest
                        .get(nth + 1..nth + 4)
                        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
                !(c.is_ascii_digit() || comma)
            };
            let len = rest.char_indices().find(|&pair| is_part(pair)).map_or(rest.len(), |(nth, _)| nth);
            at = start + len;
            let number: String = rest.get(..len)?.chars().filter(char::is_ascii_digit).collect();
            if let Ok(number) = number.parse() {
                return Some((number, text.get(..start)?, text.get(at..)?.trim_start_matches([':', ')'])));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> String {
        let envelope = Envelope { message: message.to_owned(), ..Envelope::default() };
        rewrite(400, &envelope).unwrap_or_default()
    }

    #[test]
    fn the_figures_of_every_server_are_found() {
        assert_eq!(
            of(
                "This model's maximum context length is 128000 tokens. However, your messages resulted in 130512 tokens."
            ),
            "prompt is too long: 130512 tokens > 128000 maximum"
        );
        assert_eq!(
            of("request (2009 tokens) exceeds the available context size (512 tokens), try increasing it"),
            "prompt is too long: 2009 tokens > 512 maximum"
        );
        assert_eq!(
            of("The input token count (1,200,000) exceeds the maximum number of tokens allowed (1048576)."),
            "prompt is too long: 1200000 tokens > 1048576 maximum"
        );
        assert_eq!(
            of(
                "Trying to keep the first 9632 tokens when context the overflows. However, the model is loaded with \
                context length of only 4096 tokens, which is not enough."
            ),
            "prompt is too long: 9632 tokens > 4096 maximum"
        );
        assert_eq!(
            of("Input is too long for requested model."),
            "prompt is too long: Input is too long for requested model."
        );
        assert_eq!(of("temperature: range 0..1"), "");
    }

    #[test]
    fn an_output_that_is_too_large_is_told_apart() {
        let vllm = of(
            "Requested token count exceeds the model's maximum context length of 262144 tokens. You requested \
            a total of 262462 tokens: 230462 tokens from the input messages and 32000 tokens for the completion.",
        );
        assert_eq!(
            vllm,
            "input length and `max_tokens` exceed context limit: 230462 + 32000 > 262144, decrease input length or \
             `max_tokens` and try again"
        );
        assert_eq!(room(&vllm), Some(262_144 - 230_462));
        let openrouter =
            of("This endpoint's maximum context length is 200000 tokens. However, you requested about \
            210000 tokens (170000 of text input, 8000 of tool input, 32000 in the output).");
        assert!(openrouter.contains(": 178000 + 32000 > 200000,"), "{openrouter}");
    }
}
