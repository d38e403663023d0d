//! Arming faults: rules are checked against the actors and providers that there are; a `kill` that waits for no
//! message is carried out at once.

use std::sync::Arc;

use super::Directory;
use crate::config;
use crate::faults::plan::{Fault, Target, Trigger};
use crate::faults::{ActorFault, Injector, Known, Plan, Rule, RuleText, Shown};

/// Largest file with a fault plan.
const MAX_PLAN: u64 = 1 << 20;

/// Arms rules; gives back all that are armed now.
///
/// # Errors
/// When faults are not enabled, or a rule is wrong. Then nothing was changed.
pub fn arm(directory: &Directory, rules: Vec<RuleText>) -> Result<Vec<Shown>, String> {
    let injector = enabled(directory)?;
    let plan = Plan::of(None, rules, &known(directory)).map_err(|error| error.to_string())?;
    let (at_once, waiting): (Vec<Rule>, Vec<Rule>) = plan.rules.into_iter().partition(is_at_once);
    injector.arm(waiting);
    for rule in at_once {
        kill(directory, injector, &rule);
    }
    Ok(injector.list())
}

/// Disarms all rules; gives back how many there were.
///
/// # Errors
/// When faults are not enabled.
pub fn clear(directory: &Directory) -> Result<usize, String> {
    enabled(directory).map(|injector| injector.clear())
}

/// The rules that are armed.
///
/// # Errors
/// When faults are not enabled.
pub fn list(directory: &Directory) -> Result<Vec<Shown>, String> {
    enabled(directory).map(|injector| injector.list())
}

/// Arms the plan that the config names, if faults are enabled and it names one.
///
/// # Errors
/// When the file can't be read, or is no plan.
pub fn arm_file(directory: &Directory, faults: &config::Faults) -> Result<(), String> {
    let (Some(injector), Some(path)) = (&directory.faults, &faults.plan) else { return Ok(()) };
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
    directory.faults.as_ref().ok_or_else(|| {
        "fault injection is not enabled; set enabled = true under [faults] and start cproxy again".to_owned()
    })
}

/// The actors and providers that there are.
fn known(directory: &Directory) -> Known {
    let actors = directory.places().iter().map(|place| place.vitals().path().to_string()).collect();
    Known { actors, providers: directory.entries.load().keys().map(ToString::to_string).collect() }
}

/// Whether a rule is a command to kill now, not a trap for messages to come.
fn is_at_once(rule: &Rule) -> bool {
    let waits = matches!(&rule.target, Target::Actor { message: Some(_), .. });
    rule.fault == Fault::Actor(ActorFault::Kill) && !waits && rule.trigger == Trigger::Always
}

/// Kills the actors that a rule names: children before their supervisors, so that each dies of this and nothing
/// else. The root, whose death ends the process, only by its own name.
fn kill(directory: &Directory, injector: &Injector, rule: &Rule) {
    for place in directory.places().iter().rev() {
        let path = place.vitals().path();
        let named = rule.text.target.as_deref() == Some("root");
        if rule.hits_actor(path, "") && (&**path != "root" || named) && place.kill() {
            tracing::warn!(actor = %path, "killed an actor, as told");
            injector.count();
        }
    }
}
