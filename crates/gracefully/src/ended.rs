//! The end of a stop, and of the process.

use std::fmt;
use std::io::{self, Write};

use gracefully_core::exit::FAILURE;
use gracefully_core::phase::Outcome;
use gracefully_core::report::{Reason, Report, Verdict};

use crate::settings::Cause;

/// A stop that is over. The process still runs: [`exit`](Self::exit) ends it.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let shutdown = gracefully::Shutdown::install()?;
/// let ended = shutdown.wait().await;
/// for part in &ended.report().parts {
///     // each hook, and each task that has not ended well
/// #   let _ = part;
/// }
/// ended.exit()
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "the process is to end: call exit"]
pub struct Ended {
    report: Report,
    cause: Cause,
}

impl Ended {
    pub(crate) fn new(report: Report, cause: Cause) -> Self {
        Self { report, cause }
    }

    /// Why it began: whoever was first.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What happened.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// 0 if everything was finished and every hook did what it was to do, else 1.
    pub fn code(&self) -> u8 {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Late);
        let all = self.report.verdict == Verdict::Graceful
            && !self.report.parts.iter().any(|part| failed(&part.outcome));
        if all { 0 } else { FAILURE }
    }

    /// Says in one line on standard error what happened, and ends the process with [`code`](Self::code).
    ///
    /// What was printed is flushed. Threads are not waited for, stuck or not, and destructors do not run: what has to be done at the
    /// end is a hook.
    pub fn exit(self) -> ! {
        self.say();
        end(self.code())
    }

    /// The same with an exit code of your own, for those whose supervisor tells failures apart.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// use gracefully::{Shutdown, Verdict};
    ///
    /// let ended = Shutdown::install()?.wait().await;
    /// match (ended.report().verdict, ended.code()) {
    ///     (Verdict::Forced, _) => ended.exit_with(143), // something was cut
    ///     (_, 0) => ended.exit(),
    ///     (_, _) => ended.exit_with(74), // a hook has failed
    /// }
    /// # }
    /// ```
    pub fn exit_with(self, code: u8) -> ! {
        self.say();
        end(code)
    }

    /// The same, but ends the process by the signal that has asked for the stop, for parents that want to see that. If none has, as
    /// [`exit`](Self::exit).
    pub fn re_raise(self) -> ! {
        self.say();
        let signal = self.report.signal;
        if signal.source == gracefully_core::policy::Source::Request {
            // It fails for signals that do not end a process.
            let _ = signal_hook::low_level::emulate_default_handler(signal.value.number().into());
        }
        end(self.code())
    }

    fn say(&self) {
        // Whoever has closed them does not read.
        let _ = writeln!(io::stderr(), "{self}");
        let _ = io::stdout().flush();
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "main may return, but the runtime then waits for blocking tasks"
)]
fn end(code: u8) -> ! {
    std::process::exit(code.into())
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { verdict, reason, took, budget, parts, .. } = &self.report;
        write!(
            f,
            "{verdict}: stopped after {}.{:02} s of {}",
            took.as_secs(),
            took.subsec_millis() / 10,
            budget.value
        )?;
        if let Reason::Cut(n) = reason {
            write!(f, "; {n} unfinished")?;
        }
        for part in parts {
            match &part.outcome {
                Outcome::Failed(why) => write!(f, "; {} ({}): {why}", part.name, part.phase)?,
                Outcome::Late => {
                    write!(f, "; {} ({}): not finished after {:.1?}", part.name, part.phase, part.took)?;
                }
                Outcome::Done | Outcome::Hurried | Outcome::Unheard | Outcome::Skipped(_) => {}
            }
        }
        Ok(())
    }
}
