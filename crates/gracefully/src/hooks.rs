//! What a service wants done in a phase.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use gracefully_core::phase::Phase as Core;
use tokio::time::Instant;

/// The phases that have hooks: see [`Shutdown::on`](crate::Shutdown::on).
///
/// ```
/// use gracefully::Phase;
/// assert!(Phase::Deregister < Phase::Drain && Phase::Drain < Phase::Flush); // in this order
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Leave service discovery; the service still serves.
    Deregister,
    /// Finish what was begun.
    Drain,
    /// Make data durable. Always runs, and has a reserve of time.
    Flush,
}

impl Phase {
    pub(crate) fn core(self) -> Core {
        match self {
            Self::Deregister => Core::Deregister,
            Self::Drain => Core::Drain,
            Self::Flush => Core::Flush,
        }
    }
}

/// What a hook may know.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # use gracefully::Phase;
/// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
/// shutdown.on(Phase::Flush, "upload", async |context: gracefully::Context| {
///     if context.remaining() < std::time::Duration::from_millis(100) {
///         return Err("there is no time for it");
///     }
///     Ok(())
/// });
/// # shutdown.trigger("test");
/// # assert_eq!(shutdown.wait().await.code(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub(crate) deadline: Option<Instant>,
}

impl Context {
    /// How long the hook may still take. Then it is aborted.
    pub fn remaining(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// What a hook may give: nothing, or a result of which the error goes into the report.
///
/// ```
/// use gracefully::HookResult;
/// assert_eq!(().into_text(), Ok(()));
/// assert_eq!(Err::<u8, _>("disk full").into_text(), Err("disk full".to_owned()));
/// ```
pub trait HookResult {
    /// The error as text.
    fn into_text(self) -> Result<(), String>;
}

impl HookResult for () {
    fn into_text(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T, E: fmt::Display> HookResult for Result<T, E> {
    fn into_text(self) -> Result<(), String> {
        self.map(drop).map_err(|error| error.to_string())
    }
}

type Running = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A hook that has not run.
pub(crate) struct Hook {
    pub(crate) phase: Phase,
    pub(crate) name: String,
    pub(crate) run: Box<dyn FnOnce(Context) -> Running + Send>,
}

impl Hook {
    pub(crate) fn new<F, R>(
        phase: Phase,
        name: &str,
        hook: impl FnOnce(Context) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = R> + Send + 'static,
        R: HookResult + 'static,
    {
        let run =
            Box::new(move |context| Box::pin(async move { hook(context).await.into_text() }) as Running);
        Self { phase, name: name.to_owned(), run }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("phase", &self.phase).field("name", &self.name).finish_non_exhaustive()
    }
}
