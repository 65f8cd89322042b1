//! Giving memory back when there is nothing to do. There is a monitor for every container, and it waits most of the time.
//!
//! The very last thing before the thread sleeps is the right moment: everything that runs after it would map its code
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long nothing must have happened.
pub(super) const QUIET: Duration = Duration::from_millis(500);

/// Whether memory is given back when the thread goes to sleep next.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<AtomicBool>);

impl Idle {
    /// Nothing has happened for some time.
    pub(super) fn is_due(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The thread goes to sleep.
    pub(super) fn on_park(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            gracefully_linux::memory::release_code();
        }
    }
}
