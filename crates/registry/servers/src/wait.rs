//! Waiting for a fact.

use std::thread::park_timeout;
use std::time::{Duration, Instant};

/// How long anything may take that takes no time.
const SOON: Duration = Duration::from_secs(20);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(1);

/// Waits until there is something, and returns it.
///
/// # Panics
/// If there is nothing after twenty seconds.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < SOON, "not within 20 s: {what}");
        park_timeout(LOOK);
    }
}
