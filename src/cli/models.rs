//! `cproxy models`: the names that can be asked for, and who serves them.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::DaemonArgs;
use super::embedded;
use super::status::tint_of;
use super::terminal::{Cell, Table, Tint, colour, fail, paint, say, say_json};
use crate::config::{Keys, Loaded};

/// What `models` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ModelsArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What one provider serves.
struct Served {
    provider: String,
    state: String,
    models: Vec<String>,
}

/// Lists aliases and models by the config, the providers' states by the daemon where one runs.
pub async fn run(args: ModelsArgs) -> ExitCode {
    let loaded = match args.daemon.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error.to_string()),
    };
    let status = match args.daemon.find().await {
        Ok(client) => client.status().await.ok(),
        Err(reason) if args.daemon.connect.is_some() => return fail(&reason),
        Err(_) => None,
    };
    let mut served = served(&loaded);
    if let Some(status) = status {
        for provider in status.providers {
            match served.iter_mut().find(|own| own.provider == provider.name) {
                Some(own) => own.state = provider.state,
                None => {
                    served.push(Served { provider: provider.name, state: provider.state, models: Vec::new() })
                }
            }
        }
    } else if embedded::needed(&loaded) {
        served.push(Served { provider: "simulator".into(), state: "ready".into(), models: vec!["*".into()] });
    }
    for own in served.iter_mut().filter(|own| own.provider == "simulator" && own.models.is_empty()) {
        own.models.push("*".into());
    }
    if args.json { say_json(&as_json(&loaded, &served)) } else { say(&text(&loaded, &served, colour())) }
}

/// The providers of the config, with what they list.
fn served(loaded: &Loaded) -> Vec<Served> {
    let usable = |_: &crate::config::ProviderId| crate::routing::Usable::Ready;
    let table = crate::routing::Table::new(1, &loaded.config, usable);
    let rows = table.rows.into_iter().map(|row| {
        let state = match (loaded.config.providers.get(&row.id), loaded.keys.get(&row.id)) {
            (Some(provider), _) if provider.disabled => "disabled",
            (_, Some(Keys::Missing(_)) | None) => "no key",
            _ => "ready",
        };
        Served { provider: row.id.to_string(), state: state.to_owned(), models: row.models }
    });
    rows.collect()
}

fn as_json(loaded: &Loaded, served: &[Served]) -> Value {
    let aliases = loaded.config.models.iter().map(|alias| {
        let targets: Vec<String> = alias.targets.iter().map(ToString::to_string).collect();
        json!({ "name": alias.pattern, "targets": targets })
    });
    let providers = served
        .iter()
        .map(|own| json!({ "provider": own.provider, "state": own.state, "models": own.models }));
    json!({ "aliases": aliases.collect::<Vec<_>>(), "providers": providers.collect::<Vec<_>>() })
}

fn text(loaded: &Loaded, served: &[Served], colour: bool) -> String {
    let mut out = String::new();
    if !loaded.config.models.is_empty() {
        out.push_str(&paint("aliases, the first that matches wins", Tint::Bold, colour));
        out.push('\n');
        let mut table = Table::new(&["ASK FOR", "TRIED IN THIS ORDER"]);
        for alias in &loaded.config.models {
            let targets: Vec<String> = alias.targets.iter().map(ToString::to_string).collect();
            table.row([Cell::from(alias.pattern.as_str()), Cell::from(targets.join(", "))]);
        }
        out.push_str(&table.render(2, colour));
        out.push('\n');
    }
    out.push_str(&paint("providers, and what they list", Tint::Bold, colour));
    out.push('\n');
    let mut table = Table::new(&["ASK FOR", "SERVED BY", "STATE"]);
    for own in served {
        let tint = if own.state == "ready" { Tint::Plain } else { Tint::Dim };
        let models = if own.models.is_empty() { vec!["(names none)".to_owned()] } else { own.models.clone() };
        for model in models {
            table.row([
                Cell::new(model, tint),
                Cell::new(own.provider.as_str(), tint),
                Cell::new(own.state.as_str(), tint_of(&own.state)),
            ]);
        }
    }
    out.push_str(&table.render(2, colour));
    out.push_str(
        "\n\"provider/model\" asks one provider for any model of its own. `cproxy explain --model NAME` says who\n\
         would be asked; `cproxy doctor --provider NAME` reads the provider's own list.\n",
    );
    out
}
