//! How servers say that a conversation is too long for a model, and how it is said to a caller: Claude Code
//! compacts the conversation when it finds Anthropic's wording, and gives up on any other.
//!
//! Sources: error texts of Anthropic, OpenAI, vLLM, llama.cpp, LM Studio as their users quote them; Claude Code
//! documentation, "LLM gateway configuration".

use serde_json::Value;

/// What the servers' texts and codes have in common, in lower case.
const SIGNS: [&str; 15] = [
    "context_length_exceeded",
    "exceed_context_size_error",
    "maximum context length is",
    "exceeds the model's maximum context length",
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
    "capability_rejected: prompt_too_long",
];

/// Whether a text (a message, a code, or a whole error body) says that the input is too long for the model.
pub fn is_overflow(text: &str) -> bool {
    let text = text.to_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// The message in Anthropic's wording, from that of any server and its body: with the numbers where they are
/// given. Anthropic's own messages stay as they are.
pub fn wording(message: &str, body: &[u8]) -> String {
    let lower = message.to_lowercase();
    if lower.contains("prompt is too long") || lower.contains("exceed context limit") {
        return message.to_owned();
    }
    let Some(found) = numbers(&lower, body) else { return format!("prompt is too long: {message}") };
    match found {
        // Only the wish for output is too large: the caller tries again with less.
        Numbers { input, output: Some(output), limit } if input < limit => format!(
            "input length and `max_tokens` exceed context limit: {input} + {output} > {limit}, decrease input \
             length or `max_tokens` and try again"
        ),
        Numbers { input, limit, .. } if input > limit => {
            format!("prompt is too long: {input} tokens > {limit} maximum")
        }
        _ => format!("prompt is too long: {message}"),
    }
}

#[derive(Clone, Copy, Debug)]
struct Numbers {
    input: u64,
    output: Option<u64>,
    limit: u64,
}

fn numbers(message: &str, body: &[u8]) -> Option<Numbers> {
    // llama.cpp gives fields.
    if let Ok(body) = serde_json::from_slice::<Value>(body) {
        let error = body.get("error").unwrap_or(&body);
        let field = |name: &str| error.get(name).and_then(Value::as_u64);
        if let (Some(input), Some(limit)) = (field("n_prompt_tokens"), field("n_ctx")) {
            return Some(Numbers { input, output: None, limit });
        }
    }
    // OpenAI, vLLM and all that took over their text.
    let limit = ["maximum context length is ", "maximum context length of ", "context window of "]
        .iter()
        .find_map(|phrase| number_after(message, phrase))?;
    let before = |phrases: &[&str]| phrases.iter().find_map(|phrase| number_before(message, phrase));
    let input = before(&[
        " tokens from the input messages",
        " in the messages",
        " input tokens",
        " tokens in your prompt",
        " in your prompt",
    ]);
    let output = before(&[
        " tokens for the completion",
        " in the completion",
        " for the completion",
        " output tokens",
    ]);
    let total = ["resulted in ", "you requested ", "requested a total of "]
        .iter()
        .find_map(|phrase| number_after(message, phrase));
    Some(Numbers { input: input.or(total)?, output: input.and(output), limit })
}

fn number_after(text: &str, phrase: &str) -> Option<u64> {
    let (_, after) = text.split_once(phrase)?;
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after.get(..end)?.parse().ok()
}

fn number_before(text: &str, phrase: &str) -> Option<u64> {
    let (before, _) = text.split_once(phrase)?;
    let start = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    before.get(start..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn anthropics_own_wording_stays_as_it_is() {
        for text in [
            "prompt is too long: 213462 tokens > 200000 maximum",
            "input length and `max_tokens` exceed context limit: 196778 + 21333 > 200000, decrease input length or `max_tokens` and try again",
        ] {
            assert!(is_overflow(text));
            assert_eq!(wording(text, b""), text);
        }
    }

    #[test]
    fn the_numbers_of_other_servers_are_carried_over() {
        let llama = br#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}"#;
        assert_eq!(
            wording("the request exceeds the available context size", llama),
            "prompt is too long: 5000 tokens > 4096 maximum"
        );
        assert_eq!(
            wording(
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 10000 tokens.",
                b""
            ),
            "prompt is too long: 10000 tokens > 8192 maximum"
        );
        assert_eq!(
            wording(
                "This model's maximum context length is 8192 tokens. However, you requested 12000 tokens (9000 in the messages, 3000 in the completion).",
                b""
            ),
            "prompt is too long: 9000 tokens > 8192 maximum"
        );
    }

    #[test]
    fn a_wish_for_too_much_output_is_told_apart() {
        let vllm = "Requested token count exceeds the model's maximum context length of 262144 tokens. You requested a total of 262462 tokens: 230462 tokens from the input messages and 32000 tokens for the completion.";
        assert!(is_overflow(vllm));
        assert_eq!(
            wording(vllm, b""),
            "input length and `max_tokens` exceed context limit: 230462 + 32000 > 262144, decrease input length or `max_tokens` and try again"
        );
    }

    #[test]
    fn a_text_without_numbers_keeps_its_words_behind_the_wording() {
        assert_eq!(wording("Input is too long", b"x"), "prompt is too long: Input is too long");
        assert!(!is_overflow("max_tokens: Field required"));
    }
}
