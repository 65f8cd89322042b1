//! How much processor time looking may take, so that the programs that are looked at have the rest.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::clock::processor_time;

/// The shortest time between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(1);

/// The longest.
const LOOK_AT_LEAST: Duration = Duration::from_millis(500);

/// The part of a processor that all looking of this process may take: one in twenty.
const SHARE: u32 = 20;

/// How many agents there are, who have to make do with that.
static AGENTS: AtomicU32 = AtomicU32::new(0);

/// One of those who look.
#[derive(Debug)]
pub(crate) struct Counted(());

impl Counted {
    pub(crate) fn new() -> Self {
        AGENTS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        AGENTS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long to do nothing after something that was begun with so much processor time used.
pub(crate) fn pause_after(began: Duration) -> Duration {
    let sharing = AGENTS.load(Ordering::Relaxed).max(1);
    (processor_time().saturating_sub(began) * SHARE * sharing).clamp(LOOK, LOOK_AT_LEAST)
}
