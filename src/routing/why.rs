//! Why a candidate stands where it stands, and why another was passed over. Small values on the request's
//! path; words only when somebody reads them (`Display`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::table::Usable;

/// Why a candidate stands where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What named it.
    pub reason: Reason,
    /// Its tier.
    pub tier: u32,
    /// How it was ordered among its equals; `None` if it had none.
    pub order: Option<Order>,
    /// The session was served there before.
    pub sticky: bool,
    /// What counts against it.
    pub demoted: Option<Demotion>,
    /// What stands against it now, if it is a last resort.
    pub blocked: Option<Blocked>,
}

/// How a candidate was ordered among its equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By what these words say.
    By(&'static str),
    /// By what the request may cost there, in millionths of a US dollar (`None`: unknown, and so last), as these
    /// words say.
    Price(&'static str, Option<u64>),
}

/// What named a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller named the provider beside the model.
    Named,
    /// The model was written `provider/model`.
    Prefixed,
    /// A rule, by its name.
    Rule(Arc<str>),
    /// An alias, by its pattern.
    Alias(Arc<str>),
    /// The provider lists the model by name.
    Listed,
    /// The provider lists a glob that matches the model.
    Glob(Arc<str>),
    /// `default_provider`: nobody who lists the model can be asked.
    Default,
    /// The only provider there is.
    Only,
    /// `fallback_provider`.
    Fallback,
}

/// What counts against a candidate without excluding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Demotion {
    /// It does not do what the request would like, or nobody said that it does.
    Unsure(Need),
    /// Input and wished output together may not fit.
    TightWindow,
}

/// What a request needs of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Streamed answers.
    Streaming,
    /// Tools.
    Tools,
    /// Reasoning.
    Reasoning,
    /// Images in messages.
    Images,
    /// Documents in messages.
    Documents,
    /// A web search of the server's.
    WebSearch,
}

/// What stands against a candidate for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// All its places are taken.
    Full,
    /// Its rate limits have no room at this moment.
    NoHeadroom,
    /// The upstream asked not to be asked for this long.
    Embargo(Duration),
    /// Its breaker is open for this long.
    Breaker(Duration),
    /// Its health check fails.
    Unhealthy,
    /// Its actor is being started again.
    Down,
}

/// Why one was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// There is no provider of that name.
    UnknownProvider,
    /// It may not be chosen.
    Unusable(Usable),
    /// It is asked with the caller's own credential, and the caller sent none.
    NoCredential,
    /// The request names no model, and neither does the provider's config.
    NoModel,
    /// It does not do what the request needs.
    Lacks(Need),
    /// The input does not fit.
    Window {
        /// Estimated tokens of input.
        input: u64,
        /// The window.
        window: u64,
    },
    /// It does not list the model.
    NotListed,
    /// Others were named by the caller, a rule or an alias.
    NotNamed,
}

// === impl Blocked ===

impl Blocked {
    /// How bad it is to ask all the same: first how long it lasts, then what it is.
    pub(super) fn badness(self) -> (Duration, u8) {
        match self {
            Blocked::Full => (Duration::ZERO, 0),
            Blocked::NoHeadroom => (Duration::ZERO, 1),
            Blocked::Embargo(left) => (left, 2),
            Blocked::Breaker(left) => (left, 3),
            // A restart takes well under a second; a failed probe tells nothing of when it is over.
            Blocked::Down => (Duration::from_secs(1), 4),
            Blocked::Unhealthy => (Duration::from_secs(1), 5),
        }
    }
}

// === Display ===

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sticky {
            f.write_str("served this session before; ")?;
        }
        write!(f, "{}", self.reason)?;
        match self.order {
            Some(order) => write!(f, "; tier {}, {order}", self.tier)?,
            None if matches!(self.reason, Reason::Listed | Reason::Glob(_)) => {
                write!(f, "; tier {}", self.tier)?;
            }
            None => {}
        }
        if let Some(demoted) = self.demoted {
            write!(f, "; behind others: {demoted}")?;
        }
        if let Some(blocked) = self.blocked {
            write!(f, "; {blocked}: a last resort")?;
        }
        Ok(())
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Order::By(words) => f.write_str(words),
            Order::Price(words, Some(micros)) => {
                write!(f, "{words} (about ${}.{:06})", micros / 1_000_000, micros % 1_000_000)
            }
            Order::Price(words, None) => write!(f, "{words} (unknown, so last)"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Named => f.write_str("named by the caller"),
            Reason::Prefixed => f.write_str("named in front of the model"),
            Reason::Rule(name) => write!(f, "target of rule \"{name}\""),
            Reason::Alias(pattern) => write!(f, "target of alias \"{pattern}\""),
            Reason::Listed => f.write_str("lists the model"),
            Reason::Glob(glob) => write!(f, "lists \"{glob}\""),
            Reason::Default => f.write_str("the default provider: nobody who lists the model can be asked"),
            Reason::Only => f.write_str("the only provider"),
            Reason::Fallback => f.write_str("the fallback provider"),
        }
    }
}

impl fmt::Display for Demotion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Demotion::Unsure(need) => write!(f, "not known to do {need}"),
            Demotion::TightWindow => f.write_str("input and output together may exceed its context window"),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::Streaming => "streaming",
            Need::Tools => "tools",
            Need::Reasoning => "reasoning",
            Need::Images => "images",
            Need::Documents => "documents",
            Need::WebSearch => "web search",
        })
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocked::Full => f.write_str("all its places are taken"),
            Blocked::NoHeadroom => f.write_str("its rate limit is used up"),
            Blocked::Embargo(left) => write!(f, "asked to be left alone for {}", Seconds(*left)),
            Blocked::Breaker(left) => write!(f, "its breaker is open for {}", Seconds(*left)),
            Blocked::Unhealthy => f.write_str("its health check fails"),
            Blocked::Down => f.write_str("its actor is starting again"),
        }
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::UnknownProvider => f.write_str("there is no provider of this name"),
            WhyNot::Unusable(Usable::Ready) => f.write_str("not usable"),
            WhyNot::Unusable(Usable::NoKey(looked)) => write!(f, "no key: {looked}"),
            WhyNot::Unusable(Usable::Disabled) => f.write_str("disabled"),
            WhyNot::Unusable(Usable::Draining) => f.write_str("being taken out"),
            WhyNot::NoCredential => {
                f.write_str("it takes the caller's own credential, and the caller sent none")
            }
            WhyNot::NoModel => f.write_str("the request names no model, and it has no default_model"),
            WhyNot::Lacks(need) => write!(f, "does not do {need}"),
            WhyNot::Window { input, window } => {
                write!(f, "about {input} tokens of input do not fit its window of {window}")
            }
            WhyNot::NotListed => f.write_str("does not list the model"),
            WhyNot::NotNamed => f.write_str("not among those named for this request"),
        }
    }
}

/// A wait, for people: whole seconds, rounded up.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        write!(f, "{seconds} s")
    }
}
