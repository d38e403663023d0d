//! `cproxy start`, `stop`, `restart`: the daemon without a terminal.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use super::client::{Client, DaemonArgs};
use super::instance::{self, Instance};
use super::terminal::{clean, fail, say, say_json};
use super::{ServeArgs, process, serve, token};
use crate::config::{Environment, Loaded};
use crate::runtime::clock;

/// By when a daemon that was started must serve.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a daemon may take to end beyond its time for open requests.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// What `start` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StartArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Say where it runs as JSON
    #[arg(long)]
    json: bool,
}

/// What `stop` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    /// Do not wait for open requests
    #[arg(long)]
    now: bool,
}

/// What `restart` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RestartArgs {
    #[command(flatten)]
    start: StartArgs,
    /// Do not wait for open requests
    #[arg(long)]
    now: bool,
}

/// `cproxy start`.
pub async fn start(args: StartArgs) -> ExitCode {
    match started(&args.serve).await {
        Ok((instance, _)) if args.json => say_json(&instance),
        Ok((instance, true)) => say(&format!(
            "cproxy runs already at {} (process {}); `cproxy restart` starts it anew\n",
            instance.address, instance.pid
        )),
        Ok((instance, false)) => say(&welcome(&instance)),
        Err(reason) => fail(&reason),
    }
}

/// `cproxy stop`.
pub async fn stop(args: StopArgs) -> ExitCode {
    match running(&args.daemon).await {
        Ok(instance) => match stopped(&instance, args.now).await {
            Ok(()) => {
                say(&format!("cproxy at {} (process {}) has stopped\n", instance.address, instance.pid))
            }
            Err(reason) => fail(&reason),
        },
        Err(reason) => fail(&reason),
    }
}

/// `cproxy restart`: with the flags given, else with those that the running one was started with.
pub async fn restart(args: RestartArgs) -> ExitCode {
    let RestartArgs { start: StartArgs { mut serve, json }, now } = args;
    // A config that would not come up again must not take the good one down.
    if let Err(reason) = serve::loader(&serve)() {
        return fail(&format!(
            "the running daemon is left alone, since the new config is refused:\n{reason}"
        ));
    }
    let daemon = DaemonArgs { config: serve.config.clone(), port: serve.port, connect: None };
    if let Ok(instance) = running(&daemon).await {
        serve.config = serve.config.or(instance.flags.config.clone());
        serve.host = serve.host.or(instance.flags.host);
        serve.port = serve.port.or(instance.flags.port.map(|_| instance.port));
        if let Err(reason) = stopped(&instance, now).await {
            return fail(&reason);
        }
    }
    start(StartArgs { serve, json }).await
}

