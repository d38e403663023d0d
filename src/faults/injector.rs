//! The rules that are armed, and how often each was hit and has fired.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{ActorFault, Fault, NetworkFault, Rule, RuleText};
use crate::runtime::{Interrupt, Interruption, clock};

/// Most rules that are remembered when they are over.
const PAST: usize = 100;

/// Injects faults by the rules that are armed. Survives every actor; its rules are changed by `root/faults` alone, and
/// read without asking.
#[derive(Debug)]
pub struct Injector {
    seed: AtomicU64,
    armed: ArcSwap<Vec<Arc<Armed>>>,
    past: Mutex<VecDeque<Shown>>,
    ids: AtomicU64,
    fired: AtomicU64,
}

/// One rule that is armed.
#[derive(Debug)]
struct Armed {
    id: u64,
    rule: Rule,
    since: Instant,
    counts: Mutex<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    hits: u64,
    fired: u64,
}

/// One rule, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// Counts the rules that were armed, from 1.
    pub id: u64,
    /// The rule as written.
    pub rule: RuleText,
    /// How often it was hit.
    pub hits: u64,
    /// How often it has fired.
    pub fired: u64,
    /// Whether it may fire again.
    pub active: bool,
}

// === impl Injector ===

impl Injector {
    /// An injector without rules.
    pub fn new(seed: u64) -> Injector {
        Injector {
            seed: AtomicU64::new(seed),
            armed: ArcSwap::default(),
            past: Mutex::default(),
            ids: AtomicU64::new(0),
            fired: AtomicU64::new(0),
        }
    }

    /// Draws by another seed from now on.
    pub fn reseed(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }

    /// Arms rules behind those that are armed already; gives back their numbers.
    pub fn arm(&self, rules: Vec<Rule>) -> Vec<u64> {
        let now = clock::now();
        let new: Vec<Arc<Armed>> = rules
            .into_iter()
            .map(|rule| {
                let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
                Arc::new(Armed { id, rule, since: now, counts: Mutex::default() })
            })
            .collect();
        let ids = new.iter().map(|armed| armed.id).collect();
        self.armed.rcu(|armed| armed.iter().chain(&new).cloned().collect::<Vec<_>>());
        ids
    }

    /// Disarms all rules, and forgets those that are over; says how many were armed.
    pub fn clear(&self) -> usize {
        lock(&self.past).clear();
        self.armed.swap(Arc::default()).len()
    }

    /// Disarms the rules that are over, since their time is or since they have fired as often as they may. They are
    /// still shown. Gives back when the next one will be over, if that is known.
    pub fn retire(&self) -> Option<Instant> {
        let now = clock::now();
        let (over, left): (Vec<_>, Vec<_>) =
            self.armed.load().iter().cloned().partition(|armed| !armed.shown(now).active);
        let next = left.iter().filter_map(|armed| armed.until()).min();
        if !over.is_empty() {
            let mut past = lock(&self.past);
            past.extend(over.iter().map(|armed| armed.shown(now)));
            let most = past.len().saturating_sub(PAST);
            past.drain(..most);
            self.armed.store(Arc::new(left));
        }
        next
    }

    /// How many rules are armed.
    pub fn armed(&self) -> usize {
        self.armed.load().len()
    }

    /// The rules that are over, as far as they are remembered, and those that are armed.
    pub fn list(&self) -> Vec<Shown> {
        let now = clock::now();
        let past = lock(&self.past).clone();
        past.into_iter().chain(self.armed.load().iter().map(|armed| armed.shown(now))).collect()
    }

    /// How many faults were injected since the start.
    pub fn fired(&self) -> u64 {
        self.fired.load(Ordering::Relaxed)
    }

    /// A fault was injected by hand.
    pub fn count(&self) {
        self.fired.fetch_add(1, Ordering::Relaxed);
    }

    /// What happens to a request on its way to an upstream, if anything.
    pub fn on_the_way(&self, provider: &str, model: &str, session: Option<&str>) -> Option<NetworkFault> {
        self.first(|rule| match &rule.fault {
            Fault::Network(fault) if rule.hits_upstream(provider, model, session) => Some(fault.clone()),
            _ => None,
        })
    }

    /// What happens to a health check: what holds for everything that goes there. Counts as no hit, so that the
    /// timing of health checks moves no plan.
    pub fn on_a_check(&self, provider: &str) -> Option<NetworkFault> {
        let now = clock::now();
        let armed = self.armed.load();
        let outage = armed.iter().find(|armed| armed.rule.is_outage(provider) && armed.is_on(now))?;
        match &outage.rule.fault {
            Fault::Network(fault) => Some(fault.clone()),
            Fault::Actor(_) => None,
        }
    }

