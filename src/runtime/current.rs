//! Which actor's handler runs on this thread, for those who log what goes wrong in it.

use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    static ACTOR: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Runs a handler of the actor with this path.
pub fn within<T>(actor: &Arc<str>, handler: impl FnOnce() -> T) -> T {
    struct Leave(Option<Arc<str>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            let before = self.0.take();
            let _ = ACTOR.try_with(|actor| actor.replace(before)); // the thread ends: nobody asks any more
        }
    }
    let _leave = Leave(ACTOR.with(|current| current.replace(Some(actor.clone()))));
    handler()
}

/// The path of the actor whose handler runs here, if one does.
pub fn actor() -> Option<Arc<str>> {
    ACTOR.try_with(|actor| actor.try_borrow().ok().and_then(|actor| actor.clone())).ok().flatten()
}