/// Starts a daemon, unless one runs; says whether one ran already.
pub async fn started(args: &ServeArgs) -> Result<(Instance, bool), String> {
    let environment = Environment::of_process();
    let loaded = serve::loader(args)()?;
    let server = &loaded.config.server;
    token::of(server)?;
    if server.port != 0 {
        if let Some(instance) = instance::of_this_user_on(server.port) {
            return Ok((instance, true));
        }
        let address = std::net::SocketAddr::from((server.host, server.port));
        // Dropped at once: the child binds it again.
        tokio::net::TcpListener::bind(address).await.map_err(|error| serve::taken(&address, &error))?;
    }
    let folder = instance::state_folder(&environment)
        .ok_or("there is no home to keep the log in: set HOME, or run `cproxy serve`")?;
    let log = output_file(&folder, &loaded)?;
    // Its output ends with the start; what it logs later goes to a file that is kept small.
    let log_file = match &loaded.config.logging.file {
        Some(file) => file.clone(),
        None => folder.join("cproxy.log"),
    };
    let mut child = spawn(args, &log, &log_file)?;
    let deadline = clock::now() + START_LIMIT;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the daemon did not start ({status}):\n{}", last_lines(&log)));
        }
        let pid = child.id();
        if let Some(instance) =
            instance::of_this_user().into_iter().find(|instance| Some(instance.pid) == pid)
        {
            return Ok((instance, false));
        }
        if clock::now() >= deadline {
            let _ = child.start_kill();
            return Err(format!(
                "the daemon did not serve within {} s:\n{}",
                START_LIMIT.as_secs(),
                last_lines(&log)
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The daemon that the arguments mean, by its mark, else by its own word.
async fn running(args: &DaemonArgs) -> Result<Instance, String> {
    let port = match (&args.connect, args.port) {
        (Some(_), _) => None,
        (None, Some(port)) => Some(port),
        (None, None) => args.load().ok().map(|loaded| loaded.config.server.port),
    };
    if let Some(instance) = port.and_then(instance::of_this_user_on) {
        return Ok(instance);
    }
    let all = instance::of_this_user();
    if let ([only], None, None) = (all.as_slice(), args.port, &args.connect) {
        return Ok(only.clone());
    }
    // It left no mark where we look (another XDG_RUNTIME_DIR, no place to write): it tells its process itself.
    let client = args.find().await?;
    let status = client.status().await?;
    let address = client.address().to_owned();
    let at: Option<std::net::SocketAddr> = address.strip_prefix("http://").and_then(|at| at.parse().ok());
    match at.filter(|at| at.ip().is_loopback()) {
        Some(at) => Ok(Instance {
            pid: status.pid,
            address,
            port: at.port(),
            version: status.version,
            config: status.config.source,
            log: None,
            drain_s: 30,
            flags: ServeArgs::default(),
        }),
        None => Err(format!("the daemon at {address} is not on this machine; stop it there")),
    }
}

/// Stops a daemon: asks it to, and waits for its end.
async fn stopped(instance: &Instance, now: bool) -> Result<(), String> {
    let client = Client::new(instance.address.clone(), None)?;
    process::terminate(instance.pid)?;
    if now {
        // Once more means: at once.
        tokio::time::sleep(Duration::from_millis(50)).await;
        if lives(instance, &client).await {
            let _ = process::terminate(instance.pid);
        }
    }
    let begun = clock::now();
    let limit = Duration::from_secs(instance.drain_s) + STOP_MARGIN;
    let mut said = false;
    while lives(instance, &client).await {
        if !said && begun.elapsed() > Duration::from_secs(1) {
            said = true;
            eprintln!("cproxy: open requests may finish (`cproxy stop --now` does not wait)");
        }
        if begun.elapsed() > limit {
            process::kill(instance.pid)?;
            eprintln!("cproxy: process {} did not end by itself and was killed", instance.pid);
            break;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(())
}

/// Whether the daemon is still there: it holds its mark, or answers.
async fn lives(instance: &Instance, client: &Client) -> bool {
    match instance::of_this_user_on(instance.port) {
        Some(found) => found.pid == instance.pid,
        None => super::run::is_cproxy(client.address()).await,
    }
}

/// Runs `cproxy serve` in a session of its own, its output in the file.
fn spawn(args: &ServeArgs, log: &Path, log_file: &Path) -> Result<tokio::process::Child, String> {
    let program = std::env::current_exe().map_err(|error| format!("where is cproxy itself? {error}"))?;
    let open = || {
        let mut options = File::options();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(log).map_err(|error| format!("{} can't be written: {error}", log.display()))
    };
    tokio::process::Command::new(program)
        .arg("serve")
        .arg("--detached")
        .arg(log)
        .args(args.as_flags())
        .env("CPROXY_LOGGING_FILE", log_file)
        .stdin(Stdio::null())
        .stdout(open()?)
        .stderr(open()?)
        .spawn()
        .map_err(|error| format!("the daemon can't be started: {error}"))
}

/// The file for the output of a daemon in the background. That of the run before is kept beside it.
fn output_file(folder: &Path, loaded: &Loaded) -> Result<PathBuf, String> {
    instance::make_folder(folder).map_err(|error| format!("{} can't be made: {error}", folder.display()))?;
    let log = folder.join(format!("daemon-{}.out", loaded.config.server.port));
    if log.exists() {
        let _ = std::fs::rename(&log, log.with_extension("out.1")); // an old one is no reason not to start
    }
    Ok(log)
}

/// The end of a log, for people.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(20);
    let lines: Vec<String> = lines.iter().skip(from).map(|line| format!("  {}", clean(line))).collect();
    format!("{}\n(all of it: {})", lines.join("\n"), log.display())
}

fn welcome(instance: &Instance) -> String {
    let mut text = format!("cproxy runs at {} (process {})\n", instance.address, instance.pid);
    if let Some(log) = &instance.log {
        text.push_str(&format!("its log: {}\n", log.display()));
    }
    text.push('\n');
    text.push_str(&super::paste_lines(&instance.address));
    text.push_str("\n`cproxy status` shows how it is, `cproxy stop` stops it.\n");
    text
}
