//! Waiting for facts.

use std::time::{Duration, Instant};

/// Longer than anything takes that happens at all, also on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Where an ordinary stop cannot be confused with one that waited for docker's ten seconds.
pub(crate) const NOT_TEN: Duration = Duration::from_secs(9);

/// Looks until `look` sees something; fails the test if that never happens.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "within {LONG:?} it did not happen that {what}");
        pause_between_looks();
    }
}

/// The interval of a poll.
#[expect(clippy::disallowed_methods, reason = "the interval of a poll, bounded by the caller's deadline")]
fn pause_between_looks() {
    std::thread::sleep(Duration::from_millis(20));
}
