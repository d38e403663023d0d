//! How servers say that a conversation is too long for a model, and how it is said to a caller: Claude Code
//! compacts the conversation, or lowers its limit on output, when it finds Anthropic's wording, and gives up on any
//! other.
//!
//! Sources: the error texts of Anthropic, OpenAI, OpenRouter, vLLM, llama.cpp, LM Studio, Google and Groq; Anthropic's
//! API reference and Claude Code's documentation, "LLM gateway configuration", for the wording.

/// What the servers' texts and codes have in common, in lower case.
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
    "exceed_context_size_error",
    "capability_rejected: prompt_too_long",
];

/// The wordings by which callers recover.
const WORDINGS: &[&str] =
    &["prompt is too long", "exceed context limit", "capability_rejected: prompt_too_long"];

/// The figures that an error body has as fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields {
    /// Tokens of the prompt.
    pub prompt: Option<u64>,
    /// Tokens of the window.
    pub window: Option<u64>,
}

/// Whether a text (a message, a code, or a whole error body) says that the input is too long for the model.
pub fn is_overflow(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// Whether a message has a wording by which callers recover.
pub fn is_worded(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    WORDINGS.iter().any(|wording| message.contains(wording))
}

/// The message in Anthropic's wording, from that of any server: with the figures where they are given. What is
/// worded so stays as it is.
pub fn wording(message: &str, fields: Fields) -> String {
    if is_worded(message) {
        return message.to_owned();
    }
    let numbers = Numbers::read(&message.to_ascii_lowercase());
    let limit = fields.window.or(numbers.limit);
    let input = fields.prompt.or(numbers.input);
    match (input, numbers.output, limit) {
        // Only the wish for output is too large: the caller tries again with less.
        (Some(input), Some(output), Some(limit)) if input < limit => format!(
            "input length and `max_tokens` exceed context limit: {input} + {output} > {limit}, decrease input \
             length or `max_tokens` and try again"
        ),
        (Some(input), _, Some(limit)) => format!("prompt is too long: {input} tokens > {limit} maximum"),
        _ => match (numbers.total, limit) {
            (Some(total), Some(limit)) => format!("prompt is too long: {total} tokens > {limit} maximum"),
            _ if message.is_empty() => "prompt is too long".to_owned(),
            _ => format!("prompt is too long: {message}"),
        },
    }
}

/// How many tokens fit beside the input, where a message says so in Anthropic's words.
pub fn room(message: &str) -> Option<u64> {
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
                " tokens in your prompt",
                " in your prompt",
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
        if is_overflow(message) { wording(message, Fields::default()) } else { String::new() }
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

    #[test]
    fn anthropics_own_wording_stays_as_it_is() {
        for text in [
            "prompt is too long: 213462 tokens > 200000 maximum",
            "input length and `max_tokens` exceed context limit: 196778 + 21333 > 200000, decrease input length or `max_tokens` and try again",
            "capability_rejected: prompt_too_long",
        ] {
            assert_eq!(of(text), text);
        }
    }

    #[test]
    fn figures_of_the_body_come_before_those_of_the_text() {
        let fields = Fields { prompt: Some(5000), window: Some(4096) };
        assert_eq!(
            wording("the request exceeds the available context size", fields),
            "prompt is too long: 5000 tokens > 4096 maximum"
        );
        assert_eq!(
            of(
                "This model's maximum context length is 8192 tokens. However, you requested 12000 tokens (9000 in the \
                messages, 3000 in the completion)."
            ),
            "prompt is too long: 9000 tokens > 8192 maximum"
        );
    }
}
