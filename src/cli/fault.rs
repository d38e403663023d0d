//! `cproxy fault`: injects faults into the running daemon.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::serve::loader;
use super::{ServeArgs, token};
use crate::config::secret::Key;
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
    let serve = ServeArgs { config: args.config, ..ServeArgs::default() };
    let server = loader(&serve)()?.config.server;
    let token = token::of(&server)?;
    let address = args.connect.map(|url| url.trim_end_matches('/').to_owned());
    let address = address
        .unwrap_or_else(|| format!("http://{}", std::net::SocketAddr::from((server.host, server.port))));
    let ask = |method, body| ask(&address, token.as_ref(), method, body);
    match args.what {
        What::Add(add) => {
            let rule = add.into_rule()?;
            let told = ask(reqwest::Method::POST, Some(rule)).await?;
            rules(&told)
        }
        What::List { json: true } => ask(reqwest::Method::GET, None).await.map(|told| format!("{told:#}\n")),
        What::List { json: false } => ask(reqwest::Method::GET, None).await.and_then(|told| rules(&told)),
        What::Clear => {
            ask(reqwest::Method::DELETE, None).await.map(|told| format!("cleared {}\n", told["cleared"]))
        }
    }
}

/// One request to `/faults`.
async fn ask(
    address: &str,
    token: Option<&Key>,
    method: reqwest::Method,
    rule: Option<RuleText>,
) -> Result<serde_json::Value, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build();
    let client = client.map_err(|error| format!("no HTTP client: {error}"))?;
    let mut request = client.request(method, format!("{address}/faults"));
    if let Some(token) = token {
        request = request.header("x-cproxy-token", token.expose());
    }
    if let Some(rule) = rule {
        request = request.body(serde_json::to_vec(&rule).map_err(|error| error.to_string())?);
    }
    let answer = request.send().await.map_err(|error| {
        format!("no daemon answers at {address} ({}); is cproxy running?", error.without_url())
    })?;
    let status = answer.status();
    let body =
        answer.bytes().await.map_err(|error| format!("the daemon broke off: {}", error.without_url()))?;
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match status.as_u16() {
        200 => Ok(told),
        404 => {
            Err("fault injection is not enabled in the running daemon; set enabled = true under [faults] \
                    and start it again"
                .to_owned())
        }
        _ => Err(told["error"]["message"].as_str().unwrap_or("the daemon refused").to_owned()),
    }
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
