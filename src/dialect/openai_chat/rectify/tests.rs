#![allow(clippy::unwrap_used)]

use http::HeaderMap;

use super::*;
use crate::dialect::openai_chat::{Target, Translation, error, from_messages};
use crate::dialect::table::by_name;

fn learned(status: u16, body: &str) -> Option<Rectify> {
    let variant = by_name("openai").unwrap();
    let request = br#"{"model":"m","max_tokens":64000,"messages":[{"role":"user","content":"x"}]}"#;
    let Translation::Send(translated) = from_messages(request, &Target::new("m", variant)).unwrap() else {
        panic!()
    };
    let fault = error::read(status, &HeaderMap::new(), body.as_bytes(), variant);
    let change = rectify(&fault, &translated, &[]);
    assert!(
        change.is_none_or(|change| rectify(&fault, &translated, &[change]).is_none()),
        "never the same twice"
    );
    change
}

fn message(text: &str) -> String {
    serde_json::json!({"error": {"message": text}}).to_string()
}

#[test]
fn a_refused_parameter_is_changed_or_left_out() {
    let of = |text: &str| learned(400, &message(text));
    let drop = |param| Some(Rectify::DropParam(param));
    assert_eq!(
        of(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        ),
        Some(Rectify::UseMaxField(MaxField::MaxCompletionTokens))
    );
    assert_eq!(
        of("Unrecognized request argument supplied: max_completion_tokens"),
        Some(Rectify::UseMaxField(MaxField::MaxTokens))
    );
    assert_eq!(
        of("Unsupported value: 'temperature' does not support 0.5 with this model."),
        drop(Param::Temperature)
    );
    assert_eq!(of("Unrecognized request argument supplied: reasoning_effort"), drop(Param::Reasoning));
    assert_eq!(of("Thinking mode does not support this tool_choice"), drop(Param::ToolChoice));
    assert_eq!(of("Unsupported parameter: 'stop' is not supported with this model."), drop(Param::Stop));
    assert_eq!(of("\"qwen\" does not support thinking"), None, "a word is no parameter");
    assert_eq!(of("messages must not be empty"), None);
    assert_eq!(
        of("Failed to deserialize: unknown variant `image_url`, expected `text`"),
        Some(Rectify::DropImages)
    );
    assert_eq!(of("System message must be at the beginning."), Some(Rectify::SystemAsUserText));
    assert_eq!(
        of("This model does not support effort level 'xhigh'. Supported levels: high, low, medium."),
        Some(Rectify::EffortAtMost(Effort::High))
    );
    let google = "Invalid JSON payload received. Unknown name \"additionalProperties\" at 'tools[0].function_declarations[0].parameters': Cannot find field.";
    assert_eq!(of(google), Some(Rectify::StripSchemas));
    let long = r#"{"error":{"message":"Invalid 'tools[0].function.description': string too long.","code":"string_above_max_length","param":"tools[0].function.description"}}"#;
    assert_eq!(learned(400, long), Some(Rectify::CutDescriptions));
}

#[test]
fn too_large_an_output_is_asked_for_again_smaller() {
    assert_eq!(
        learned(
            400,
            &message("max_tokens is too large: 64000. This model supports at most 16384 completion tokens")
        ),
        Some(Rectify::MaxTokens(16_384))
    );
    let vllm = "maximum context length of 100000 tokens. You requested a total of 110000 tokens: 60000 tokens from the input messages and 50000 tokens for the completion.";
    assert_eq!(learned(400, &message(vllm)), Some(Rectify::MaxTokens(40_000)));
    assert_eq!(
        learned(402, &message("You requested up to 64000 tokens, but can only afford 27342.")),
        Some(Rectify::MaxTokens(27_342))
    );
    assert_eq!(learned(402, &message("can only afford 12")), None);
    assert_eq!(
        learned(
            400,
            &message(
                "This model's maximum context length is 10 tokens. However, your messages resulted in 12 tokens."
            )
        ),
        None
    );
}

#[test]
fn anthropic_is_asked_again_without_strict_once() {
    let refused = |message: &str| Fault { status: Some(400), ..Fault::new(FaultKind::Caller, message) };
    for message in [
        "tools.0.custom.strict: Extra inputs are not permitted",
        "tools.3.custom: For 'object' type, 'additionalProperties' must be explicitly set to false",
        "Schema is too complex for compilation.",
    ] {
        assert_eq!(rectify_composed(&refused(message), &[]), Some(Rectify::NotStrict), "{message}");
        assert_eq!(rectify_composed(&refused(message), &[Rectify::NotStrict]), None, "not twice");
    }
    assert_eq!(rectify_composed(&refused("messages: at least one message is required"), &[]), None);
}

#[test]
fn what_no_change_mends_is_left_alone() {
    for status in [401, 404, 429, 500, 503] {
        assert_eq!(learned(status, &message("Unsupported parameter: 'temperature'")), None, "{status}");
    }
}

#[test]
fn reasoning_that_must_go_back_and_images_that_are_not_fetched_are_learned() {
    assert_eq!(
        learned(
            400,
            &message("The `reasoning_content` in the thinking mode must be passed back to the API.")
        ),
        Some(Rectify::ReplayReasoning)
    );
    assert_eq!(learned(500, &message("cannot make GET request: 0")), Some(Rectify::DropImageUrls));
}

#[test]
fn what_hosts_of_many_models_refuse_is_left_out() {
    for (text, param) in [
        ("Model grok-4 does not support parameter reasoningEffort.", Param::Reasoning),
        ("tool_choice 'specified' is incompatible with thinking enabled", Param::ToolChoice),
        ("invalid temperature: only 1 is allowed for this model", Param::Temperature),
        ("Extra inputs are not permitted, field: 'stream_options'", Param::StreamOptions),
        ("property 'reasoning_effort' is unsupported", Param::Reasoning),
    ] {
        assert_eq!(learned(400, &message(text)), Some(Rectify::DropParam(param)), "{text}");
    }
}
