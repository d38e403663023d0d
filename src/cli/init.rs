//! `cproxy init`: a config for what is there: keys in the environment, local servers on their usual ports. Shown
//! before it is written; nothing else is touched.

mod find;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use super::import::write_new;
use super::terminal::{Tint, colour, confirm, fail, paint, say};
use crate::config::source::expand;
use crate::config::{self, Environment, Overrides, Source};

/// What `init` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InitArgs {
    /// Where the config goes [default: ~/.config/cproxy/config.toml]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print it, write nothing
    #[arg(long, conflicts_with = "yes")]
    print: bool,
    /// Write it without asking
    #[arg(long, short)]
    yes: bool,
    /// Claude's own models by your Claude login (Pro, Max, Team): your login goes on to Anthropic, untouched
    #[arg(long)]
    claude_login: bool,
    /// Do not look for local servers
    #[arg(long)]
    no_search: bool,
    /// The port of the daemon
    #[arg(long, short, value_name = "N", default_value_t = 3000)]
    port: u16,
}

/// Writes a config, and says what to paste.
pub async fn run(args: InitArgs) -> ExitCode {
    let environment = Environment::of_process();
    let path = args.out.clone().unwrap_or_else(|| default_place(&environment));
    if path.exists() && !args.print {
        return fail(&format!(
            "{} is there already and was left alone. `cproxy check` checks it, `cproxy init --print` shows what \
             would be written, and --out FILE writes elsewhere",
            path.display()
        ));
    }
    let mut found = find::keys(&environment);
    let colour = colour();
    eprintln!(
        "Looking for keys in the environment{}",
        match args.no_search {
            true => "",
            false => ", and for local servers on their usual ports",
        }
    );
    for cloud in &found.clouds {
        eprintln!("  {} (its value is not shown)", paint(cloud.variable, Tint::Plain, false));
    }
    if !args.no_search {
        found.locals = find::locals().await;
        for local in &found.locals {
            eprintln!("  {} at {} with {} models", local.name, local.base_url, local.models.len());
        }
    }
    if found.clouds.is_empty() && found.locals.is_empty() {
        eprintln!("  none found; providers are written down for which a key can be set later");
    }
    found.claude_login = args.claude_login
        || (!args.yes
            && !args.print
            && confirm(
                "Do you use Claude Code with a Claude login (Pro, Max, Team), and want to go on with it?",
                false,
            ));

    let text = write::config(&found, args.port);
    let source = Source::Text(text.clone(), PathBuf::from("."));
    if let Err(error) = config::load(&source, &environment, &Overrides::default()) {
        return fail(&format!("the config that was made is refused (a bug of ours):\n{error}"));
    }
    if args.print {
        return say(&text);
    }
    say(&format!("\n{}\n\n{text}\n", paint(&format!("--- {}", path.display()), Tint::Bold, colour)));
    if !args.yes && !confirm(&format!("Write this to {}?", path.display()), true) {
        return fail("nothing was written (--yes writes without asking, --print only prints)");
    }
    if let Err(reason) = write_new(&path, &text) {
        return fail(&reason);
    }
    let address = format!("http://127.0.0.1:{}", args.port);
    say(&format!(
        "{} is written. Change it whenever you like: the running daemon takes it up.\n\n\
         Start the daemon:\n  cproxy start{}\n{}",
        path.display(),
        match &args.out {
            Some(path) => format!(" --config {}", path.display()),
            None => String::new(),
        },
        super::paste_lines(&address)
    ))
}

/// Where the config of a user is (XDG Base Directory Specification).
fn default_place(environment: &Environment<'_>) -> PathBuf {
    let base = environment.get("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    base.unwrap_or_else(|| expand("~/.config", &environment.variables)).join("cproxy").join("config.toml")
}
