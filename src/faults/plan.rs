//! Fault plans: what to break, where, and when. Pure.
//!
//! A plan is TOML or JSON:
//!
//! ```toml
//! seed = 7                        # else [faults] seed
//!
//! [[rule]]
//! fault = "kill"                  # an actor, before it takes a message
//! target = "providers/openrouter"
//! probability = 0.01
//!
//! [[rule]]
//! fault = "cut"                   # an upstream's stream, after so many events
//! target = "openrouter"
//! after_events = 5
//! every = 10                      # each tenth request
//! times = 3                       # three times in all
//! for = "10m"                     # and not after ten minutes
//! ```
//!
//! Whether the k-th hit of a rule fires depends on the seed, the rule and k alone, never on what happens beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::runtime::splitmix64;

/// Most rules of a plan.
pub const MAX_RULES: usize = 1000;

/// How long an actor hangs when the rule does not say.
const HANG: Duration = Duration::from_secs(60);

/// A plan: a seed, and rules in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The seed, if the plan has one of its own.
    pub seed: Option<u64>,
    /// The rules; the first that fires wins.
    pub rules: Vec<Rule>,
}

/// A plan as written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PlanText {
    seed: Option<u64>,
    #[serde(rename = "rule", alias = "rules")]
    rules: Vec<RuleText>,
}

/// A rule as written: in a plan's file, on the command line, in a tool call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleText {
    /// What to break: `kill`, `panic`, `hang`, `delay`, `drop-reply` (actors); `refuse`, `status`, `reset`, `stall`,
    /// `stall-after-headers`, `stall-in-stream`, `cut`, `corrupt`, `split`, `trickle`, `slow` (the way to an upstream).
    pub fault: String,
    /// Where: an actor's path or a provider's name, with `*` and `?`; everywhere if not given. An upstream may be
    /// followed by a model: `openrouter/gpt-*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Actors: only before messages of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Upstreams: only requests for these models, with `*` and `?`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Upstreams: only requests of these sessions, with `*` and `?`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Each hit fires with this probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Only the n-th hit fires, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Each n-th hit fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// It fires so often at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// It is over so long after it was armed.
    #[serde(rename = "for", with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub lasts: Option<Duration>,
    /// How long `hang`, `delay` and `slow` take, and the pause between the pieces of `trickle`.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub delay: Option<Duration>,
    /// The same in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// `status`: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `status`: with these headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// `status`: with this body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// `cut`, `stall-in-stream`, `reset`, `corrupt`: after so many events of the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_events: Option<u64>,
    /// `split` and `trickle`: the size of a piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
}

/// A rule that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// As written.
    pub text: RuleText,
    /// What happens.
    pub fault: Fault,
    /// To whom.
    pub target: Target,
    /// At which hits.
    pub trigger: Trigger,
    /// Whether it is a command to kill now, not a trap for messages to come.
    pub at_once: bool,
    /// The rule's part in each draw.
    key: u64,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// To an actor.
    Actor(ActorFault),
    /// On the way to an upstream.
    Network(NetworkFault),
}

/// What happens to an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorFault {
    /// It is killed; the message is lost.
    Kill,
    /// Its handler panics.
    Panic,
    /// Its handler takes so long before it begins.
    Delay(Duration),
    /// The message is dropped, its reply with it.
    DropReply,
}

/// What happens on the way to an upstream.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFault {
    /// No connection.
    Refuse,
    /// An answer with this status.
    Status {
        /// The status.
        status: u16,
        /// Headers.
        headers: BTreeMap<String, String>,
        /// The body; that of an error of this status if not given.
        body: Option<String>,
    },
    /// The connection breaks: before the headers, or after so many events.
    Reset(Option<u64>),
    /// No headers, ever.
    Stall,
    /// Headers, and nothing more.
    StallAfterHeaders,
    /// So many events, and nothing more.
    StallInStream(u64),
    /// So many events, and the end.
    Cut(u64),
    /// The event after so many is no JSON.
    Corrupt(u64),
    /// The bytes come in pieces of this size, cut anywhere, in characters too.
    Split(usize),
    /// Pieces of this size, with a pause before each.
    Trickle(usize, Duration),
    /// The headers come so much later.
    Slow(Duration),
}

/// To whom it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Actors by path, and messages by name.
    Actor {
        /// A glob on the path from the root.
        path: String,
        /// The name of the message.
        message: Option<String>,
    },
    /// Requests to upstreams.
    Upstream {
        /// A glob on the provider.
        provider: String,
        /// A glob on the model.
        model: Option<String>,
        /// A glob on the session.
        session: Option<String>,
    },
}

