#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::io;

use super::*;
use crate::config::*;

/// A world of its own: variables and files with their modes.
#[derive(Default)]
struct World {
    variables: Vec<(&'static str, &'static str)>,
    files: HashMap<PathBuf, (String, u32)>,
}

impl World {
    fn variable(mut self, name: &'static str, value: &'static str) -> World {
        self.variables.push((name, value));
        self
    }

    fn file(mut self, path: &str, text: &str, mode: u32) -> World {
        self.files.insert(path.into(), (text.into(), mode));
        self
    }

    fn load_from(&self, source: &Source, overrides: Overrides) -> Result<Loaded, ConfigError> {
        let variables = self.variables.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let files = self.files.clone();
        let read = move |path: &Path| match files.get(path) {
            Some((text, mode)) => Ok(FileText { bytes: text.clone().into_bytes(), mode: Some(*mode) }),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        load(source, &Environment { variables, read: &read }, &overrides)
    }

    fn load(&self, text: &str) -> Result<Loaded, ConfigError> {
        self.load_from(&Source::Text(text.into(), "/etc/cproxy".into()), Overrides::default())
    }
}

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    World::default().load(text)
}

fn problems(text: &str) -> Vec<String> {
    load_text(text).unwrap_err().problems.iter().map(Problem::headline).collect()
}

// === the file ===

#[test]
fn the_file_of_the_repository_loads_without_a_warning() {
    let loaded = load_text(BUILT_IN).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let names: Vec<&str> = loaded.config.providers.keys().map(ProviderId::as_str).collect();
    assert_eq!(names, ["anthropic", "local", "openai", "openrouter"]);
    assert!(loaded.config.providers["local"].disabled);
    for id in ["anthropic", "openai", "openrouter"] {
        assert!(
            matches!(&loaded.keys[id], Keys::Missing(why) if why.contains("_API_KEY is not set")),
            "{id}"
        );
    }
}

#[test]
fn what_the_file_of_the_repository_shows_are_the_defaults() {
    let loaded = load_text(BUILT_IN).unwrap();
    let mut config = loaded.config;
    config.providers.clear();
    config.routing.default_provider = None;
    config.routing.fallback_provider = None;
    assert_eq!(config, Config::default());
}

