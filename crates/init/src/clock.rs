//! The clock of a stop.

use core::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Time since some moment, by a clock that is never set (`CLOCK_MONOTONIC`, `clock_gettime(2)`).
pub(crate) fn now() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// Time since 1970, by the clock that people look at.
pub(crate) fn since_1970() -> Duration {
    duration(clock_gettime(ClockId::Realtime))
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
