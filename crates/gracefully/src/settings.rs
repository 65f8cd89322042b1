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

/// How long the whole stop may take.
const GRACE: &str = "GRACEFULLY_GRACE";

/// How long it may settle.
const SETTLE: &str = "GRACEFULLY_SETTLE";

/// Why a stop began: what [`Ended::cause`](crate::Ended::cause) says.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
/// shutdown.trigger("the disk is full");
/// assert_eq!(*shutdown.wait().await.cause(), gracefully::Cause::Triggered("the disk is full".into()));
/// # Ok(()) }
/// ```
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
    budget: Timeout,
    /// `None`: nobody has said.
    settle: Option<Duration>,
    reserve: Duration,
    quit: bool,
    signals: bool,
    /// What is wrong with the environment.
    wrong: Option<String>,
}

impl Default for Builder {
    fn default() -> Self {
        // Whoever presses Ctrl-C has no load balancer.
        let builder =
            Self::from_environment(|name| env::var_os(name).map(|text| text.to_string_lossy().into_owned()));
        if io::stdin().is_terminal() { builder.settle(Duration::ZERO) } else { builder }
    }
}

impl Builder {
    /// The usual settings, where the environment says nothing else. A variable that is empty is not there.
    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut wrong = None;
        let mut time = |name: &str| {
            let text = variable(name).filter(|text| !text.is_empty())?;
            let time = parse_duration(&text);
            if time.is_none() {
                wrong = Some(format!("{name} is {text:?}, which is no time such as 10s"));
            }
            time
        };
        // As gracefully-init and docker have it, a negative number is for ever.
        let budget = match variable(GRACE) {
            Some(text) if text.starts_with('-') => Timeout::Never,
            _ => timeout(time(GRACE).unwrap_or(BUDGET)),
        };
        // As long as there is time, says `auto` to gracefully-init; then nothing is left for drain.
        let settle = match variable(SETTLE).as_deref() {
            Some("auto") => Some(budget.limit().unwrap_or(BUDGET) / 2),
            _ => time(SETTLE),
        };
        Self { budget, settle, reserve: RESERVE, quit: false, signals: true, wrong }
    }

    /// The whole stop may take so long. Unless said: `GRACEFULLY_GRACE` (`30`, `30s`, `1m30s`; `-1` is for ever), as
    /// `gracefully-init` has it, else 10 s.
    #[must_use]
    pub fn budget(self, budget: Duration) -> Self {
        Self { budget: timeout(budget), ..self }
    }

    /// Go on as if nothing had happened until no task, connection or request has begun for a second, so long at most: load balancers
    /// take time to turn elsewhere. Unless said: `GRACEFULLY_SETTLE`, a time or `auto` for half of the budget; else what a registry asks for
    /// (feature `registry`), else not at all. On a terminal not at all.
    #[must_use]
    pub fn settle(self, settle: Duration) -> Self {
        Self { settle: Some(settle), ..self }
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
    /// Fails with `InvalidInput` if a variable of the environment is no time, or if the budget has no room for settle and reserve;
    /// and if the system has no thread for it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn install(self) -> io::Result<Shutdown> {
        let invalid = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let Self { budget, settle, reserve, wrong, .. } = &self;
        if let Some(wrong) = wrong {
            return invalid(wrong.clone());
        }
        let settle = settle.unwrap_or_default();
        let has_room = |budget: Duration| budget.is_zero() || settle.saturating_add(*reserve) < budget;
        if !budget.limit().is_none_or(has_room) {
            return invalid(format!(
                "a budget of {budget} has no room for {settle:?} of settle and a reserve of {reserve:?}"
            ));
        }
        Shutdown::new(&self)
    }

    /// How long it may settle, if anybody has said so.
    pub(crate) fn settles(&self) -> Option<Duration> {
        self.settle
    }

    /// The end of the budget, if it has one.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.budget.limit()
    }

    /// The signals that ask for the stop.
    pub(crate) fn signals(&self) -> Vec<Signal> {
        let all = [Signal::TERM, Signal::INT].into_iter().chain(self.quit.then_some(Signal::QUIT));
        all.filter(|_| self.signals).collect()
    }

    /// What there is to do, and when.
    pub(crate) fn plan(
        &self,
        signal: Option<Signal>,
        settle: Duration,
        deregisters: bool,
        flushes: bool,
    ) -> Plan {
        let settings = Settings {
            timeout: Some(Sourced::new(self.budget, Source::Container)),
            signal: signal.map(|signal| Sourced::new(signal, Source::Request)),
        };
        let settles = Settle { quiet: QUIET.min(settle), at_most: settle };
        let work = Work {
            deregister: deregisters,
            settle: (!settle.is_zero()).then_some(settles),
            drain: Some(NewConnections::Serve),
            flush: if flushes { self.reserve } else { Duration::ZERO },
            reach: Reach::Own,
            ..Work::default()
        };
        Plan::new(Policy::resolve(&Request::default(), &settings), work)
    }
}

/// A budget. What is longer than clocks can count is for ever.
fn timeout(budget: Duration) -> Timeout {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    if budget > LONGEST { Timeout::Never } else { Timeout::After(budget) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_what_nobody_else_has() {
        let read = |grace: &str, settle: &str| {
            let variables = [(GRACE, grace.to_owned()), (SETTLE, settle.to_owned())];
            let it = Builder::from_environment(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, text)| text.clone())
            });
            (it.limit().map(|limit| limit.as_millis()), it.settle.unwrap_or_default().as_millis(), it.wrong)
        };
        assert_eq!(read("", ""), (Some(10_000), 0, None));
        assert_eq!(read("30", "500ms"), (Some(30_000), 500, None));
        assert_eq!(read("1m", "auto"), (Some(60_000), 30_000, None));
        assert_eq!(read("-1", "auto"), (None, 5_000, None));
        assert_eq!(read("18446744073709551614", ""), (None, 0, None));
        for (grace, settle, named) in
            [("soon", "", "GRACEFULLY_GRACE is \"soon\""), ("", "-1", "GRACEFULLY_SETTLE")]
        {
            let (.., wrong) = read(grace, settle);
            assert!(wrong.as_ref().is_some_and(|wrong| wrong.starts_with(named)), "{wrong:?}");
        }
    }

    #[test]
    fn flush_has_its_reserve_and_drain_the_rest() {
        let builder =
            Builder { budget: Timeout::After(Duration::from_secs(20)), settle: None, ..Builder::default() };
        let ends = builder.reserve(Duration::from_secs(3)).plan(None, Duration::ZERO, true, true).ends;
        let ends = [ends.deregister, ends.traffic, ends.terminate, ends.kill]
            .map(|end| end.map(|end| end.as_secs()));
        assert_eq!(ends, [Some(2), Some(17), Some(17), Some(20)]);
    }
}
