//! The clock on which everything in this crate counts.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Now, on the kernel's monotonic clock. It did not begin with us: what the kernel tells of the time before, such as when a
/// connection last moved, has its place on it.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
