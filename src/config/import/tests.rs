#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::from_ccr;
use crate::config::*;

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    let read = |_: &Path| -> io::Result<FileText> { Err(io::ErrorKind::NotFound.into()) };
    let environment = Environment { variables: BTreeMap::new(), read: &read };
    load(&Source::Text(text.into(), "/".into()), &environment, &Overrides::default())
}

const FILE: &str = r#"{
  // a usual set-up
  "APIKEY": "a-secret-of-mine",
  "HOST": "0.0.0.0",
  "PORT": 3456,
  "PROXY_URL": "http://127.0.0.1:7890",
  "LOG": false,
  "LOG_LEVEL": "debug",
  "API_TIMEOUT_MS": 600000,
  "Providers": [
    {
      "name": "openrouter",
      "api_base_url": "https://openrouter.ai/api/v1/chat/completions",
      "api_key": "sk-or-v1-CANARY0123456789abcdef0123456789",
      "models": ["google/gemini-2.5-pro-preview", "anthropic/claude-sonnet-4"],
      "transformer": { "use": ["openrouter"] }
    },
    {
      "name": "deepseek",
      "api_base_url": "https://api.deepseek.com/chat/completions",
      "api_key": "$DEEPSEEK_KEY",
      "models": ["deepseek-chat", "deepseek-reasoner"],
      "transformer": { "use": ["deepseek", ["maxtoken", { "max_tokens": 8192 }]],
                       "deepseek-chat": { "use": ["tooluse"] } }
    },
    {
      "name": "ollama",
      "api_base_url": "http://localhost:11434/v1/chat/completions",
      "api_key": "ollama",
      "models": ["qwen2.5-coder:latest"]
    },
    {
      "name": "gemini",
      "api_base_url": "https://generativelanguage.googleapis.com/v1beta/models/",
      "api_key": "${GOOGLE_KEY}",
      "models": ["gemini-2.5-flash", "gemini-2.5-pro"],
      "transformer": { "use": ["gemini"] }
    },
    {
      "name": "my host",
      "api_base_url": "https://llm.example.com/v1/messages",
      "api_key": "CANARY-key",
      "models": ["claude-x"],
      "transformer": { "use": ["Anthropic", "vertex-own"] }
    },
  ],
  "Router": {
    "default": "deepseek,deepseek-chat",
    "background": "ollama,qwen2.5-coder:latest",
    "think": "deepseek,deepseek-reasoner",
    "longContext": "openrouter,google/gemini-2.5-pro-preview",
    "longContextThreshold": 100000,
    "webSearch": "nobody,x",
    "image": "gemini,gemini-2.5-flash"
  },
  "CUSTOM_ROUTER_PATH": "/home/me/router.js"
}"#;

#[test]
fn a_usual_file_comes_over_and_loads() {
    let imported = from_ccr(FILE).unwrap();
    let loaded = load_text(&imported.toml).unwrap_or_else(|error| panic!("{error}\n{}", imported.toml));
    let config = &loaded.config;

    assert_eq!(config.server.port, 3456);
    assert_eq!(config.server.host.to_string(), "0.0.0.0");
    assert!(config.server.token_file.is_some());
    assert_eq!((config.logging.level.as_str(), config.logging.requests), ("debug", false));

    let of = |id: &str| &config.providers[id];
    let address = |id: &str| of(id).base_url.as_deref().unwrap();
    assert_eq!(
        (of("openrouter").kind, address("openrouter")),
        (ProviderKind::Openrouter, "https://openrouter.ai/api/v1")
    );
    assert_eq!(of("openrouter").api_key_env.as_deref(), Some("OPENROUTER_API_KEY"));
    assert_eq!(of("deepseek").variant.as_deref(), Some("deepseek"));
    assert_eq!(of("deepseek").api_key_env.as_deref(), Some("DEEPSEEK_KEY"));
    assert_eq!(of("deepseek").capabilities.max_output_tokens, Some(8192));
    assert_eq!((of("ollama").kind, address("ollama")), (ProviderKind::Local, "http://localhost:11434/v1"));
    assert_eq!(
        (of("gemini").kind, address("gemini")),
        (ProviderKind::Gemini, "https://generativelanguage.googleapis.com")
    );
    assert_eq!(of("gemini").api_key_env.as_deref(), Some("GOOGLE_KEY"));
    assert_eq!(
        (of("my-host").kind, address("my-host")),
        (ProviderKind::Anthropic, "https://llm.example.com")
    );

    let rules: Vec<(&str, &[String])> = config
        .routing
        .rules
        .iter()
        .map(|rule| (rule.name.as_deref().unwrap_or_default(), rule.targets.as_slice()))
        .collect();
    assert_eq!(
        rules,
        [
            ("images", ["gemini/gemini-2.5-flash".to_owned()].as_slice()),
            ("long context", &["openrouter/google/gemini-2.5-pro-preview".to_owned()]),
            ("background", &["ollama/qwen2.5-coder:latest".to_owned()]),
            ("thinking", &["deepseek/deepseek-reasoner".to_owned()]),
            ("default", &["deepseek/deepseek-chat".to_owned()]),
        ]
    );
    assert_eq!(config.routing.rules[1].above_tokens, Some(100_000));
    assert_eq!(config.routing.default_provider, Some("deepseek".into()));
}

