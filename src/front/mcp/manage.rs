//! `proxy_config`, `explain_route` and `inject_fault`: looking into the daemon, and changing it where the
//! config allows.

use rmcp::model::{CallToolResult, JsonObject};
use serde_json::{Value, json};

use crate::config::{ProviderId, Strategy};

use super::args::{Args, BadArgs};
use super::body::{self, Question};
use super::completion::model;
use super::outcome::{Outcome, Trouble, result};
use super::{Command, Shared};

/// The strategies, as the config writes them.
pub(crate) const STRATEGIES: [&str; 6] =
    ["round-robin", "weighted", "least-connections", "latency", "cost", "score"];

/// `proxy_config`.
pub(crate) async fn config(shared: &Shared, arguments: Option<JsonObject>) -> CallToolResult {
    let (action, provider, strategy) = match read_config(arguments) {
        Ok(read) => read,
        Err(error) => return refused(Trouble::arguments(error.0)),
    };
    let command = match action.as_str() {
        "get" => return result(&json!({ "config": shared.daemon.config_redacted() }), Vec::new(), false),
        "validate" => Command::ValidateConfig,
        "reload" => Command::Reload,
        "clear_cache" => Command::ClearCache,
        "enable" | "disable" => match provider {
            Some(provider) => {
                Command::SetProviderEnabled(ProviderId::from(provider.as_str()), action == "enable")
            }
            None => return refused(Trouble::arguments(format!("`{action}` needs `provider`"))),
        },
        "strategy" => match strategy.as_deref().map(|name| serde_json::from_value::<Strategy>(name.into())) {
            Some(Ok(strategy)) => Command::SetStrategy(strategy),
            _ => {
                return refused(Trouble::arguments(format!(
                    "`strategy` must be one of {}",
                    STRATEGIES.join(", ")
                )));
            }
        },
        other => {
            return refused(Trouble::arguments(format!(
                "`action` must be get, validate, reload, enable, disable, strategy or clear_cache, not \"{}\"",
                other.chars().take(30).collect::<String>()
            )));
        }
    };
    if command != Command::ValidateConfig && !shared.daemon.settings().allow_changes {
        return refused(Trouble::new(
            "changes_not_allowed",
            format!("the config does not let MCP tools change the daemon, so \"{action}\" was not done"),
            "Ask the user to set `allow_changes = true` under [mcp] in config.toml, or to do it by hand.",
        ));
    }
    carry_out(shared, &action, command).await
}

fn read_config(arguments: Option<JsonObject>) -> Result<(String, Option<String>, Option<String>), BadArgs> {
    let mut args = Args::new("proxy_config", arguments);
    let action = args.text("action")?.ok_or_else(|| BadArgs("`action` is missing".into()))?;
    let read = (action, args.text("provider")?, args.text("strategy")?);
    args.done()?;
    Ok(read)
}

/// `explain_route`.
pub(crate) fn explain(shared: &Shared, arguments: Option<JsonObject>) -> CallToolResult {
    let read = || {
        let mut args = Args::new("explain_route", arguments);
        let question = Question::take(&mut args).map_err(|error| Trouble::arguments(error.0))?;
        let named = |error: BadArgs| Trouble::arguments(error.0);
        let (asked, provider) = (args.text("model").map_err(named)?, args.text("provider").map_err(named)?);
        args.done().map_err(named)?;
        let model = model(shared, asked.as_deref(), provider.as_deref())?;
        Ok(body::request(shared.daemon.next_request_id(), &question, &model, provider.as_deref(), None))
    };
    match read() {
        Err(trouble) => refused(trouble),
        Ok(request) => match shared.daemon.explain(&request) {
            plan @ Value::Object(_) => result(&plan, Vec::new(), false),
            plan => result(&json!({ "plan": plan }), Vec::new(), false),
        },
    }
}

/// `inject_fault`.
pub(crate) async fn fault(shared: &Shared, arguments: Option<JsonObject>) -> CallToolResult {
    let read = |arguments| {
        let mut args = Args::new("inject_fault", arguments);
        let mut fault = serde_json::Map::new();
        let kind = args.text("fault")?.ok_or_else(|| BadArgs("`fault` is missing".into()))?;
        fault.insert("fault".into(), kind.into());
        for name in ["target", "delay", "for"] {
            if let Some(text) = args.text(name)? {
                fault.insert(name.into(), text.into());
            }
        }
        for name in ["times", "status", "after_events"] {
            if let Some(count) = args.whole(name)? {
                fault.insert(name.into(), count.into());
            }
        }
        if let Some(probability) = args.number("probability")? {
            fault.insert("probability".into(), probability.into());
        }
        args.done()?;
        Ok(Value::Object(fault))
    };
    match read(arguments) {
        Err(BadArgs(message)) => refused(Trouble::arguments(message)),
        Ok(fault) => carry_out(shared, "inject_fault", Command::InjectFault(fault)).await,
    }
}

async fn carry_out(shared: &Shared, action: &str, command: Command) -> CallToolResult {
    match shared.daemon.command(command).await {
        Ok(done) => result(&json!({ "action": action, "done": true, "result": done }), Vec::new(), false),
        Err(message) => refused(Trouble::new("refused", message, "Nothing was changed.")),
    }
}

/// A failure as a tool error.
pub(crate) fn refused(trouble: Trouble) -> CallToolResult {
    Outcome::from(trouble).into_result()
}
