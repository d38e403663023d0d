//! `cproxy service`: the daemon as a service of the user, by systemd (Linux) or launchd (macOS). What is written is
//! shown before, and `uninstall` leaves nothing of it.
//!
//! Sources: systemd.service(5), systemd.unit(5), systemd.syntax(7); launchd.plist(5).

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::import::write_new;
use super::instance::state_folder;
use super::process;
use super::terminal::{clean, confirm, fail, say};
use crate::config::Environment;
use crate::config::source::expand;

/// What can be done with the service.
#[derive(Debug, clap::Subcommand)]
pub enum ServiceCommand {
    /// Write the service's file, start it, and start it at each login
    Install {
        /// The config file [default: see `cproxy --help`]
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Write it without asking
        #[arg(long, short)]
        yes: bool,
        /// Only print what would be written, and where
        #[arg(long)]
        print: bool,
        /// The service manager [default: that of this system]
        #[arg(long, value_enum, requires = "print")]
        manager: Option<Manager>,
    },
    /// Stop the service and remove its file
    Uninstall,
    /// Say whether it is installed and runs
    Status,
}

/// The two kinds of manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Manager {
    /// Linux.
    Systemd,
    /// macOS.
    Launchd,
}

/// The name under which launchd knows it.
const LABEL: &str = "cproxy.daemon";

/// The name under which systemd knows it.
const UNIT: &str = "cproxy.service";

/// Does it.
pub fn run(what: ServiceCommand) -> ExitCode {
    let environment = Environment::of_process();
    let manager = if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd };
    let file = manager.file(&environment);
    let done = match what {
        ServiceCommand::Install { config, print: true, manager: asked, .. } => {
            print(asked.unwrap_or(manager), &environment, config.as_deref())
        }
        ServiceCommand::Install { config, yes, .. } => {
            install(manager, &environment, &file, config.as_deref(), yes)
        }
        ServiceCommand::Uninstall => uninstall(manager, &file),
        ServiceCommand::Status => Ok(status(manager, &file)),
    };
    match done {
        Ok(text) => say(&text),
        Err(reason) => fail(&reason),
    }
}

fn install(
    manager: Manager,
    environment: &Environment<'_>,
    file: &Path,
    config: Option<&Path>,
    yes: bool,
) -> Result<String, String> {
    let text = manager.text(environment, config)?;
    let at = file.display();
    say(&format!("--- {at}\n\n{text}\n"));
    if !yes && !confirm(&format!("Write this to {at}, and start it?"), true) {
        return Err("nothing was written (--yes writes without asking, --print only prints)".to_owned());
    }
    write_new(file, &text)?;
    let mut said = format!("{at} is written.\n");
    for command in manager.to_start(file) {
        if let Err(reason) = call(&command) {
            said.push_str(&format!(
                "{reason}\nThe file stays; start the service with: {}\n",
                command.join(" ")
            ));
            return Err(said);
        }
    }
    said.push_str(manager.advice());
    Ok(said)
}

/// The file, and what is done with it, in a form that can be written and run as it stands.
fn print(manager: Manager, environment: &Environment<'_>, config: Option<&Path>) -> Result<String, String> {
    let file = manager.file(environment);
    let text = manager.text(environment, config)?;
    let commands: Vec<String> = manager.to_start(&file).iter().map(|command| command.join(" ")).collect();
    eprintln!("# {}\n# then: {}", file.display(), commands.join("; "));
    Ok(text)
}

fn uninstall(manager: Manager, file: &Path) -> Result<String, String> {
    if !file.exists() {
        return Ok(format!("no service is installed ({} is not there)\n", file.display()));
    }
    for command in manager.to_stop(file) {
        // A service that does not run can't be stopped, and is to be removed all the same.
        if let Err(reason) = call(&command) {
            eprintln!("cproxy: {reason}");
        }
    }
    std::fs::remove_file(file).map_err(|error| format!("{} can't be removed: {error}", file.display()))?;
    if manager == Manager::Systemd {
        let _ = call(&words(&["systemctl", "--user", "daemon-reload"]));
    }
    Ok(format!("the service is stopped, and {} removed\n", file.display()))
}

fn status(manager: Manager, file: &Path) -> String {
    if !file.exists() {
        return format!("not installed ({} is not there)\n", file.display());
    }
    let command = match manager {
        Manager::Systemd => words(&["systemctl", "--user", "is-active", UNIT]),
        Manager::Launchd => words(&["launchctl", "print", &domain_target()]),
    };
    let state = match output(&command) {
        Ok((true, _)) => "running".to_owned(),
        Ok((false, said)) => {
            let first = said.lines().next().unwrap_or_default().trim().to_owned();
            if first.is_empty() { "not running".to_owned() } else { clean(&first) }
        }
        Err(reason) => reason,
    };
    format!("installed: {}\nstate: {state}\n{}", file.display(), manager.advice())
}

/// Runs a command; what it says on failure is in the error.
fn call(command: &[String]) -> Result<(), String> {
    match output(command) {
        Ok((true, _)) => Ok(()),
        Ok((false, said)) => Err(format!("{} failed: {}", command.join(" "), clean(said.trim()))),
        Err(reason) => Err(reason),
    }
}

