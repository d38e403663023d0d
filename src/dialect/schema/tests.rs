#![allow(clippy::unwrap_used)]

use super::*;

fn cleaned(schema: &str, target: Target) -> String {
    let raw: Raw<'_> = serde_json::from_str(schema).unwrap();
    let text = clean(Some(raw), target).into_owned();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    text
}

#[test]
fn a_schema_without_oddities_keeps_its_bytes() {
    let schema = r#"{ "type":"object", "properties":{"a":{"type":"string"}} }"#;
    let raw: Raw<'_> = serde_json::from_str(schema).unwrap();
    assert!(matches!(clean(Some(raw), Target::Plain), Cow::Borrowed(text) if text == raw.get()));
}

#[test]
fn keywords_go_but_properties_of_the_same_name_stay() {
    let schema = r#"{"$schema":"x","type":"object","properties":{"$id":{"$comment":"c","type":"string"},
        "cache_control":{"type":"string"}}}"#;
    let text = cleaned(schema, Target::Plain);
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    let wanted = serde_json::json!({"type":"object","properties":{"$id":{"type":"string"},
        "cache_control":{"type":"string"}}});
    assert_eq!(read, wanted);
}

#[test]
fn the_root_is_always_an_object() {
    for schema in ["true", "[]", "7"] {
        assert_eq!(cleaned(schema, Target::Plain), EMPTY);
    }
    assert_eq!(cleaned("{}", Target::Plain), EMPTY);
    assert_eq!(clean(None, Target::Gemini), EMPTY);
    assert_eq!(cleaned(r#"{"type":"string"}"#, Target::Plain), EMPTY);
}

#[test]
fn gemini_gets_references_written_out_and_its_own_words() {
    let schema = r##"{"$defs":{"p":{"type":["string","null"],"format":"uri","default":"x"},
            "loop":{"type":"object","properties":{"next":{"$ref":"#/$defs/loop"}}}},
        "type":"object","additionalProperties":false,
        "properties":{"a":{"$ref":"#/$defs/p"},"b":{"const":3},"c":{"oneOf":[{"type":"null"},{"type":"integer"}]},
            "default":{"type":"string","format":"date-time"}},"required":["a"]}"##;
    let read: serde_json::Value = serde_json::from_str(&cleaned(schema, Target::Gemini)).unwrap();
    let wanted = serde_json::json!({"type":"object","properties":{
        "a":{"type":"string","nullable":true},"b":{"enum":["3"]},
        "c":{"anyOf":[{"type":"integer"}],"nullable":true},
        "default":{"type":"string","format":"date-time"}},"required":["a"]});
    assert_eq!(read, wanted);
    let looping = schema.replace("#/$defs/p", "#/$defs/loop");
    assert!(cleaned(&looping, Target::Gemini).len() < 4096, "a loop ends");
}

#[test]
fn a_schema_that_explodes_becomes_a_free_object() {
    let bomb: String = (0..40)
        .map(|n| format!(r##""d{n}":{{"type":"object","properties":{{"a":{{"$ref":"#/$defs/d{m}"}},"b":{{"$ref":"#/$defs/d{m}"}}}}}},"##, m = n + 1))
        .collect();
    let schema = format!(
        r##"{{"$defs":{{{bomb}"z":{{}}}},"type":"object","properties":{{"x":{{"$ref":"#/$defs/d0"}}}}}}"##
    );
    assert_eq!(cleaned(&schema, Target::Gemini), EMPTY);
}

#[test]
fn strict_needs_closed_objects_that_require_everything() {
    let strict = |schema: &str| is_strict(serde_json::from_str(schema).unwrap());
    let closed = r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#;
    assert!(strict(closed));
    assert!(!strict(&closed.replace(r#""required":["a"],"#, "")));
    assert!(!strict(&closed.replace(r#","additionalProperties":false"#, "")));
    let nested = r#"{"type":"object","properties":{"a":{"type":"object","properties":{}}},"required":["a"],"additionalProperties":false}"#;
    assert!(!strict(nested));
}
