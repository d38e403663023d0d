//! Every handler ends with an answer: a panic, a cancelled call and a deadline become errors.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

/// Why a handler gave no result of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    /// The client cancelled the call or left, or the server stops.
    #[error("the call was cancelled, by the client or because the proxy stops")]
    Cancelled,
    /// The limit passed.
    #[error("no result within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// The handler panicked. The message stays in the log.
    #[error("an internal error stopped this call; other calls are not affected, and the log has the details")]
    Panicked,
}

/// Runs a handler's body. When it is cancelled or late the body is dropped, and with it whatever it holds
/// open upstream.
pub(crate) async fn guarded<T>(
    cancelled: &CancellationToken,
    limit: Duration,
    body: impl Future<Output = T>,
) -> Result<T, Ended> {
    tokio::select! {
        biased;
        () = cancelled.cancelled() => Err(Ended::Cancelled),
        result = AssertUnwindSafe(body).catch_unwind() => result.map_err(|panic| {
            let what = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            tracing::error!(panic = %what, "an MCP handler panicked");
            Ended::Panicked
        }),
        () = tokio::time::sleep(limit) => Err(Ended::TimedOut(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_a_deadline_and_a_cancellation_each_end_the_handler() {
        let token = CancellationToken::new();
        let minute = Duration::from_secs(60);
        assert_eq!(guarded(&token, minute, async { 7 }).await, Ok(7));
        assert_eq!(guarded(&token, minute, async { panic!("boom") }).await, Err::<(), _>(Ended::Panicked));
        let late = guarded(&token, Duration::from_millis(1), std::future::pending::<()>()).await;
        assert!(matches!(late, Err(Ended::TimedOut(_))));
        token.cancel();
        assert_eq!(guarded(&token, minute, async { 7 }).await, Err(Ended::Cancelled));
    }
}
