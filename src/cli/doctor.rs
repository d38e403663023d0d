//! `cproxy doctor`: what works and what does not, from the config to the provider's fine points, and what cproxy does
//! about it. All that costs money is asked for first.

mod conformance;
mod reach;

use std::process::ExitCode;

use serde::Serialize;

use super::client::DaemonArgs;
use super::embedded;
use super::terminal::{Cell, Table, Tint, colour, confirm, fail, paint, say, say_json};
use crate::config::{Auth, Keys, Loaded, Provider, ProviderId};

/// What `doctor` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DoctorArgs {
    /// Look at this provider only
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Try the provider's fine points with about ten small requests (some thousand tokens), which it bills
    #[arg(long, requires = "provider")]
    paid: bool,
    /// Only what costs nothing, without asking
    #[arg(long, conflicts_with = "paid")]
    free: bool,
    /// The model for the requests [default: the provider's default_model, else the first that it lists by name]
    #[arg(long, value_name = "NAME", requires = "provider")]
    model: Option<String>,
    #[command(flatten)]
    daemon: DaemonArgs,
    /// As JSON; asks nothing
    #[arg(long)]
    json: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Works,
    /// Not as it should be, and cproxy makes up for it or it does no harm.
    Differs,
    /// It does not work.
    Fails,
    /// Not tried.
    Skipped,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The provider, or `cproxy`.
    pub subject: String,
    /// What was looked at.
    pub check: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What cproxy does about it, or what the user can.
    pub remedy: String,
}

