//! `cproxy drill`: what outages do to a config, on simulated providers and simulated time.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::ServeArgs;
use super::serve::loader;
use crate::drill::{Order, run as play};

/// What `drill` takes.
#[derive(Debug, clap::Args)]
pub struct DrillArgs {
    /// The config file [default: as for serve]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The seed of all draws; the same seed gives the same card
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only scenarios whose names begin so, such as S08 or K:root/router; may be given several times
    #[arg(long, short, value_name = "NAME")]
    scenario: Vec<String>,
    /// The model to ask for [default: one that more than one provider answers]
    #[arg(long, short)]
    model: Option<String>,
    /// The card as JSON
    #[arg(long)]
    json: bool,
}

/// Plays the drill; the exit status says whether every promise was kept.
pub fn run(args: DrillArgs) -> ExitCode {
    let loaded = match loader(&ServeArgs { config: args.config, ..ServeArgs::default() })() {
        Ok(loaded) => loaded,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "{reason}");
            return ExitCode::FAILURE;
        }
    };
    let order = Order { seed: args.seed, only: args.scenario, model: args.model };
    // One thread and a clock that jumps: nothing but the seed decides what happens.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let card = match runtime {
        Ok(runtime) => runtime.block_on(play(loaded, &order)),
        Err(error) => Err(format!("the runtime did not start: {error}")),
    };
    match card {
        Ok(card) => {
            let text = match args.json {
                true => format!("{}\n", serde_json::to_string_pretty(&card).unwrap_or_default()),
                false => card.to_string(),
            };
            let _ = std::io::stdout().write_all(text.as_bytes());
            if card.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "cproxy drill: {reason}");
            ExitCode::from(2)
        }
    }
}
