//! Panics in the log: one line each, with its place, its thread and its actor, in place of raw text on stderr.
//! What the panic says passes the redaction and is bounded, since it may quote what was being handled.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::redact;

/// Panics since the start.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Most bytes of what a panic says.
const LIMIT: usize = 300;

thread_local! {
    static ACTOR: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Logs panics from now on.
pub fn install() {
    std::panic::set_hook(Box::new(report));
}

/// Panics since the start.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Runs a handler of this actor: a panic in it is logged with the actor's name.
pub fn within<T>(actor: &Arc<str>, handler: impl FnOnce() -> T) -> T {
    struct Leave(Option<Arc<str>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            let before = self.0.take();
            let _ = ACTOR.try_with(|actor| actor.replace(before));
        }
    }
    let _leave = Leave(ACTOR.with(|current| current.replace(Some(actor.clone()))));
    handler()
}

/// What a panic says, as it may be shown.
pub fn shown(text: &str) -> String {
    redact::body(text.as_bytes(), LIMIT).replace(char::is_control, " ")
}

fn report(panic: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let text = panic.payload_as_str().unwrap_or("no text");
    let actor =
        ACTOR.try_with(|actor| actor.try_borrow().ok().and_then(|actor| actor.clone())).ok().flatten();
    let thread = std::thread::current();
    tracing::error!(
        target: "cproxy::panic",
        panic = shown(text),
        at = panic.location().map(tracing::field::display),
        thread = thread.name(),
        actor = actor.as_deref(),
        "a panic was contained"
    );
}