/// Examines. Exit status 1 if something fails.
pub async fn run(args: DoctorArgs) -> ExitCode {
    let loaded = match args.daemon.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(&format!("the config is refused; nothing else was looked at:\n{error}")),
    };
    let mut findings = own(&args, &loaded).await;
    let mut chosen: Vec<(&ProviderId, &Provider)> = loaded.config.providers.iter().collect();
    if let Some(name) = &args.provider {
        chosen.retain(|(id, _)| id.as_str() == name);
        if chosen.is_empty() && !(name == "simulator" && embedded::needed(&loaded)) {
            let known: Vec<&str> = loaded.config.providers.keys().map(ProviderId::as_str).collect();
            return fail(&format!("there is no provider \"{name}\"; there are: {}", known.join(", ")));
        }
    }
    let mut models = Vec::new();
    for (id, provider) in &chosen {
        let keys = loaded.keys.get(*id);
        let (mut seen, listed) = reach::examine(id, provider, keys).await;
        findings.append(&mut seen);
        models = listed;
    }
    if let Some(name) = &args.provider {
        let id = ProviderId::from(name.as_str());
        match wanted_model(&args, loaded.config.providers.get(&id), &models) {
            Ok(model) => match consent(&args, &loaded, &id, &model) {
                Ok(()) => findings.append(&mut conformance::examine(loaded.clone(), &id, &model).await),
                Err(reason) => findings.push(Finding::skipped(name, "requests", reason)),
            },
            Err(reason) => findings.push(Finding::skipped(name, "requests", reason)),
        }
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fails);
    if args.json {
        say_json(&findings);
    } else {
        say(&text(&findings, colour()));
        if args.provider.is_none() {
            say("\n`cproxy doctor --provider NAME` tries one provider's fine points, after asking.\n");
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What concerns cproxy itself: its config, and the daemon that runs.
async fn own(args: &DoctorArgs, loaded: &Loaded) -> Vec<Finding> {
    let mut findings = vec![Finding::new("cproxy", "config", Verdict::Works, loaded.source.clone())];
    for warning in &loaded.warnings {
        findings.push(Finding::new("cproxy", "config", Verdict::Differs, warning.clone()));
    }
    findings.push(match args.daemon.find().await {
        Err(reason) => Finding::new("cproxy", "daemon", Verdict::Skipped, reason),
        Ok(client) => match client.status().await {
            Err(reason) => Finding::new("cproxy", "daemon", Verdict::Fails, reason),
            Ok(status) => {
                let seen = format!("{} at {}", status.state, status.address);
                let mut finding = Finding::new("cproxy", "daemon", Verdict::Works, seen);
                if status.config.last_reload != "ok" {
                    finding.verdict = Verdict::Differs;
                    finding.remedy =
                        "it refused the last change of the config, and keeps the one before; `cproxy \
                                      check` says why"
                            .to_owned();
                } else if status.version != env!("CARGO_PKG_VERSION") {
                    finding.verdict = Verdict::Differs;
                    finding.remedy =
                        format!("it is version {}; `cproxy restart` brings it up to date", status.version);
                }
                finding
            }
        },
    });
    findings
}

/// The model to try.
fn wanted_model(args: &DoctorArgs, provider: Option<&Provider>, listed: &[String]) -> Result<String, String> {
    let is_name = |model: &&String| !model.contains(['*', '?']);
    let configured = provider.and_then(|provider| {
        provider.default_model.as_ref().or(provider.models.iter().find(is_name)).cloned()
    });
    let matching = || {
        let provider = provider?;
        let globs: Vec<wildmatch::WildMatch> =
            provider.models.iter().map(|glob| wildmatch::WildMatch::new(glob)).collect();
        listed.iter().find(|model| globs.is_empty() || globs.iter().any(|glob| glob.matches(model))).cloned()
    };
    let simulated = || provider.is_none().then(|| "claude-simulated".to_owned());
    args.model
        .clone()
        .or(configured)
        .or_else(matching)
        .or_else(simulated)
        .ok_or_else(|| "no model to try: name one with --model".to_owned())
}

/// Whether the requests may be sent. The user is asked unless a flag has said so.
fn consent(args: &DoctorArgs, loaded: &Loaded, id: &ProviderId, model: &str) -> Result<(), String> {
    if let Some(provider) = loaded.config.providers.get(id) {
        if provider.disabled {
            return Err("the provider is disabled in the config".to_owned());
        }
        if provider.auth == Auth::Caller {
            return Err("it is asked with the caller's own login, which only Claude Code has".to_owned());
        }
        if let Some(Keys::Missing(why)) = loaded.keys.get(id) {
            return Err(format!("no key: {why}"));
        }
    }
    let question =
        format!("Send about ten small requests to {id} for {model}? They are billed: some thousand tokens.");
    if args.paid || (!args.free && !args.json && confirm(&question, false)) {
        return Ok(());
    }
    Err("--paid sends about ten small requests (some thousand tokens), which the provider bills".to_owned())
}

fn text(findings: &[Finding], colour: bool) -> String {
    let mut out = String::new();
    let mut table = Table::new(&["", "CHECK", "RESULT", "SEEN"]);
    let mut notes = Vec::new();
    for finding in findings {
        let (word, tint) = match finding.verdict {
            Verdict::Works => ("works", Tint::Good),
            Verdict::Differs => ("differs", Tint::Warn),
            Verdict::Fails => ("fails", Tint::Bad),
            Verdict::Skipped => ("not tried", Tint::Dim),
        };
        table.row([
            Cell::new(finding.subject.as_str(), Tint::Bold),
            finding.check.into(),
            Cell::new(word, tint),
            Cell::from(finding.seen.as_str()),
        ]);
        if !finding.remedy.is_empty() {
            notes.push(format!("{} {}: {}", finding.subject, finding.check, finding.remedy));
        }
    }
    out.push_str(&table.render(0, colour));
    if !notes.is_empty() {
        out.push_str(&format!("\n{}\n", paint("what is done about it", Tint::Bold, colour)));
        for note in notes {
            out.push_str(&format!("  {}\n", paint(&note, Tint::Plain, colour)));
        }
    }
    out
}

// === impl Finding ===

impl Finding {
    /// A finding that needs no remedy.
    pub fn new(subject: &str, check: &'static str, verdict: Verdict, seen: impl Into<String>) -> Finding {
        Finding { subject: subject.to_owned(), check, verdict, seen: seen.into(), remedy: String::new() }
    }

    /// What was not tried, and why.
    pub fn skipped(subject: &str, check: &'static str, reason: impl Into<String>) -> Finding {
        Finding::new(subject, check, Verdict::Skipped, reason)
    }

    /// The same with what is done about it.
    pub fn with(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = remedy.into();
        self
    }
}