    /// The first rule that is hit, as `hit` says, and fires.
    fn first<F>(&self, hit: impl Fn(&Rule) -> Option<F>) -> Option<F> {
        let armed = self.armed.load();
        if armed.is_empty() {
            return None;
        }
        let now = clock::now();
        armed.iter().find_map(|armed| {
            let fault = hit(&armed.rule)?;
            if !armed.fires(self.seed.load(Ordering::Relaxed), now) {
                return None;
            }
            self.fired.fetch_add(1, Ordering::Relaxed);
            let what = armed.rule.text.fault.clone();
            tracing::warn!(rule = armed.id, fault = what, "injected a fault");
            Some(fault)
        })
    }
}

impl Interrupt for Injector {
    fn before(&self, path: &str, message: &'static str) -> Option<Interruption> {
        let fault = self.first(|rule| match rule.fault {
            Fault::Actor(fault) if rule.hits_actor(path, message) => Some(fault),
            _ => None,
        })?;
        Some(match fault {
            ActorFault::Kill => Interruption::Kill,
            ActorFault::Panic => Interruption::Panic,
            ActorFault::Delay(delay) => Interruption::Delay(delay),
            ActorFault::DropReply => Interruption::Drop,
        })
    }
}

// === impl Armed ===

impl Armed {
    /// When its time is over, if it has one.
    fn until(&self) -> Option<Instant> {
        self.rule.text.lasts.and_then(|lasts| self.since.checked_add(lasts))
    }

    fn is_on(&self, now: Instant) -> bool {
        self.until().is_none_or(|until| now < until)
    }

    /// Counts a hit; says whether it fires. In one step, so that the limit on their number holds.
    fn fires(&self, seed: u64, now: Instant) -> bool {
        let mut counts = lock(&self.counts);
        counts.hits += 1;
        let fires = self.rule.text.times.is_none_or(|times| counts.fired < times)
            && self.is_on(now)
            && self.rule.fires(seed, counts.hits);
        counts.fired += u64::from(fires);
        fires
    }

    fn shown(&self, now: Instant) -> Shown {
        let counts = *lock(&self.counts);
        let left = self.rule.text.times.is_none_or(|times| counts.fired < times);
        Shown {
            id: self.id,
            rule: self.rule.text.clone(),
            hits: counts.hits,
            fired: counts.fired,
            active: left && self.is_on(now),
        }
    }
}

/// What is held is plain figures, whole at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::time::Duration;

    use super::super::plan::Known;
    use super::*;

    fn armed(text: &str) -> Injector {
        let known =
            Known { actors: vec!["root/router".into()], providers: vec!["a".into()], ..Known::default() };
        let injector = Injector::new(1);
        injector.arm(vec![Rule::new(toml::from_str(text).unwrap(), &known).unwrap()]);
        injector
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_fires_as_often_and_as_long_as_it_says() {
        let injector = armed("fault = \"refuse\"\ntimes = 2\nevery = 2");
        let fired = (0..8).filter(|_| injector.on_the_way("a", "m", None).is_some()).count();
        assert_eq!((fired, injector.fired()), (2, 2));
        assert_eq!((injector.list()[0].hits, injector.list()[0].active), (8, false));
        let injector = armed("fault = \"refuse\"\nfor = \"10s\"");
        assert!(injector.on_the_way("a", "m", None).is_some());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(injector.on_the_way("a", "m", None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_that_is_over_is_disarmed_and_still_shown() {
        let injector = armed("fault = \"refuse\"\nfor = \"10s\"");
        let over = injector.retire().unwrap();
        assert_eq!((over - clock::now(), injector.armed()), (Duration::from_secs(10), 1));
        tokio::time::sleep_until(over.into()).await;
        assert_eq!((injector.retire(), injector.armed(), injector.list()[0].active), (None, 0, false));
        let injector = armed("fault = \"refuse\"\ntimes = 1");
        assert_eq!((injector.retire(), injector.armed()), (None, 1));
        assert!(injector.on_the_way("a", "m", None).is_some());
        assert_eq!((injector.retire(), injector.armed(), injector.list()[0].fired), (None, 0, 1));
        assert_eq!((injector.clear(), injector.list()), (0, Vec::new()));
    }

    #[test]
    fn an_outage_hits_health_checks_and_a_dice_does_not() {
        assert!(armed("fault = \"refuse\"").on_a_check("a").is_some());
        assert!(armed("fault = \"refuse\"\nprobability = 0.5").on_a_check("a").is_none());
        assert!(armed("fault = \"refuse\"\nmodel = \"m\"").on_a_check("a").is_none());
        assert!(armed("fault = \"panic\"").on_a_check("a").is_none());
    }

    #[test]
    fn what_is_cleared_fires_no_more() {
        let injector = armed("fault = \"panic\"\ntarget = \"router\"");
        assert_eq!(injector.before("root/router", "Rebuild"), Some(Interruption::Panic));
        assert_eq!(injector.before("root/config", "Look"), None);
        assert_eq!(injector.clear(), 1);
        assert_eq!(injector.before("root/router", "Rebuild"), None);
    }
}