/// At which hits a rule fires.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trigger {
    /// At each.
    Always,
    /// With this probability.
    Probability(f64),
    /// At the n-th.
    Nth(u64),
    /// At each n-th.
    Every(u64),
}

/// The actors and providers that there are.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Actors, by path.
    pub actors: Vec<String>,
    /// Those among them whose messages a plan leaves alone: such an actor can be killed at once, and nothing else.
    pub aloof: Vec<String>,
    /// Providers, by name.
    pub providers: Vec<String>,
}

/// Why a text is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not TOML or JSON of the right shape.
    #[error("the fault plan can't be read: {0}")]
    Syntax(String),
    /// A rule that says what can't be.
    #[error("fault rule {number}: {reason}")]
    Rule {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// Too many rules.
    #[error("a fault plan may have {MAX_RULES} rules, not {0}")]
    TooMany(usize),
}

// === impl Plan ===

impl Plan {
    /// Reads a plan: JSON if it starts with a brace, else TOML. Targets that nobody in `known` matches are refused.
    ///
    /// # Errors
    /// When it can't be read, or a rule is wrong: which, and why.
    pub fn parse(text: &str, known: &Known) -> Result<Plan, PlanError> {
        let text: PlanText = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| PlanError::Syntax(error.to_string()))?
        } else {
            toml::from_str(text).map_err(|error| PlanError::Syntax(error.to_string()))?
        };
        Plan::of(text.seed, text.rules, known)
    }

    /// A plan of rules as written.
    ///
    /// # Errors
    /// When a rule is wrong: which, and why.
    pub fn of(seed: Option<u64>, rules: Vec<RuleText>, known: &Known) -> Result<Plan, PlanError> {
        if rules.len() > MAX_RULES {
            return Err(PlanError::TooMany(rules.len()));
        }
        let check = |(at, text): (usize, RuleText)| {
            Rule::new(text, known).map_err(|reason| PlanError::Rule { number: at + 1, reason })
        };
        let rules = rules.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
        Ok(Plan { seed, rules })
    }
}

// === impl Rule ===

/// The names of all faults, for messages.
const NAMES: &str = "kill, panic, hang, delay, drop-reply (actors); refuse, status, reset, stall, stall-after-headers, \
                     stall-in-stream, cut, corrupt, split, trickle, slow (the way to an upstream)";

impl Rule {
    /// Checks a rule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: RuleText, known: &Known) -> Result<Rule, String> {
        let fault = fault_of(&text)?;
        let trigger = match (text.probability, text.nth, text.every) {
            (None, None, None) => Trigger::Always,
            (Some(p), None, None) if (0.0..=1.0).contains(&p) => Trigger::Probability(p),
            (Some(p), None, None) => return Err(format!("probability = {p} is not between 0 and 1")),
            (None, Some(0), None) | (None, None, Some(0)) => {
                return Err("nth and every count from 1".to_owned());
            }
            (None, Some(n), None) => Trigger::Nth(n),
            (None, None, Some(n)) => Trigger::Every(n),
            _ => return Err("only one of probability, nth and every may be given".to_owned()),
        };
        let at_once =
            fault == Fault::Actor(ActorFault::Kill) && text.message.is_none() && trigger == Trigger::Always;
        let target = match &fault {
            Fault::Actor(_) => actor_target(&text, known, at_once)?,
            Fault::Network(_) => upstream_target(&text, known)?,
        };
        // FNV-1a over the rule as written: the same rule draws the same, wherever it stands in a plan.
        let written = serde_json::to_vec(&text).unwrap_or_default();
        let key = written.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        Ok(Rule { text, fault, target, trigger, at_once, key })
    }

    /// Whether hit number `k`, counted from 1, fires, its limits in number and time apart.
    pub fn fires(&self, seed: u64, k: u64) -> bool {
        match self.trigger {
            Trigger::Always => true,
            Trigger::Nth(n) => k == n,
            Trigger::Every(n) => k.is_multiple_of(n),
            Trigger::Probability(p) => {
                let draw = splitmix64(splitmix64(seed ^ self.key).wrapping_add(k));
                ((draw >> 11) as f64) / ((1u64 << 53) as f64) < p
            }
        }
    }

    /// Whether a message to an actor is a hit.
    pub fn hits_actor(&self, path: &str, name: &str) -> bool {
        match &self.target {
            Target::Actor { path: glob, message } => {
                fits(glob, path) && message.as_ref().is_none_or(|glob| fits(glob, name))
            }
            Target::Upstream { .. } => false,
        }
    }

    /// Whether a request to an upstream is a hit.
    pub fn hits_upstream(&self, to: &str, of: &str, by: Option<&str>) -> bool {
        match &self.target {
            Target::Upstream { provider, model, session } => {
                fits(provider, to)
                    && model.as_ref().is_none_or(|glob| fits(glob, of))
                    && session.as_ref().is_none_or(|glob| by.is_some_and(|by| fits(glob, by)))
            }
            Target::Actor { .. } => false,
        }
    }

    /// Whether it holds for everything that goes to the provider, health checks included.
    pub fn is_outage(&self, to: &str) -> bool {
        let Target::Upstream { provider, model: None, session: None } = &self.target else { return false };
        self.trigger == Trigger::Always && self.text.times.is_none() && fits(provider, to)
    }
}

