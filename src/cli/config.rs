//! `cproxy config`: the config in force, an example, the schema.

use std::path::PathBuf;
use std::process::ExitCode;

use super::client::DaemonArgs;
use super::terminal::{fail, say, say_json};
use crate::config::{show, source};

/// What can be shown.
#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// The JSON Schema, for editors
    Schema,
    /// The commented config that comes with cproxy: every key, with what it does
    Example,
    /// The config in force here, all layers applied, secrets masked
    Show {
        /// The config file
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Shows it.
pub fn run(what: ConfigCommand) -> ExitCode {
    match what {
        ConfigCommand::Schema => say(&format!("{:#}\n", show::json_schema())),
        ConfigCommand::Example => say(source::BUILT_IN),
        ConfigCommand::Show { config, json } => {
            match (DaemonArgs { config, ..DaemonArgs::default() }).load() {
                Ok(loaded) if json => say_json(&show::to_json(&loaded)),
                Ok(loaded) => say(&show::to_toml(&loaded)),
                Err(error) => fail(&error.to_string()),
            }
        }
    }
}
