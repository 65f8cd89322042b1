//! When the restart policy starts a program again.

use core::time::Duration;

use gracefully_core::event::ExitStatus;

use crate::record::Restart;

/// Docker's pause before the first restart.
const FIRST: Duration = Duration::from_millis(100);

/// Docker's longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// A program that ran this long has started well: the next pause is the first again.
const WELL: Duration = Duration::from_secs(10);

/// The pauses between restarts: each twice as long as the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The pause after a run of this length.
    pub(crate) fn after(&mut self, run: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if run < WELL => (last * 2).min(LONGEST),
            Some(_) | None => FIRST,
        };
        self.last = Some(pause);
        pause
    }
}

/// Does the policy start it again? `restarts` is how often it has done so already.
pub(crate) fn wants(policy: Restart, status: ExitStatus, restarts: u32) -> bool {
    match policy {
        Restart::No => false,
        Restart::Always => true,
        Restart::OnFailure(most) => status != ExitStatus::Code(0) && most.is_none_or(|most| restarts < most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let millis: Vec<u128> = (0..12).map(|_| backoff.after(short).as_millis()).collect();
        let doubled = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(millis, doubled);
        assert_eq!(backoff.after(WELL), FIRST);
        assert_eq!(backoff.after(short), FIRST * 2);
    }

    #[test]
    fn the_policies() {
        use ExitStatus::{Code, Signal, Unknown};
        let killed = Signal(gracefully_core::signal::Signal::KILL);
        for status in [Code(0), Code(1), killed, Unknown] {
            assert!(!wants(Restart::No, status, 0));
            assert!(wants(Restart::Always, status, 1_000));
            assert_eq!(wants(Restart::OnFailure(None), status, 1_000), status != Code(0));
        }
        assert!(wants(Restart::OnFailure(Some(2)), Code(1), 1));
        assert!(!wants(Restart::OnFailure(Some(2)), Code(1), 2));
    }
}
