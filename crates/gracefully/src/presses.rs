//! Signals that ask for a stop, heard by a thread of their own.
//!
//! A thread, and not a task of the runtime: it hears also when every thread of the runtime is busy, and then it is the one who can
//! still end the process. It asks signal-hook for the handlers, which exist from then on, whatever the runtime does.
//!
//! The mask of blocked signals is inherited, and a parent may have blocked SIGTERM for everybody it starts. The thread unblocks
//! in itself what it waits for; one thread that does not block a signal is enough for the kernel (signal(7)).

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use gracefully_core::exit::SIGNAL_BASE;
use gracefully_core::signal::Signal;
use gracefully_linux::signals::unblock;
use signal_hook::iterator::{Handle, Signals};

/// Presses that follow each other more closely are one: a Ctrl-C that the terminal delivers and a parent passes on.
const ONE_PRESS: Duration = Duration::from_millis(250);

/// Whoever listens. Dropping it ends the listening.
#[derive(Debug)]
pub(crate) struct Presses {
    handle: Handle,
}

/// One press, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Press {
    /// What came.
    pub(crate) signal: Signal,
    /// Is it the first?
    pub(crate) first: bool,
}

impl Presses {
    /// From here on these signals do nothing but be told; the third ends the process.
    pub(crate) fn listen(signals: &[Signal], tell: impl Fn(Press) + Send + 'static) -> io::Result<Self> {
        let mut heard = Signals::new(signals.iter().map(|signal| i32::from(signal.number())))?;
        let handle = heard.handle();
        let signals = signals.to_vec();
        thread::Builder::new().name("gracefully".into()).spawn(move || {
            // If the kernel refuses, it is as it was.
            let _ = unblock(&signals);
            let mut counted = Counted::default();
            for number in heard.forever() {
                let Ok(signal) = Signal::from_number(number.into()) else { continue };
                match counted.count(Instant::now()) {
                    None => {}
                    Some(1) => tell(Press { signal, first: true }),
                    Some(2) => tell(Press { signal, first: false }),
                    Some(_) => signal_hook::low_level::exit((SIGNAL_BASE + signal.number()).into()),
                }
            }
        })?;
        Ok(Self { handle })
    }
}

impl Drop for Presses {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// How many presses there were.
#[derive(Debug, Default)]
struct Counted {
    presses: u8,
    last: Option<Instant>,
}

impl Counted {
    /// Which press this is; `None`: it belongs to the one before.
    fn count(&mut self, now: Instant) -> Option<u8> {
        // Of a burst each is measured against the first, so that a flood is not one press for ever.
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < ONE_PRESS) {
            return None;
        }
        self.last = Some(now);
        self.presses = self.presses.saturating_add(1);
        Some(self.presses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_at_once_is_one_press() {
        let start = Instant::now();
        let mut counted = Counted::default();
        let at = |ms| start + Duration::from_millis(ms);
        let told: Vec<_> = [0, 2, 249, 250, 300, 499, 500].iter().map(|&ms| counted.count(at(ms))).collect();
        assert_eq!(told, [Some(1), None, None, Some(2), None, None, Some(3)]);
    }

    #[test]
    fn a_flood_is_no_single_press() {
        let start = Instant::now();
        let mut counted = Counted::default();
        let presses = (0..400).filter_map(|n| counted.count(start + Duration::from_millis(5 * n))).count();
        assert_eq!(presses, 8, "one in every quarter of two seconds");
    }
}