#[test]
fn the_commented_examples_of_the_repositorys_file_are_right_too() {
    let wanted = [
        "max_requests",
        "limits = ",
        "headers = ",
        "capabilities = ",
        "variant = ",
        "score = ",
        "\"fast\"",
        "\"claude-",
        "[[routing.rules]]",
        "name = ",
        "above_tokens",
        "targets =",
        "role = ",
        "api = ",
        "token_file",
        "default_model",
        "weight",
        "file = ",
        "plan = ",
    ];
    let text: String = BUILT_IN
        .lines()
        .map(|line| {
            let bare = line.trim_start().strip_prefix("# ").unwrap_or(line);
            if wanted.iter().any(|start| bare.starts_with(start)) {
                format!("{bare}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    let loaded = load_text(&text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.config.routing.rules.len(), 2);
    assert_eq!(loaded.config.models.len(), 4);
    assert_eq!(loaded.config.models[3].targets, loaded.config.models[2].targets);
}

#[test]
fn an_absent_file_is_an_error_only_where_one_was_named() {
    let world = World::default();
    let default = world.load_from(&Source::Default("/home/me/c.toml".into()), Overrides::default()).unwrap();
    assert_eq!(default.source, "built-in defaults");
    let watched = ["/home/me/c.toml", "/home/me/cproxy.env"].map(PathBuf::from);
    assert_eq!(default.files_to_watch, watched);
    let named = world.load_from(&Source::File("/home/me/c.toml".into()), Overrides::default()).unwrap_err();
    assert!(named.to_string().starts_with("/home/me/c.toml: the file can't be read"), "{named}");
}

#[test]
fn an_empty_file_is_a_config() {
    assert_eq!(load_text("").unwrap().config, Config::default());
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_what_was_meant() {
    let error =
        load_text("[server]\nport = 1\n[providers.openrouter]\nkind = \"openrouter\"\nkinda = \"x\"\n")
            .unwrap_err();
    assert_eq!(
        error.to_string(),
        "config:5: providers.openrouter.kinda: unknown key; did you mean \"kind\"?\n     5 | kinda = •••"
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
    let found = problems(
        r#"
[server]
port = "three"
max_requests = true
host = "home"

[providers.a]
kind = "opnrouter"
timeouts = { totl = "3s", idle = 5 }

[providers.b]
kind = "local"
base_url = "ftp://x"
limits = { max_concurrent = 0 }

[providers.c]

[routing]
default_provider = "bb"
retry_delay = "5 parsecs"

[serverr]
"#,
    );
    let expected = [
        "config:3: server.port: wrong type: found string \"three\", expected a whole number from 0 to 65535",
        "config:4: server.max_requests: wrong type: found boolean `true`, expected a whole number",
        "config:5: server.host: invalid IP address syntax",
        "config:8: providers.a.kind: unknown variant `opnrouter`, expected one of `anthropic`, `openai`, `openrouter`, `local`, `gemini`; did you mean \"openrouter\"?",
        "config:9: providers.a.timeouts.totl: unknown key; did you mean \"total\"?",
        "config:9: providers.a.timeouts.idle: wrong type: found integer `5`, expected a duration",
        "config:13: providers.b.base_url: the scheme is \"ftp\"",
        "config:14: providers.b.limits.max_concurrent: 0 would admit nothing",
        "config:16: providers.c: misses the key `kind`",
        "config:20: routing.retry_delay: wrong value",
        "config:22: serverr: unknown key; did you mean \"server\"?",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn broken_syntax_is_told_with_its_line() {
    let error = load_text("[server]\nport = = 3\n").unwrap_err();
    assert!(error.to_string().starts_with("config:2: not valid TOML"), "{error}");
    let error = load_text("[server]\n[server]\n").unwrap_err();
    assert!(error.to_string().contains(":2:"), "{error}");
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_line() {
    let read = |_: &Path| Ok(FileText { bytes: b"[server]\nport = \xff".to_vec(), mode: None });
    let environment = Environment { variables: BTreeMap::new(), read: &read };
    let error = load(&Source::File("c.toml".into()), &environment, &Overrides::default()).unwrap_err();
    assert_eq!(error.to_string(), "c.toml:2: not UTF-8; save the file in UTF-8");
}

#[test]
fn depth_and_size_are_bounded() {
    for deep in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        format!("[providers.x]\nkind=\"openai\"\nheaders.{}a = 1", "a.".repeat(10_000)),
        format!("[models]\nx = {}1{}", "[".repeat(60), "]".repeat(60)),
    ] {
        load_text(&deep).unwrap_err();
    }
    let world = World::default().file("/big", &"#".repeat(MAX_FILE as usize + 1), 0o644);
    world.load_from(&Source::File("/big".into()), Overrides::default()).unwrap_err();
    let many: String = (0..10_000).map(|n| format!("x{n} = 1\n")).collect();
    assert_eq!(load_text(&many).unwrap_err().problems.len(), crate::config::error::MAX_PROBLEMS);
}

// === layers ===

#[test]
fn later_layers_win() {
    let world = World::default()
        .variable("PORT", "3001")
        .variable("CPROXY_LOGGING_LEVEL", "trace")
        .variable("CPROXY_ROUTING_STRATEGY", "latency")
        .variable("CPROXY_ROUTING_RETRY_ATTEMPTS", "5")
        .variable("CPROXY_CACHE_ENABLED", "true")
        .variable("CPROXY_CACHE_MAX_SIZE", "1GiB")
        .variable("CPROXY_LEDGER_FILE", "/x/ledger.db")
        .variable("DEBUG", "1");
    let text = "[server]\nport = 3002\n[logging]\nlevel = \"warn\"\n";
    let config = world.load(text).unwrap().config;
    assert_eq!(config.server.port, 3001);
    assert_eq!(config.logging.level, "trace", "CPROXY_LOGGING_LEVEL wins over DEBUG");
    assert_eq!(config.routing.strategy, Strategy::Latency);
    assert_eq!(config.routing.retry_attempts, 5);
    assert!(config.cache.enabled);
    assert_eq!(config.cache.max_size, ByteSize(1 << 30));
    assert_eq!(config.ledger.file.as_deref(), Some(Path::new("/x/ledger.db")));

    let world = world.variable("CPROXY_SERVER_PORT", "3003");
    assert_eq!(world.load(text).unwrap().config.server.port, 3003);
    let overrides = Overrides { port: Some(3004), host: None };
    let source = Source::Text(text.into(), "/".into());
    assert_eq!(world.load_from(&source, overrides).unwrap().config.server.port, 3004);
}

#[test]
fn every_plain_value_has_a_variable() {
    for (name, value) in [
        ("CPROXY_SERVER_HOST", "::1"),
        ("CPROXY_SERVER_TOKEN_FILE", "~/t"),
        ("CPROXY_SERVER_MAX_REQUESTS", "7"),
        ("CPROXY_SERVER_DRAIN", "5s"),
        ("CPROXY_ROUTING_FALLBACK_PROVIDER", "openai"),
        ("CPROXY_ROUTING_RETRY_AMBIGUOUS", "false"),
        ("CPROXY_ROUTING_DEADLINE", "5m"),
        ("CPROXY_LOGGING_FORMAT", "json"),
        ("CPROXY_MCP_DEFAULT_MODEL", "x/y"),
        ("CPROXY_FAULTS_SEED", "42"),
        ("CPROXY_LEDGER_ENABLED", "false"),
    ] {
        let loaded = World::default().variable(name, value).load(BUILT_IN).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{name}");
        assert_ne!(loaded.config, load_text(BUILT_IN).unwrap().config, "{name}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let world = World::default().variable("PORT", "http").variable("CPROXY_CACHE_ENABLED", "si");
    let error = world.load("").unwrap_err().to_string();
    assert!(error.contains("PORT: server.port: wrong type"), "{error}");
    assert!(error.contains("CPROXY_CACHE_ENABLED: cache.enabled: wrong type"), "{error}");
    let error = World::default().variable("CPROXY_ROUTING_DEFAULT_PROVIDER", "nobody").load("").unwrap_err();
    assert!(
        error.to_string().starts_with("CPROXY_ROUTING_DEFAULT_PROVIDER: routing.default_provider"),
        "{error}"
    );
    let loaded = World::default().variable("CPROXY_SERVER_PROT", "1").load("").unwrap();
    assert!(loaded.warnings[0].contains("did you mean CPROXY_SERVER_PORT?"), "{:?}", loaded.warnings);
}

#[test]
fn the_variables_of_1x_give_what_they_gave() {
    let loaded = World::default()
        .variable("ANTHROPIC_PROXY_BASE_URL", "http://127.0.0.1:8080/api/")
        .variable("REASONING_MODEL", "deepseek/deepseek-r1")
        .variable("COMPLETION_MODEL", "qwen3")
        .variable("MCP_MODE", "true")
        .variable("DEBUG", "true")
        .load("")
        .unwrap();
    let config = loaded.config;
    let upstream = &config.providers["upstream"];
    assert_eq!(upstream.base_url.as_deref(), Some("http://127.0.0.1:8080/api/v1"));
    assert_eq!(loaded.keys["upstream"], Keys::NotNeeded);
    assert_eq!(config.routing.default_provider, Some("upstream".into()));
    let [thinking, others] = config.routing.rules.as_slice() else { panic!("{:?}", config.routing.rules) };
    assert_eq!(
        (thinking.role, thinking.targets.as_slice()),
        (Some(Role::Thinking), ["upstream/deepseek/deepseek-r1".to_owned()].as_slice())
    );
    assert_eq!((others.role, others.targets.as_slice()), (None, ["upstream/qwen3".to_owned()].as_slice()));
    assert!(loaded.mcp_mode);
    assert_eq!(config.logging.level, "debug");

    let loaded = World::default()
        .variable("OPENROUTER_API_KEY", "sk-or-v1-0123456789")
        .variable("COMPLETION_MODEL", "google/gemini-3-flash")
        .load("")
        .unwrap();
    assert_eq!(loaded.keys["openrouter"].pool().len(), 1);
    assert_eq!(loaded.config.routing.rules[0].targets, ["openrouter/google/gemini-3-flash"]);
}

#[test]
fn a_key_in_the_environment_makes_no_provider_beside_those_of_the_file() {
    let loaded = World::default()
        .variable("OPENROUTER_API_KEY", "sk-or-v1-0123456789")
        .load("[providers.local]\nkind = \"local\"\nbase_url = \"http://localhost:1\"\n")
        .unwrap();
    assert_eq!(loaded.config.providers.len(), 1);
}

#[test]
fn a_strangers_project_does_not_configure_the_daemon() {
    let variables = BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
    let find = |dir: &str, binary: &str| {
        Source::find(None, &variables, Some(Path::new(dir)), Some(Path::new(binary)))
    };
    let mine = Source::Default("/home/me/.config/cproxy/config.toml".into());
    assert_eq!(find("/src/stranger", "/home/me/.cargo/bin/cproxy"), mine);
    assert_eq!(find("/home/me", "/home/me/.cargo/bin/cproxy"), mine);
    let checkout = Source::Default("/src/cproxy/config.toml".into());
    assert_eq!(find("/src/cproxy", "/src/cproxy/target/release/cproxy"), checkout);
    let mut by_cargo = variables.clone();
    by_cargo.insert("CARGO_PKG_NAME".into(), "cproxy".into());
    by_cargo.insert("CARGO_MANIFEST_DIR".into(), "/src/cproxy".into());
    assert_eq!(Source::find(None, &by_cargo, Some(Path::new("/src/cproxy")), None), checkout);
}

// === keys ===

const POOL: &str = r#"
[providers.a]
kind = "openai"
api_key_env = "A"
api_keys_env = ["B", "C"]
api_key_file = "~/a.key"
api_key_files = ["b.key"]
"#;

#[test]
fn keys_come_from_variables_and_files_into_one_pool() {
    let loaded = World::default()
        .variable("HOME", "/home/me")
        .variable("A", " key-a\n")
        .variable("C", "key-c")
        .file("/home/me/a.key", "key-f\n", 0o600)
        .file("/etc/cproxy/b.key", "key-a\n", 0o400)
        .load(POOL)
        .unwrap();
    let pool: Vec<&str> = loaded.keys["a"].pool().iter().map(|key| key.expose()).collect();
    assert_eq!(pool, ["key-a", "key-c", "key-f"]);
    let watched = ["/etc/cproxy/b.key", "/etc/cproxy/cproxy.env", "/home/me/a.key"].map(PathBuf::from);
    assert_eq!(loaded.files_to_watch, watched);
    assert_eq!(loaded.warnings.len(), 2, "B is missing, b.key is a double: {:?}", loaded.warnings);
}

#[test]
fn a_provider_without_its_keys_says_what_was_looked_for() {
    let loaded = World::default().variable("HOME", "/home/me").load(POOL).unwrap();
    let Keys::Missing(why) = &loaded.keys["a"] else { panic!("{:?}", loaded.keys) };
    for looked in ["A is not set", "B is not set", "/home/me/a.key is not there", "/etc/cproxy/b.key"] {
        assert!(why.contains(looked), "{why}");
    }
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    for mode in [0o640, 0o604, 0o660, 0o644, 0o610] {
        let world = World::default().file("/k", "secret-key-material", mode);
        let error = world.load("[providers.a]\nkind = \"openai\"\napi_key_file = \"/k\"\n").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("config:3: providers.a.api_key_file") && text.contains("chmod 600 /k"),
            "{text}"
        );
        assert!(!text.contains("secret-key-material"));
    }
}

#[test]
fn the_vendors_variable_is_read_for_the_vendors_address_alone() {
    let world = World::default().variable("OPENAI_API_KEY", "key-of-openai");
    let loaded = world.load("[providers.a]\nkind = \"openai\"\n").unwrap();
    assert_eq!(loaded.keys["a"].pool().len(), 1);
    let loaded =
        world.load("[providers.a]\nkind = \"openai\"\nbase_url = \"https://other.example\"\n").unwrap();
    assert!(matches!(&loaded.keys["a"], Keys::Missing(why) if why.contains("names no key")));
}

#[test]
fn local_servers_and_callers_credentials_need_no_key() {
    let loaded = load_text(
        "[providers.l]\nkind = \"local\"\nbase_url = \"http://localhost:1\"\n[providers.c]\nkind = \"anthropic\"\nauth = \"caller\"\n",
    )
    .unwrap();
    assert!(loaded.keys.values().all(|keys| *keys == Keys::NotNeeded));
}

const CANARY: &str = "sk-ant-api03-CANARYcanary0123456789abcdef";

#[test]
fn a_key_that_was_written_into_the_config_is_never_shown() {
    for text in [
        format!("[providers.a]\nkind = \"openai\"\napi_key = \"{CANARY}\"\n"),
        format!("[providers.a]\nkind = \"openai\"\napi_key_env = \"{CANARY}\"\n"),
        format!("[providers.a]\nkind = \"openai\"\napi_keys_env = \"{CANARY}\"\n"),
        format!("[providers.a]\nkind = \"openai\"\napi_key_env = [\"{CANARY}\"]\n"),
        format!("[providers.a]\nkind = \"openai\"\napi_key_env = \"{CANARY}\n"),
        format!("[providers.a]\nkind = \"{CANARY}\"\n"),
        format!("[providers.a]\nkind = \"openai\"\nbase_url = \"https://u:{CANARY}@x.example\"\n"),
        format!("[providers.a]\nkind = \"openai\"\nheaders = {{ Authorization = \"{CANARY}\\n\" }}\n"),
        format!("[providers.a]\nkind = \"openai\"\nheaders = {{ Authorization = [\"{CANARY}\"] }}\n"),
        format!("[providers.{CANARY}]\nkind = \"openai\"\nnope = 1\n"),
        format!("[server]\nport = \"{CANARY}\"\n"),
        format!("\"{CANARY}\" = 1\n"),
        format!("{CANARY}\n"),
    ] {
        let error = load_text(&text).unwrap_err();
        let shown = format!("{error} {error:?} {}", error.summary());
        assert!(!shown.contains("CANARYcanary"), "{text}\n{error}");
    }
}

#[test]
fn what_is_shown_of_a_config_in_force_holds_no_key_and_loads_again() {
    let world = World::default().variable("A", CANARY);
    let text = format!(
        "[providers.a]\nkind = \"openai\"\napi_key_env = \"A\"\nheaders = {{ X-Extra = \"{CANARY}\" }}\n\
         limits = {{ max_concurrent = 3 }}\n[models]\n\"z*\" = \"a/x\"\nb = [\"a/y\"]\n\
         [[routing.rules]]\nrole = \"background\"\ntargets = [\"a\"]\n"
    );
    let loaded = world.load(&text).unwrap();
    let shown = show::to_toml(&loaded);
    assert!(
        !format!("{shown} {} {loaded:?}", show::to_json(&loaded))
            .replace(&format!("{:?}", loaded.config), "")
            .contains("CANARY"),
        "{shown}"
    );
    let mut again = world.load(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    let mut before = loaded.clone();
    for loaded in [&mut again, &mut before] {
        loaded.config.providers.values_mut().for_each(|provider| provider.headers.clear());
    }
    assert_eq!(again.config, before.config);
}

// === aliases ===

#[test]
fn an_alias_may_stand_for_another_but_not_for_itself() {
    let providers = "[providers.p]\nkind = \"openai\"\n[models]\n";
    let loaded = load_text(&format!("{providers}fast = \"cheap\"\ncheap = [\"p/a\", \"p/b\"]\n")).unwrap();
    assert_eq!(loaded.config.models[0].targets.len(), 2);
    let error = load_text(&format!("{providers}a = \"b\"\nb = [\"p/x\", \"c\"]\nc = \"a\"\n")).unwrap_err();
    assert!(error.to_string().contains("a cycle of aliases: a -> b -> c -> a"), "{error}");
    let error = load_text(&format!("{providers}a = \"a\"\n")).unwrap_err();
    assert!(error.to_string().contains("a -> a"), "{error}");
    let error = load_text(&format!("{providers}aa = \"p/x\"\nb = [\"ab\"]\nc = []\nd = 3\ne = [\"q/x\"]\n"))
        .unwrap_err();
    let lines: Vec<Option<usize>> = error.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(5), Some(6), Some(7), Some(8)], "{error}");
}

#[test]
fn aliases_that_fan_out_stay_bounded() {
    let mut text = "[providers.p]\nkind = \"openai\"\n[models]\nl0 = [\"p/a\"]\n".to_owned();
    for n in 1..200 {
        text.push_str(&format!("l{n} = [{}]\n", format!("\"l{}\", ", n - 1).repeat(20)));
    }
    let started = load_text(&text);
    assert!(started.is_ok() || started.unwrap_err().to_string().contains("16 deep"));
}

// === any input ===

proptest::proptest! {
    #[test]
    fn no_bytes_make_loading_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let read = move |_: &Path| Ok(FileText { bytes: bytes.clone(), mode: Some(0o600) });
        let environment = Environment { variables: BTreeMap::new(), read: &read };
        let _ = load(&Source::File("c".into()), &environment, &Overrides::default());
    }

    #[test]
    fn no_mutation_of_a_good_config_makes_loading_panic(
        edits in proptest::collection::vec((0usize..8000, 0usize..12, "[a-z0-9\"=.\\[\\]{},\n# é-]{0,6}"), 1..6)
    ) {
        let mut text: Vec<char> = BUILT_IN.replace("\n# ", "\n").replace("\n#", "\n# ").chars().collect();
        for (at, cut, put) in edits {
            let at = at % (text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = load_text(&text) {
            proptest::prop_assert!(!error.problems.is_empty());
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_value_at_any_key_makes_loading_panic(
        key in proptest::sample::select(vec!["server.host", "server.port", "server.drain", "providers", "providers.a",
            "providers.a.kind", "providers.a.base_url", "providers.a.limits", "providers.a.headers",
            "providers.a.api_keys_env", "providers.a.timeouts.connect", "models", "models.x", "routing",
            "routing.rules", "routing.score.load", "cache.max_size", "logging.level"]),
        value in proptest::sample::select(vec!["1", "-1", "0", "99999999999999999999", "1e400", "nan", "true", "\"\"",
            "\"é\"", "\"99999999999y\"", "\"18446744073709551615s\"", "\"99999999999GiB\"", "[]", "[[]]", "[{}]",
            "{}", "{a = 1}", "1979-05-27", "\"https://[::1\"", "\"http://%00\"", "\"///\"", "[\"a\", 1]", "inf"]),
    ) {
        let _ = load_text(&format!("{key} = {value}\n"));
        let _ = load_text(&format!("providers.a.kind = \"openai\"\n{key} = {value}\n"));
    }
}

// === the file with variables ===

#[test]
fn variables_come_from_a_file_beside_the_config_unless_the_process_has_them() {
    let world = World::default().variable("B", "from-the-process").file(
        "/etc/cproxy/cproxy.env",
        "# keys\n\nexport A = \"from-the-file\"\nB=not-this\nCPROXY_SERVER_PORT=4001\n",
        0o600,
    );
    let loaded = world.load("[providers.a]\nkind = \"openai\"\napi_keys_env = [\"A\", \"B\"]\n").unwrap();
    let keys: Vec<&str> = loaded.keys["a"].pool().iter().map(crate::config::secret::Key::expose).collect();
    assert_eq!(keys, ["from-the-file", "from-the-process"]);
    assert_eq!(loaded.config.server.port, 4001);
    assert!(loaded.files_to_watch.contains(&PathBuf::from("/etc/cproxy/cproxy.env")));
}

#[test]
fn a_file_with_variables_that_others_can_read_or_that_is_none_is_refused() {
    let refused = |text: &str, mode| {
        let world = World::default().file("/etc/cproxy/cproxy.env", text, mode);
        world.load("").unwrap_err().to_string()
    };
    assert!(refused("A=secret-key-material", 0o644).contains("chmod 600 /etc/cproxy/cproxy.env"));
    let shown = refused("# one\nsecret-key-material\n", 0o600);
    assert!(shown.contains("cproxy.env:2") && shown.contains("NAME=value"), "{shown}");
    assert!(!shown.contains("secret-key-material"), "{shown}");
}

// === export ===

#[test]
fn the_collector_is_named_by_the_config_or_by_the_usual_variables() {
    let world = World::default()
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example/")
        .variable("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20abc,x-scope = a");
    let loaded = world.load("[otlp]\nenabled = true\n").unwrap();
    assert_eq!(loaded.config.otlp.endpoint.as_deref(), Some("https://collector.example"));
    let headers: Vec<(&str, &str)> =
        loaded.otlp_headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("authorization", "Basic abc"), ("x-scope", "a")]);
    assert!(!world.load("").unwrap().config.otlp.enabled, "a variable alone sends nothing");
    let named = world.load("[otlp]\nendpoint = \"http://127.0.0.1:9\"\n").unwrap();
    assert_eq!(named.config.otlp.endpoint.as_deref(), Some("http://127.0.0.1:9"));
    let refused = world.load("[otlp]\nenabled = true\nendpoint = \"http://169.254.169.254\"\n").unwrap_err();
    assert!(refused.to_string().contains("otlp.endpoint"), "{refused}");
}
