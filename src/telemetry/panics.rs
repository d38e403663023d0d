//! Panics in the log: one line each, with its place, its thread and its actor, in place of raw text on stderr.
//! What the panic says passes the redaction and is bounded, since it may quote what was being handled.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};

use super::redact;
use crate::runtime::current;

/// Panics since the start.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Most bytes of what a panic says.
const LIMIT: usize = 300;

/// Logs panics from now on.
pub fn install() {
    std::panic::set_hook(Box::new(report));
}

/// Panics since the start.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn report(panic: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let text = panic.payload_as_str().unwrap_or("no text");
    let shown = redact::body(text.as_bytes(), LIMIT).replace(char::is_control, " ");
    tracing::error!(
        target: "cproxy::panic",
        panic = shown,
        at = panic.location().map(tracing::field::display),
        thread = std::thread::current().name(),
        actor = current::actor().as_deref(),
        "a panic was contained"
    );
}
