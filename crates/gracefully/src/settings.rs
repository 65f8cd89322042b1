//! What a service says about its stop.

use std::env;
use std::io::{self, IsTerminal};
use std::time::Duration;

use gracefully_core::plan::{NewConnections, Plan, Reach, Settle, Work};
use gracefully_core::policy::{Policy, Request, Settings, Source, Sourced, Timeout};
use gracefully_core::signal::Signal;
use gracefully_core::time::parse_duration;

use crate::shutdown::Shutdown;

/// How long the whole stop may take, if nobody says: as docker's stop timeout.
const BUDGET: Duration = Duration::from_secs(10);

/// What flush is sure of, if nobody says.
const RESERVE: Duration = Duration::from_secs(1);

/// No new work for so long: traffic has stopped.
const QUIET: Duration = Duration::from_secs(1);

/// Why a stop began.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// This signal came.
    Signal(String),
    /// The program itself wants it, for this reason.
    Triggered(String),
}

/// The settings of a [`Shutdown`] that is not installed yet.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use std::time::Duration;
///
/// let shutdown = gracefully::Shutdown::builder()
///     .budget(Duration::from_secs(30)) // as terminationGracePeriodSeconds
///     .settle(Duration::from_secs(5)) // load balancers need that long
///     .reserve(Duration::from_secs(3)) // flush is sure of it
///     .install()?;
/// # drop(shutdown); Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    budget: Duration,
    settle: Duration,
    reserve: Duration,
    quit: bool,
    signals: bool,
}

impl Default for Builder {
    fn default() -> Self {
        let variable = |name| env::var(name).ok().and_then(|text| parse_duration(&text));
        // Whoever presses Ctrl-C has no load balancer.
        let settle = if io::stdin().is_terminal() { None } else { variable("GRACEFULLY_SETTLE") };
        Self {
            budget: variable("GRACEFULLY_GRACE").unwrap_or(BUDGET),
            settle: settle.unwrap_or_default(),
            reserve: RESERVE,
            quit: false,
            signals: true,
        }
    }
}

impl Builder {
    /// The whole stop may take so long. Unless said: `GRACEFULLY_GRACE` in seconds, as `gracefully-init` has it, else 10 s.
    #[must_use]
    pub fn budget(self, budget: Duration) -> Self {
        Self { budget, ..self }
    }

    /// Go on as if nothing had happened until no new task has begun for a second, so long at most: load balancers take time to turn
    /// elsewhere. Unless said: `GRACEFULLY_SETTLE` in seconds, else not at all; and not at all on a terminal.
    #[must_use]
    pub fn settle(self, settle: Duration) -> Self {
        Self { settle, ..self }
    }

    /// Flush is sure of so much of the budget, of a fifth at most. Unless said: 1 s.
    #[must_use]
    pub fn reserve(self, reserve: Duration) -> Self {
        Self { reserve, ..self }
    }

    /// SIGQUIT asks for the stop, too.
    #[must_use]
    pub fn quit(self) -> Self {
        Self { quit: true, ..self }
    }

    /// No signal asks for the stop, only [`Shutdown::trigger`]; and nothing ends the process if the stop hangs. For tests.
    #[must_use]
    pub fn without_signals(self) -> Self {
        Self { signals: false, ..self }
    }

    /// Installs it: from here on signals are heard. Several may be installed; each of them hears every signal.
    ///
    /// Fails with `InvalidInput` if the budget has no room for settle and reserve, and if the system has no thread for it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn install(self) -> io::Result<Shutdown> {
        let Self { budget, settle, reserve, .. } = &self;
        if settle.saturating_add(*reserve) >= *budget && !budget.is_zero() {
            let text = format!(
                "a budget of {budget:?} has no room for {settle:?} of settle and a reserve of {reserve:?}"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Shutdown::new(&self)
    }

    pub(crate) fn budget_value(&self) -> Duration {
        self.budget
    }

    /// The signals that ask for the stop.
    pub(crate) fn signals(&self) -> Vec<Signal> {
        let all = [Signal::TERM, Signal::INT].into_iter().chain(self.quit.then_some(Signal::QUIT));
        all.filter(|_| self.signals).collect()
    }

    /// What there is to do, and when.
    pub(crate) fn plan(&self, signal: Option<Signal>, deregisters: bool, flushes: bool) -> Plan {
        let settings = Settings {
            timeout: Some(Sourced::new(Timeout::After(self.budget), Source::Container)),
            signal: signal.map(|signal| Sourced::new(signal, Source::Request)),
        };
        let settle = Settle { quiet: QUIET.min(self.settle), at_most: self.settle };
        let work = Work {
            deregister: deregisters,
            settle: (!self.settle.is_zero()).then_some(settle),
            drain: Some(NewConnections::Serve),
            flush: if flushes { self.reserve } else { Duration::ZERO },
            reach: Reach::Own,
            ..Work::default()
        };
        Plan::new(Policy::resolve(&Request::default(), &settings), work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flush_has_its_reserve_and_drain_the_rest() {
        let builder =
            Builder { budget: Duration::from_secs(20), settle: Duration::ZERO, ..Builder::default() };
        let ends = builder.reserve(Duration::from_secs(3)).plan(None, true, true).ends;
        let ends = [ends.deregister, ends.traffic, ends.terminate, ends.kill]
            .map(|end| end.map(|end| end.as_secs()));
        assert_eq!(ends, [Some(2), Some(17), Some(17), Some(20)]);
    }
}
