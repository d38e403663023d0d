//! Panics that a test injects are contained and say nothing of interest: they are not printed. All others are, and are
//! noted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use cproxy::runtime::panic_text;

/// What those that nobody injected said.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether those are not printed either.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Whether what nobody injected is not printed either: where something is to go wrong, it is enough to note it.
#[allow(dead_code)] // of use where mistakes are made on purpose
pub fn silent(silent: bool) {
    SILENT.store(silent, Ordering::Relaxed);
}

/// From now on, in all tests of this target, only panics that nobody injected are printed.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !panic_text(info.payload()).ends_with("injected") {
                SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
                if !SILENT.load(Ordering::Relaxed) {
                    usual(info);
                }
            }
        }));
    });
}

/// The panics that nobody injected, since the last time that somebody asked. They are contained like all others; a run
/// complains of them.
pub fn seen() -> Vec<String> {
    std::mem::take(&mut *SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}