fn fault_of(text: &RuleText) -> Result<Fault, String> {
    use ActorFault as A;
    use NetworkFault as N;
    let delay = text.delay.or(text.delay_ms.map(Duration::from_millis));
    let needed = || delay.ok_or_else(|| format!("{} needs delay = \"500ms\" or such", text.fault));
    let after = text.after_events.unwrap_or(1);
    let piece = |usual: usize| match text.bytes.unwrap_or(usual) {
        0 => Err("bytes must be at least 1".to_owned()),
        bytes => Ok(bytes),
    };
    Ok(match text.fault.as_str() {
        "kill" => Fault::Actor(A::Kill),
        "panic" => Fault::Actor(A::Panic),
        "hang" => Fault::Actor(A::Delay(delay.unwrap_or(HANG))),
        "delay" => Fault::Actor(A::Delay(needed()?)),
        "drop-reply" => Fault::Actor(A::DropReply),
        "refuse" => Fault::Network(N::Refuse),
        "status" => {
            let status = text.status.ok_or("status needs status = 529 or such")?;
            if !(400..=599).contains(&status) {
                return Err(format!("status = {status} is no error; it must be between 400 and 599"));
            }
            for (name, value) in &text.headers {
                if http::HeaderName::try_from(name).is_err() || http::HeaderValue::try_from(value).is_err() {
                    return Err(format!("{name}: {value} is no header"));
                }
            }
            Fault::Network(N::Status { status, headers: text.headers.clone(), body: text.body.clone() })
        }
        "reset" => Fault::Network(N::Reset(text.after_events)),
        "stall" => Fault::Network(N::Stall),
        "stall-after-headers" => Fault::Network(N::StallAfterHeaders),
        "stall-in-stream" => Fault::Network(N::StallInStream(after)),
        "cut" => Fault::Network(N::Cut(after)),
        "corrupt" => Fault::Network(N::Corrupt(after)),
        "split" => Fault::Network(N::Split(piece(3)?)),
        "trickle" => Fault::Network(N::Trickle(piece(16)?, delay.unwrap_or(Duration::from_millis(20)))),
        "slow" => Fault::Network(N::Slow(needed()?)),
        other => return Err(format!("there is no fault \"{other}\"; there are: {NAMES}")),
    })
}

fn actor_target(text: &RuleText, known: &Known, at_once: bool) -> Result<Target, String> {
    if text.model.is_some() || text.session.is_some() {
        return Err(format!("{} happens to an actor, which has no model and no session", text.fault));
    }
    let wanted = text.target.as_deref().unwrap_or("*");
    let written = [wanted.to_owned(), format!("root/{wanted}"), format!("root/providers/{wanted}")];
    let found = written.iter().find(|glob| known.actors.iter().any(|path| fits(glob, path)));
    let Some(path) = found else {
        return Err(format!("there is no actor \"{wanted}\"; there are: {}", known.actors.join(", ")));
    };
    let mut hit = known.actors.iter().filter(|actor| fits(path, actor));
    if !at_once && hit.all(|actor| known.aloof.contains(actor)) {
        return Err(format!(
            "{path} can only be killed at once: kill, without message, probability, nth and every"
        ));
    }
    Ok(Target::Actor { path: path.clone(), message: text.message.clone() })
}

fn upstream_target(text: &RuleText, known: &Known) -> Result<Target, String> {
    if text.message.is_some() {
        return Err(format!("{} happens on the way to an upstream, which takes no messages", text.fault));
    }
    let wanted = text.target.as_deref().unwrap_or("*");
    let (provider, model) = match wanted.split_once('/') {
        Some((provider, model)) => (provider, Some(model.to_owned())),
        None => (wanted, None),
    };
    if !known.providers.iter().any(|name| fits(provider, name)) {
        let known = known.providers.join(", ");
        return Err(format!("there is no provider \"{provider}\"; there are: {known}"));
    }
    let model = text.model.clone().or(model);
    Ok(Target::Upstream { provider: provider.to_owned(), model, session: text.session.clone() })
}

fn fits(glob: &str, text: &str) -> bool {
    WildMatch::new(glob).matches(text)
}

