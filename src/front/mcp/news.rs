//! What happened to the daemon between two looks at it, in words, for clients that want log messages.
//!
//! Source: Model Context Protocol specification, "Logging" (levels as in RFC 5424).

#[allow(deprecated, reason = "the clients of today are told of logs this way")]
use rmcp::model::LoggingLevel;

use crate::actors::status::{ProviderStatus, Status};

/// One thing that happened.
#[allow(deprecated, reason = "the clients of today are told of logs this way")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct News {
    pub level: LoggingLevel,
    pub text: String,
}

/// Whether a client that set `wanted` is told of `level`.
#[allow(deprecated, reason = "the clients of today are told of logs this way")]
pub(crate) fn is_told(wanted: LoggingLevel, level: LoggingLevel) -> bool {
    rank(level) >= rank(wanted)
}

#[allow(deprecated, reason = "the clients of today are told of logs this way")]
fn rank(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}

/// What happened between two moments.
#[allow(deprecated, reason = "the clients of today are told of logs this way")]
pub(crate) fn between(before: &Status, now: &Status) -> Vec<News> {
    let mut all = Vec::new();
    let mut say = |level, text: String| all.push(News { level, text });
    if before.state != now.state {
        say(LoggingLevel::Notice, format!("the daemon is {}", now.state));
    }
    if before.config.last_reload != now.config.last_reload && now.config.last_reload != "ok" {
        say(LoggingLevel::Error, format!("the config on disk is refused: {}", now.config.last_reload));
    }
    if before.config.generation != now.config.generation {
        say(LoggingLevel::Notice, format!("a new config is in force (number {})", now.config.generation));
    }
    for actor in &now.actors {
        let past = before.actors.iter().find(|past| past.path == actor.path);
        if past.is_some_and(|past| past.restarts < actor.restarts) {
            let why = actor.last_failure.as_deref().unwrap_or("for no known reason");
            say(LoggingLevel::Warning, format!("{} ended and was started again: {why}", actor.path));
        }
        if actor.state == "quarantined" && past.is_none_or(|past| past.state != actor.state) {
            say(LoggingLevel::Error, format!("{} keeps failing and is quarantined", actor.path));
        }
    }
    for provider in &now.providers {
        match before.providers.iter().find(|past| past.name == provider.name) {
            None => {
                say(LoggingLevel::Notice, format!("provider {} is new: {}", provider.name, provider.state))
            }
            Some(past) => match (trouble(past), trouble(provider)) {
                (before, Some(now)) if before.as_ref().is_none_or(|before| *before != now) => {
                    say(LoggingLevel::Warning, format!("provider {} is not well: {now}", provider.name));
                }
                (Some(_), None) => {
                    say(LoggingLevel::Notice, format!("provider {} is well again", provider.name))
                }
                _ => {}
            },
        }
    }
    for past in &before.providers {
        if !now.providers.iter().any(|provider| provider.name == past.name) {
            say(LoggingLevel::Notice, format!("provider {} is gone", past.name));
        }
    }
    all
}

/// What ails a provider, without anything that changes by the second.
fn trouble(provider: &ProviderStatus) -> Option<String> {
    if provider.state != "ready" {
        return Some(provider.state.clone());
    }
    if !matches!(provider.health.as_str(), "ok" | "unknown" | "") {
        return Some(provider.health.clone());
    }
    let broken: Vec<&str> =
        provider.breakers.iter().map(|breaker| breaker.split(':').next().unwrap_or_default()).collect();
    (!broken.is_empty()).then(|| format!("breaker open for {}", broken.join(", ")))
}

#[cfg(test)]
#[allow(deprecated, reason = "the clients of today are told of logs this way")]
mod tests {
    use super::*;
    use crate::actors::status::ActorStatus;

    fn status(restarts: u64, health: &str, breaker: &str) -> Status {
        let mut status = Status { state: "serving".into(), ..Status::default() };
        status.config.last_reload = "ok".into();
        status.actors = vec![ActorStatus {
            path: "root/router".into(),
            state: "running".into(),
            restarts,
            last_failure: Some("killed".into()),
            ..ActorStatus::default()
        }];
        status.providers = vec![ProviderStatus {
            name: "a".into(),
            state: "ready".into(),
            health: health.into(),
            breakers: (!breaker.is_empty()).then(|| breaker.to_owned()).into_iter().collect(),
            ..ProviderStatus::default()
        }];
        status
    }

    fn told(before: &Status, now: &Status) -> Vec<(LoggingLevel, String)> {
        between(before, now).into_iter().map(|news| (news.level, news.text)).collect()
    }

    #[test]
    fn restarts_and_unwell_providers_are_warnings_and_recovery_a_notice() {
        let well = status(0, "ok", "");
        assert_eq!(told(&well, &well), []);
        let restarted = "root/router ended and was started again: killed".to_owned();
        assert_eq!(told(&well, &status(1, "ok", "")), [(LoggingLevel::Warning, restarted)]);
        let ill = status(0, "timeout", "");
        let unwell = "provider a is not well: timeout".to_owned();
        assert_eq!(told(&well, &ill), [(LoggingLevel::Warning, unwell)]);
        assert_eq!(told(&ill, &well), [(LoggingLevel::Notice, "provider a is well again".to_owned())]);
        let (open, still) = (status(0, "ok", "m: open for 12s"), status(0, "ok", "m: open for 11s"));
        let breaker = "provider a is not well: breaker open for m".to_owned();
        assert_eq!(told(&well, &open), [(LoggingLevel::Warning, breaker)]);
        assert_eq!(told(&open, &still), [], "time alone is no news");
    }

    #[test]
    fn a_refused_config_is_an_error_and_a_new_one_a_notice() {
        let well = status(0, "ok", "");
        let mut refused = well.clone();
        refused.config.last_reload = "line 3: no".into();
        let text = "the config on disk is refused: line 3: no".to_owned();
        assert_eq!(told(&well, &refused), [(LoggingLevel::Error, text)]);
        let mut taken = well.clone();
        taken.config.generation = 2;
        taken.providers.clear();
        let texts: Vec<String> = told(&well, &taken).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["a new config is in force (number 2)", "provider a is gone"]);
    }

    #[test]
    fn a_client_is_told_of_its_level_and_above() {
        assert!(is_told(LoggingLevel::Warning, LoggingLevel::Error));
        assert!(is_told(LoggingLevel::Warning, LoggingLevel::Warning));
        assert!(!is_told(LoggingLevel::Warning, LoggingLevel::Notice));
        assert!(is_told(LoggingLevel::Debug, LoggingLevel::Info));
    }
}
