//! The faults actor; only there when `[faults] enabled`.
//!
//! Owns: changes of the fault plan. Rules are checked against the actors and providers that there are, and armed;
//! a `kill` that waits for no message is carried out at once; what is over is disarmed. The rules themselves and their
//! counts stand in the injector, which survives, and which whoever may be hit reads without asking.
//!
//! A plan leaves this actor's own messages alone, so that no plan can keep itself from being cleared.

use std::sync::Arc;
use std::time::Duration;

use super::Directory;
use crate::config;
use crate::faults::plan::MAX_RULES;
use crate::faults::{Injector, Known, Plan, Rule, RuleText, Shown};
use crate::runtime::{Me, Place, Reply, Worker, ask, ask_again, clock};

/// Largest file with a fault plan.
const MAX_PLAN: u64 = 1 << 20;

/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What the faults actor is told.
#[derive(Debug)]
pub enum FaultsMessage {
    /// Arm these rules; answers with all that are armed or over, or why nothing was changed.
    Arm(Vec<RuleText>, Reply<Result<Vec<Shown>, String>>),
    /// Disarm all rules; answers how many there were.
    Clear(Reply<usize>),
    /// From its timer: the time of a rule is over.
    Expire,
}

/// One incarnation.
pub struct Faults {
    directory: Arc<Directory>,
    injector: Arc<Injector>,
}

impl Worker for Faults {
    type Message = FaultsMessage;
    type Seat = Arc<Directory>;

    fn start(directory: &Arc<Directory>, me: &mut Me<FaultsMessage>) -> Result<Faults, String> {
        let injector = enabled(directory)?.clone();
        let faults = Faults { directory: directory.clone(), injector };
        faults.retire(me);
        Ok(faults)
    }

    fn handle(&mut self, message: FaultsMessage, me: &mut Me<FaultsMessage>) {
        match message {
            FaultsMessage::Arm(rules, reply) => {
                let _ = reply.send(self.arm(rules)); // the asker may have gone
            }
            FaultsMessage::Clear(reply) => {
                let _ = reply.send(self.injector.clear());
            }
            FaultsMessage::Expire => {}
        }
        self.retire(me);
    }

    fn name(message: &FaultsMessage) -> &'static str {
        match message {
            FaultsMessage::Arm(..) => "Arm",
            FaultsMessage::Clear(_) => "Clear",
            FaultsMessage::Expire => "Expire",
        }
    }
}

// === impl Faults ===

impl Faults {
    fn arm(&self, rules: Vec<RuleText>) -> Result<Vec<Shown>, String> {
        let plan = Plan::of(None, rules, &known(&self.directory)).map_err(|error| error.to_string())?;
        let (at_once, waiting): (Vec<Rule>, Vec<Rule>) =
            plan.rules.into_iter().partition(|rule| rule.at_once);
        if self.injector.armed() + waiting.len() > MAX_RULES {
            return Err(format!("{MAX_RULES} rules are armed at most; clear them first"));
        }
        self.injector.arm(waiting);
        for rule in at_once {
            self.kill(&rule);
        }
        Ok(self.injector.list())
    }

    /// Kills the actors that a rule names: children before their supervisors, so that each dies of this and nothing
    /// else. The root, whose death ends the process, only by its own name.
    fn kill(&self, rule: &Rule) {
        for place in self.directory.places().iter().rev() {
            let path = place.vitals().path();
            let named = rule.text.target.as_deref() == Some("root");
            if rule.hits_actor(path, "") && (&**path != "root" || named) && place.kill() {
                tracing::warn!(actor = %path, "killed an actor, as told");
                self.injector.count();
            }
        }
    }

    /// Disarms what is over, and sets the timer for the next. A timer of before is left to run: it finds nothing.
    fn retire(&self, me: &mut Me<FaultsMessage>) {
        if let Some(next) = self.injector.retire() {
            me.after(next.saturating_duration_since(clock::now()), FaultsMessage::Expire);
        }
    }
}

/// Arms rules; gives back all that are armed now.
///
/// # Errors
/// When faults are not enabled, or a rule is wrong. Then nothing was changed.
pub async fn arm(directory: &Directory, rules: Vec<RuleText>) -> Result<Vec<Shown>, String> {
    enabled(directory)?;
    let asked = ask(&directory.faults, clock::now() + LIMIT, |reply| FaultsMessage::Arm(rules, reply));
    asked.await.unwrap_or_else(|error| Err(format!("root/faults: {error}; `fault list` shows what is armed")))
}

/// Disarms all rules; gives back how many there were.
///
/// # Errors
/// When faults are not enabled.
pub async fn clear(directory: &Directory) -> Result<usize, String> {
    enabled(directory)?;
    let asked = ask_again(&directory.faults, clock::now() + LIMIT, FaultsMessage::Clear);
    asked.await.map_err(|error| format!("root/faults: {error}; try again"))
}

/// The rules that are armed, and those that are over.
///
/// # Errors
/// When faults are not enabled.
pub fn list(directory: &Directory) -> Result<Vec<Shown>, String> {
    enabled(directory).map(|injector| injector.list())
}

/// Arms the plan that the config names, if faults are enabled and it names one. Before the tree starts: the first
/// message of the first actor may be one that it waits for.
///
/// # Errors
/// When the file can't be read, or is no plan.
pub fn arm_file(directory: &Directory, faults: &config::Faults) -> Result<(), String> {
    let (Some(injector), Some(path)) = (&directory.injector, &faults.plan) else { return Ok(()) };
    let at = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("faults.plan = {at}: {error}"))?.len();
    if size > MAX_PLAN {
        return Err(format!("faults.plan = {at}: larger than {} MiB", MAX_PLAN >> 20));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("faults.plan = {at}: {error}"))?;
    let plan =
        Plan::parse(&text, &known(directory)).map_err(|error| format!("faults.plan = {at}: {error}"))?;
    if let Some(seed) = plan.seed {
        injector.reseed(seed);
    }
    tracing::warn!(rules = plan.rules.len(), plan = %at, "armed a fault plan");
    injector.arm(plan.rules);
    Ok(())
}

fn enabled(directory: &Directory) -> Result<&Arc<Injector>, String> {
    directory.injector.as_ref().ok_or_else(|| {
        "fault injection is not enabled; set enabled = true under [faults] and start cproxy again".to_owned()
    })
}

/// The actors and providers that there are. A plan leaves the messages of two of them alone: nobody tells the root
/// anything, and this actor must be able to clear whatever was armed.
fn known(directory: &Directory) -> Known {
    let actors = directory.places().iter().map(|place| place.vitals().path().to_string()).collect();
    let aloof = [directory.root.vitals(), directory.faults.vitals()];
    Known {
        actors,
        aloof: aloof.map(|vitals| vitals.path().to_string()).into(),
        providers: directory.entries.load().keys().map(ToString::to_string).collect(),
    }
}