// === impl ActorFault ===

impl ActorFault {
    /// As the status says it.
    pub fn as_str(self) -> &'static str {
        match self {
            ActorFault::Kill => "kill",
            ActorFault::Panic => "panic",
            ActorFault::Delay(_) => "delay",
            ActorFault::DropReply => "drop-reply",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn known() -> Known {
        Known {
            actors: ["root/config", "root/providers", "root/providers/a", "root/router"]
                .map(String::from)
                .into(),
            aloof: vec!["root/config".into()],
            providers: vec!["a".into(), "b".into()],
        }
    }

    fn rule(text: &str) -> Result<Rule, String> {
        Rule::new(toml::from_str(text).unwrap(), &known())
    }

    #[test]
    fn a_plan_is_read_from_toml_and_from_json_alike() {
        let toml =
            "seed = 3\n[[rule]]\nfault = \"cut\"\ntarget = \"a/gpt-*\"\nafter_events = 4\nfor = \"2m\"\n";
        let json = r#"{"seed":3,"rules":[{"fault":"cut","target":"a/gpt-*","after_events":4,"for":"2m"}]}"#;
        let plan = Plan::parse(toml, &known()).unwrap();
        assert_eq!(plan, Plan::parse(json, &known()).unwrap());
        assert_eq!(plan.rules[0].fault, Fault::Network(NetworkFault::Cut(4)));
        assert!(plan.rules[0].hits_upstream("a", "gpt-5", None));
        assert!(!plan.rules[0].hits_upstream("a", "claude", None));
        assert!(!plan.rules[0].hits_upstream("b", "gpt-5", None));
    }

    #[test]
    fn what_can_not_be_is_refused_with_the_reason() {
        for (text, reason) in [
            ("fault = \"explode\"", "there is no fault \"explode\""),
            ("fault = \"kill\"\ntarget = \"rooter\"", "there is no actor \"rooter\"; there are: root/config"),
            ("fault = \"cut\"\ntarget = \"c\"", "there is no provider \"c\"; there are: a, b"),
            ("fault = \"status\"", "needs status"),
            ("fault = \"status\"\nstatus = 200", "no error"),
            ("fault = \"kill\"\nprobability = 1.5", "not between 0 and 1"),
            ("fault = \"kill\"\nnth = 0", "count from 1"),
            ("fault = \"kill\"\nnth = 1\nevery = 2", "only one of"),
            ("fault = \"kill\"\nmodel = \"x\"", "no model"),
            ("fault = \"cut\"\nmessage = \"Admit\"", "no messages"),
            ("fault = \"slow\"", "needs delay"),
            ("fault = \"panic\"\ntarget = \"config\"", "root/config can only be killed at once"),
            ("fault = \"kill\"\ntarget = \"config\"\nnth = 2", "root/config can only be killed at once"),
        ] {
            let error = rule(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(rule("fault = \"kill\"\ntarget = \"config\"").unwrap().at_once);
        let error = Plan::parse("[[rule]]\nfault = \"kill\"\n[[rule]]\nfault = \"x\"", &known()).unwrap_err();
        assert!(error.to_string().starts_with("fault rule 2: "), "{error}");
        assert!(Plan::parse("[[rule]]\nfoult = 1", &known()).is_err());
    }

    #[test]
    fn actors_are_named_by_path_with_or_without_the_root_and_providers_by_name() {
        for target in ["root/providers/a", "providers/a", "a"] {
            let rule = rule(&format!("fault = \"kill\"\ntarget = \"{target}\"")).unwrap();
            assert!(rule.hits_actor("root/providers/a", "Admit"), "{target}");
            assert!(!rule.hits_actor("root/router", "Rebuild"), "{target}");
        }
    }

    #[test]
    fn whether_a_hit_fires_depends_on_seed_rule_and_number_alone() {
        let one = rule("fault = \"kill\"\nprobability = 0.3").unwrap();
        let other = rule("fault = \"panic\"\nprobability = 0.3").unwrap();
        let of = |rule: &Rule, seed| (1..=10_000).map(|k| rule.fires(seed, k)).collect::<Vec<_>>();
        assert_eq!(of(&one, 1), of(&one, 1));
        assert_ne!(of(&one, 1), of(&one, 2));
        assert_ne!(of(&one, 1), of(&other, 1));
        let share = of(&one, 1).into_iter().filter(|fires| *fires).count();
        assert!((2_800..3_200).contains(&share), "{share}");
        let every = rule("fault = \"kill\"\nevery = 3").unwrap();
        assert_eq!((1..=9).filter(|k| every.fires(0, *k)).collect::<Vec<_>>(), [3, 6, 9]);
    }
}
