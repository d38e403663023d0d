//! `cproxy run claude [ARGS…]`: starts Claude Code over the daemon, starting one in this process if none runs.
//! Settings travel in the environment of the child alone; no settings file is touched.

use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;

use super::client::reachable;
use super::serve::{Running, loader};
use super::{ServeArgs, token};
use crate::telemetry;

/// What `run` takes.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// The program and its arguments, such as `claude` or `claude -p "hello"`
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    command: Vec<String>,
}

/// Runs the program and gives back its exit status.
pub async fn run(args: RunArgs) -> ExitCode {
    let load = loader(&args.serve);
    let mut loaded = match load() {
        Ok(loaded) => loaded,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let (host, port) = (loaded.config.server.host, loaded.config.server.port);
    let token = match token::of(&loaded.config.server) {
        Ok(token) => token,
        Err(reason) => {
            eprintln!("cproxy: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let running_at = format!("http://{}", std::net::SocketAddr::from((reachable(host), port)));
    if is_cproxy(&running_at).await {
        return spawn(&args.command, &running_at, token.as_ref()).await;
    }
    // A line on the terminal would run into the child's screen.
    loaded.config.logging.level = "error".to_owned();
    let _logs = telemetry::logs::init(&loaded.config.logging);
    let listener = match TcpListener::bind((host, port)).await {
        Ok(listener) => listener,
        // Another program has the port: for one child any port will do.
        Err(_) => match TcpListener::bind((host, 0)).await {
            Ok(listener) => listener,
            Err(error) => {
                eprintln!("cproxy: can't listen on {host}: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    match Running::start(loaded, load, Some(listener)).await {
        Ok(running) => {
            let _mark = running.leave_mark(&args.serve);
            let address = running.daemon().status().address;
            let code = spawn(&args.command, &address, token.as_ref()).await;
            running.stop(Duration::from_secs(5)).await;
            code
        }
        Err(reason) => {
            eprintln!("cproxy: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a cproxy answers at this address.
pub async fn is_cproxy(address: &str) -> bool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build();
    let Ok(client) = client else { return false };
    match client.get(format!("{address}/health")).send().await {
        Ok(response) => response.headers().contains_key("x-cproxy-version"),
        Err(_) => false,
    }
}

/// Runs the program with its environment pointed at the daemon.
async fn spawn(command: &[String], address: &str, token: Option<&crate::config::secret::Key>) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    let mut child = tokio::process::Command::new(program);
    child.args(arguments).env("ANTHROPIC_BASE_URL", address);
    match token {
        Some(token) => {
            child.env("ANTHROPIC_AUTH_TOKEN", token.expose());
        }
        // Without any credential Claude Code asks its user to log in; the daemon needs none.
        None if std::env::var_os("ANTHROPIC_API_KEY").is_none()
            && std::env::var_os("ANTHROPIC_AUTH_TOKEN").is_none() =>
        {
            child.env("ANTHROPIC_AUTH_TOKEN", "cproxy");
        }
        None => {}
    }
    match child.status().await {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("cproxy: can't start {program}: {error}");
            ExitCode::from(127)
        }
    }
}
