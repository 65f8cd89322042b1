//! The clocks on which everything in this crate counts.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Now, on the kernel's monotonic clock. It did not begin with us: what the kernel tells of the time before, such as when a
/// connection last moved, has its place on it.
pub(crate) fn now() -> Duration {
    read(ClockId::Monotonic)
}

/// How much processor time this thread has used.
pub(crate) fn processor_time() -> Duration {
    read(ClockId::ThreadCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
