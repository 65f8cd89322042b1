//! For programs without an asynchronous runtime: a flag, and something to wait for.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! let stop = gracefully::blocking::Stop::install()?;
//! while !stop.is_requested() {
//!     // one piece of work
//! }
//! # Ok(()) }
//! ```

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use gracefully_core::signal::Signal;

use crate::presses::Presses;

/// SIGTERM and SIGINT, as a flag.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::time::Duration;
///
/// let stop = gracefully::blocking::Stop::install()?;
/// // In place of a sleep between two pieces of work.
/// let requested = stop.wait_timeout(Duration::from_millis(1));
/// assert_eq!(requested, stop.is_requested());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Stop {
    requested: Arc<(Mutex<bool>, Condvar)>,
    _presses: Presses,
}

impl Stop {
    /// From here on SIGTERM and SIGINT set the flag; the third ends the process.
    pub fn install() -> io::Result<Self> {
        let requested = Arc::<(Mutex<bool>, Condvar)>::default();
        let told = Arc::clone(&requested);
        let presses = Presses::listen(&[Signal::TERM, Signal::INT], move |_| {
            *told.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
            told.1.notify_all();
        })?;
        Ok(Self { requested, _presses: presses })
    }

    /// Was the stop asked for?
    pub fn is_requested(&self) -> bool {
        *self.requested.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the stop is asked for.
    pub fn wait(&self) {
        let mut requested = self.requested.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*requested {
            requested = self.requested.1.wait(requested).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the stop is asked for, for so long at most; `false`: it was not. In place of a sleep.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let requested = self.requested.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.requested.1.wait_timeout_while(requested, limit, |requested| !*requested);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