fn output(command: &[String]) -> Result<(bool, String), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok((true, String::new())) };
    let done = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program} can't be run: {error}"))?;
    let mut said = String::from_utf8_lossy(&done.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&done.stderr));
    Ok((done.status.success(), said))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn domain() -> String {
    format!("gui/{}", process::user().unwrap_or_default())
}

fn domain_target() -> String {
    format!("{}/{LABEL}", domain())
}

// === impl Manager ===

impl Manager {
    /// Where the manager looks for services of this user.
    fn file(self, environment: &Environment<'_>) -> PathBuf {
        match self {
            Manager::Systemd => {
                let base = environment.get("XDG_CONFIG_HOME").map(PathBuf::from);
                let base = base.filter(|dir| dir.is_absolute());
                let base = base.unwrap_or_else(|| expand("~/.config", &environment.variables));
                base.join("systemd/user").join(UNIT)
            }
            Manager::Launchd => {
                expand("~/Library/LaunchAgents", &environment.variables).join(format!("{LABEL}.plist"))
            }
        }
    }

    fn text(self, environment: &Environment<'_>, config: Option<&Path>) -> Result<String, String> {
        let program = std::env::current_exe().map_err(|error| format!("where is cproxy itself? {error}"))?;
        let config = config.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
        let mut command = vec![program.display().to_string(), "serve".to_owned()];
        if let Some(config) = config {
            command.extend(["--config".to_owned(), config.display().to_string()]);
        }
        Ok(match self {
            Manager::Systemd => unit(&command),
            Manager::Launchd => {
                let log = state_folder(environment).map(|folder| folder.join("service.log"));
                plist(&command, log.as_deref())
            }
        })
    }

    fn to_start(self, file: &Path) -> Vec<Vec<String>> {
        match self {
            Manager::Systemd => vec![
                words(&["systemctl", "--user", "daemon-reload"]),
                words(&["systemctl", "--user", "enable", "--now", UNIT]),
            ],
            Manager::Launchd => {
                vec![words(&["launchctl", "bootstrap", &domain(), &file.display().to_string()])]
            }
        }
    }

    fn to_stop(self, _: &Path) -> Vec<Vec<String>> {
        match self {
            Manager::Systemd => vec![words(&["systemctl", "--user", "disable", "--now", UNIT])],
            Manager::Launchd => vec![words(&["launchctl", "bootout", &domain_target()])],
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Manager::Systemd => {
                "A service does not see the variables of your shell: put keys into files (api_key_file), or into the\n\
                 file cproxy.env beside the config (NAME=value in each line, mode 0600).\n\
                 Its log: journalctl --user -u cproxy -f\n"
            }
            Manager::Launchd => {
                "A service does not see the variables of your shell: put keys into files (api_key_file), or into the\n\
                 file cproxy.env beside the config (NAME=value in each line, mode 0600).\n"
            }
        }
    }
}

/// The unit for systemd.
fn unit(command: &[String]) -> String {
    let command: Vec<String> = command.iter().map(|word| unit_word(word)).collect();
    format!(
        "# Written by `cproxy service install`; `cproxy service uninstall` removes it.\n\
         [Unit]\n\
         Description=cproxy, one local daemon between Claude Code and every model\n\
         \n\
         [Service]\n\
         ExecStart={}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         # Open requests may finish.\n\
         TimeoutStopSec=60\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        command.join(" ")
    )
}

/// A word as systemd reads it: quoted, with its own signs doubled.
fn unit_word(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

/// The property list for launchd.
fn plist(command: &[String], log: Option<&Path>) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let words: String =
        command.iter().map(|word| format!("    <string>{}</string>\n", escape(word))).collect();
    let log = log.map(|log| {
        let log = escape(&log.display().to_string());
        format!("  <key>StandardErrorPath</key>\n  <string>{log}</string>\n")
    });
    let log = log.unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <!-- Written by `cproxy service install`; `cproxy service uninstall` removes it. -->\n\
         <plist version=\"1.0\">\n<dict>\n\
         \x20 <key>Label</key>\n  <string>{LABEL}</string>\n\
         \x20 <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n\
         \x20 <key>RunAtLoad</key>\n  <true/>\n\
         \x20 <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n\
         \x20 <key>ExitTimeOut</key>\n  <integer>60</integer>\n\
         \x20 <key>Umask</key>\n  <integer>63</integer>\n\
         {log}</dict>\n</plist>\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_signs_of_systemds_own_stays_one_word() {
        let text = unit(&["/opt/my \"tools\"/100%/cproxy".into(), "serve".into()]);
        assert!(text.contains("ExecStart=\"/opt/my \\\"tools\\\"/100%%/cproxy\" \"serve\"\n"), "{text}");
    }

    #[test]
    fn a_path_with_markup_stays_text_in_the_property_list() {
        let text = plist(&["/a&b/<c>".into()], None);
        assert!(text.contains("<string>/a&amp;b/&lt;c&gt;</string>"), "{text}");
    }
}
