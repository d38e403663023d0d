//! `cproxy fault`: injects faults into the running daemon.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::Method;

use super::client::{Client, DaemonArgs};
use crate::faults::{RuleText, Shown};

/// What `fault` takes.
#[derive(Debug, clap::Args)]
pub struct FaultArgs {
    /// The config file, which says where the daemon listens
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where the daemon listens, if not where the config says
    #[arg(long, value_name = "URL", global = true)]
    connect: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Arm a fault
    Add(Box<Add>),
    /// List the faults that are armed
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Disarm all faults
    Clear,
}

/// One fault.
#[derive(Debug, clap::Args)]
struct Add {
    /// kill, panic, hang, delay, drop-reply (actors); refuse, status, reset, stall, stall-after-headers,
    /// stall-in-stream, cut, corrupt, split, trickle, slow (the way to an upstream)
    fault: String,
    /// An actor's path, or a provider (openrouter, openrouter/gpt-*) [default: all]
    #[arg(long, short)]
    target: Option<String>,
    /// Only before messages of this name
    #[arg(long)]
    message: Option<String>,
    /// Only requests for these models
    #[arg(long)]
    model: Option<String>,
    /// Only requests of these sessions
    #[arg(long)]
    session: Option<String>,
    /// Each hit fires with this probability, from 0 to 1
    #[arg(long, short)]
    probability: Option<f64>,
    /// Only the N-th hit fires
    #[arg(long, value_name = "N")]
    nth: Option<u64>,
    /// Each N-th hit fires
    #[arg(long, value_name = "N")]
    every: Option<u64>,
    /// It fires so often at most
    #[arg(long, value_name = "N")]
    times: Option<u64>,
    /// It is over after so long, such as 10m
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
    /// How long hang, delay and slow take
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,
    /// The status of `status`
    #[arg(long, value_name = "CODE")]
    status: Option<u16>,
    /// A header of `status`, such as "retry-after: 5"
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// cut, stall-in-stream, reset, corrupt: after so many events
    #[arg(long, value_name = "N")]
    after_events: Option<u64>,
    /// split, trickle: the size of a piece
    #[arg(long, value_name = "N")]
    bytes: Option<usize>,
}

/// Talks to the daemon.
pub async fn run(args: FaultArgs) -> ExitCode {
    match talk(args).await {
        Ok(text) => super::terminal::say(&text),
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "cproxy fault: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn talk(args: FaultArgs) -> Result<String, String> {
    let daemon = DaemonArgs { config: args.config, port: None, connect: args.connect };
    let client = daemon.find().await?;
    match args.what {
        What::Add(add) => {
            let rule = add.into_rule()?;
            let rule = serde_json::to_vec(&rule).map_err(|error| error.to_string())?;
            rules(&ask(&client, Method::POST, rule).await?)
        }
        What::List { json: true } => {
            ask(&client, Method::GET, Vec::new()).await.map(|told| format!("{told:#}\n"))
        }
        What::List { json: false } => rules(&ask(&client, Method::GET, Vec::new()).await?),
        What::Clear => {
            let told = ask(&client, Method::DELETE, Vec::new()).await?;
            Ok(format!("cleared {}\n", told["cleared"]))
        }
    }
}

/// One request to `/faults`.
async fn ask(client: &Client, method: Method, rule: Vec<u8>) -> Result<serde_json::Value, String> {
    let told = client.send(method, "/faults", &[], rule.into()).await?;
    serde_json::from_slice(&told).map_err(|error| format!("the daemon's answer can't be read: {error}"))
}

/// The rules in the daemon's answer, for people.
fn rules(told: &serde_json::Value) -> Result<String, String> {
    let rules: Vec<Shown> = serde_json::from_value(told["rules"].clone())
        .map_err(|error| format!("the daemon's answer is of another version: {error}"))?;
    Ok(if rules.is_empty() { "no fault is armed\n".to_owned() } else { table(&rules) })
}

/// Rules for people, one a line.
pub fn table(rules: &[Shown]) -> String {
    let mut text = String::new();
    for shown in rules {
        let state = if shown.active { "armed" } else { "spent" };
        let rule = &shown.rule;
        let target = rule.target.as_deref().unwrap_or("*");
        text.push_str(&format!(
            "{:>3}  {state}  {:<20} {target:<24} {} hits, {} fired\n",
            shown.id, rule.fault, shown.hits, shown.fired
        ));
    }
    text
}

// === impl Add ===

impl Add {
    fn into_rule(self) -> Result<RuleText, String> {
        let split = |header: &String| {
            let (name, value) = header.split_once(':')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = self.headers.iter().map(|header| {
            split(header).ok_or_else(|| format!("\"{header}\" is no header such as \"retry-after: 5\""))
        });
        Ok(RuleText {
            headers: headers.collect::<Result<_, _>>()?,
            fault: self.fault,
            target: self.target,
            message: self.message,
            model: self.model,
            session: self.session,
            probability: self.probability,
            nth: self.nth,
            every: self.every,
            times: self.times,
            lasts: self.lasts,
            delay: self.delay,
            delay_ms: None,
            status: self.status,
            body: None,
            after_events: self.after_events,
            bytes: self.bytes,
        })
    }
}