#[test]
fn keys_stay_where_they_were_and_the_rest_is_listed() {
    let imported = from_ccr(FILE).unwrap();
    let all = format!("{} {:?}", imported.toml, imported.notes);
    assert!(!all.contains("CANARY") && !all.contains("a-secret-of-mine"), "{all}");
    for said in [
        "OPENROUTER_API_KEY",
        "APIKEY",
        "HTTPS_PROXY",
        "CUSTOM_ROUTER_PATH",
        "vertex-own",
        "nobody,x",
        "single models",
        "my-host",
    ] {
        assert!(imported.notes.iter().any(|note| note.contains(said)), "{said}: {:#?}", imported.notes);
    }
}

#[test]
fn what_is_no_such_file_is_refused_with_its_line() {
    assert!(from_ccr("{\n \"Providers\": [\n oops ] }").unwrap_err().to_string().contains("line 3"));
    assert!(from_ccr("[]").unwrap_err().to_string().contains("no JSON object"));
    assert!(from_ccr("{}").unwrap_err().to_string().contains("Providers"));
    assert!(from_ccr(&"[".repeat(200_000)).is_err());
}

fn any_json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
    use proptest::prelude::*;
    let text = prop_oneof![
        Just("https://x.example/v1".to_owned()),
        Just("p".to_owned()),
        Just("p,m".to_owned()),
        "[ -~é\n\"\u{7f}]{0,12}".prop_map(String::from),
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        text.prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = proptest::sample::select(vec![
            "name",
            "api_base_url",
            "api_key",
            "models",
            "transformer",
            "use",
            "default",
            "think",
            "longContextThreshold",
            "PORT",
            "HOST",
            "APIKEY",
            "API_TIMEOUT_MS",
            "other",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::vec((key, inner), 0..8).prop_map(|entries| {
                serde_json::Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn whatever_comes_over_loads(
        name in "[ -~é]{1,10}",
        url in proptest::sample::select(vec!["https://x.example/v1", "http://127.0.0.1:1", "http://far.example", "x",
            "https://openrouter.ai/api/v1/chat/completions"]),
        model in "[ -~é\u{7f}]{0,10}",
        key in "[ -~]{0,30}",
        rest in any_json(),
        providers in any_json(),
    ) {
        let mut root = serde_json::json!({
            "Providers": [{ "name": name, "api_base_url": url, "models": [model, model], "api_key": key }, providers],
            "Router": { "default": format!("{name},{model}"), "think": rest },
        });
        if let (Some(root), Some(rest)) = (root.as_object_mut(), rest.as_object()) {
            for (key, value) in rest {
                root.insert(key.clone(), value.clone());
            }
        }
        let imported = from_ccr(&root.to_string()).unwrap();
        if let Err(error) = load_text(&imported.toml) {
            panic!("{error}\n{}", imported.toml);
        }
    }
}
