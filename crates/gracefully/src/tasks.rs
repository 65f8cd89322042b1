//! Everything that is waited for: tasks and guards, each with a name.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};

use gracefully_core::phase::{Outcome, Phase};
use gracefully_core::report::Part;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// All tasks and guards of a service.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    state: Mutex<State>,
    /// The last one has gone.
    pub(crate) alone: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    live: BTreeMap<u64, Live>,
    /// How many have come since somebody asked.
    new: u32,
    /// Nobody may come any more.
    closed: bool,
    stage: Stage,
    /// Those that have not ended well.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Live {
    name: Arc<str>,
    since: Instant,
    /// A guard cannot be aborted.
    abort: Option<AbortHandle>,
    /// If it does several things at a time.
    doing: Option<Arc<dyn Doing>>,
}

impl Live {
    /// What has not been finished, for the report: itself, or what it is doing.
    fn unfinished(&self) -> Vec<Part> {
        let part = |name: String, since: Instant| Part {
            phase: Phase::Drain,
            name,
            took: since.elapsed(),
            outcome: Outcome::Late,
        };
        let doing = self.doing.as_ref().map(|doing| doing.unfinished()).unwrap_or_default();
        if doing.is_empty() {
            return vec![part(self.name.to_string(), self.since)];
        }
        doing.into_iter().map(|(what, since)| part(format!("{} {what}", self.name), since)).collect()
    }
}

/// Somebody who does several things at a time, and hears how far the stop is.
pub(crate) trait Doing: fmt::Debug + Send + Sync {
    /// How much it has begun since this was last asked.
    fn begun(&self) -> u32;

    /// What it is doing, and since when.
    fn unfinished(&self) -> Vec<(String, Instant)>;

    /// The stop has come so far.
    fn hear(&self, stage: Stage);
}

/// How far the stop is, for those who do something as long as it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Nobody has asked for it.
    #[default]
    Serving,
    /// It was asked for: clients should turn elsewhere.
    Settling,
    /// What is under way is finished, and nothing new is begun.
    Closing,
    /// What is not finished ends.
    Cut,
}

/// It came too late: the service is being drained.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
/// shutdown.trigger("update");
/// let ended = shutdown.wait().await;
/// assert!(shutdown.spawn("late", async |_| ()).is_err());
/// # drop(ended); Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected;

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service is being stopped and takes nothing new")
    }
}

impl std::error::Error for Rejected {}

impl From<Rejected> for std::io::Error {
    fn from(rejected: Rejected) -> Self {
        Self::other(rejected)
    }
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers somebody under this name.
    pub(crate) fn enter(self: &Arc<Self>, name: &str) -> Result<Guard, Rejected> {
        let mut state = self.lock();
        if state.closed {
            return Err(Rejected);
        }
        Ok(self.register(&mut state, name, None))
    }

    /// The same for what belongs to the stop itself.
    pub(crate) fn enter_always(self: &Arc<Self>, name: &str) -> Guard {
        self.register(&mut self.lock(), name, None)
    }

    /// The same for somebody who does several things at a time.
    #[cfg(feature = "http")]
    pub(crate) fn enter_doing(self: &Arc<Self>, name: &str, doing: Arc<dyn Doing>) -> Guard {
        self.register(&mut self.lock(), name, Some(doing))
    }

    fn register(self: &Arc<Self>, state: &mut State, name: &str, doing: Option<Arc<dyn Doing>>) -> Guard {
        if let Some(doing) = &doing {
            doing.hear(state.stage);
        }
        let number = state.next;
        state.next += 1;
        state.new += 1;
        state.live.insert(number, Live { name: name.into(), since: Instant::now(), abort: None, doing });
        Guard { number, tasks: Arc::clone(self) }
    }

    /// Has everybody hear how far the stop is, also those who come later.
    pub(crate) fn tell(&self, how_far: Stage) {
        let mut state = self.lock();
        if state.stage >= how_far {
            return;
        }
        state.stage = how_far;
        let doing: Vec<_> = state.live.values().filter_map(|live| live.doing.clone()).collect();
        // Whoever hears it may be gone before the next one does.
        drop(state);
        for doing in doing {
            doing.hear(how_far);
        }
    }

    /// Nobody new from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// How many are there, and how many have come, or have begun something, since this was last asked.
    pub(crate) fn count(&self) -> (u32, u32) {
        let mut state = self.lock();
        let begun = state
            .live
            .values()
            .filter_map(|live| live.doing.as_ref())
            .map(|doing| doing.begun())
            .sum::<u32>();
        let new = std::mem::take(&mut state.new).saturating_add(begun);
        (u32::try_from(state.live.len()).unwrap_or(u32::MAX), new)
    }

    /// Aborts all tasks that are left. Each is named in the parts, and so is each guard.
    pub(crate) fn abort(&self) {
        self.tell(Stage::Cut);
        let mut state = self.lock();
        for live in std::mem::take(&mut state.live).into_values() {
            if let Some(abort) = &live.abort {
                abort.abort();
            }
            state.parts.extend(live.unfinished());
        }
    }

    /// This one can be aborted by that.
    fn abort_by(&self, number: u64, abort: AbortHandle) {
        let mut state = self.lock();
        if let Some(live) = state.live.get_mut(&number) {
            live.abort = Some(abort);
        } else if state.stage == Stage::Cut {
            abort.abort();
        }
    }

    /// What has not ended well, once.
    pub(crate) fn take_parts(&self) -> Vec<Part> {
        std::mem::take(&mut self.lock().parts)
    }

    fn leave(&self, number: u64, failure: Option<String>) {
        let mut state = self.lock();
        let Some(live) = state.live.remove(&number) else { return };
        if let Some(why) = failure {
            let took = live.since.elapsed();
            let outcome = Outcome::Failed(why);
            state.parts.push(Part { phase: Phase::Drain, name: live.name.to_string(), took, outcome });
        }
        let is_last = state.live.is_empty();
        drop(state);
        if is_last {
            self.alone.notify_one();
        }
    }
}

/// Something that is waited for, until this is dropped. If it is not, the report names it and says how old it is. See
/// [`Shutdown::guard`](crate::Shutdown::guard).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use std::time::Duration;
///
/// let shutdown = gracefully::Shutdown::builder()
///     .budget(Duration::from_millis(200))
///     .reserve(Duration::ZERO)
///     .without_signals()
///     .install()?;
/// let forgotten = shutdown.guard("upload of the log")?;
/// shutdown.trigger("test");
/// assert!(shutdown.wait().await.to_string().contains("upload of the log (drain): not finished after"));
/// # drop(forgotten); Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "who drops it is not waited for"]
pub struct Guard {
    number: u64,
    tasks: Arc<Tasks>,
}

impl Guard {
    /// It has ended with this error.
    pub(crate) fn fail(self, why: String) {
        self.tasks.leave(self.number, Some(why));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tasks.leave(self.number, None);
    }
}

/// Tells a task that it should finish: when drain begins, not before.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
/// let token = shutdown.token();
/// let stream = async move {
///     tokio::select! {
///         () = token.requested() => None, // the stream ends
///         () = tokio::time::sleep(std::time::Duration::from_secs(60)) => Some("news"),
///     }
/// };
/// shutdown.trigger("test");
/// assert_eq!(stream.await, None);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Token(pub(crate) CancellationToken);

impl Token {
    /// Is it time to finish?
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Ready when it is time to finish.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
}

/// Runs a task that holds a guard, and gives its error or panic to it.
pub(crate) fn run(guard: Guard, task: impl Future<Output = Result<(), String>> + Send + 'static) {
    let (tasks, number) = (Arc::clone(&guard.tasks), guard.number);
    let handle = tokio::spawn(Guarded { task: Box::pin(task), guard: Some(guard) });
    tasks.abort_by(number, handle.abort_handle());
}

struct Guarded<F> {
    task: Pin<Box<F>>,
    guard: Option<Guard>,
}

impl<F: Future<Output = Result<(), String>>> Future for Guarded<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<()> {
        // A future that has panicked is not polled again.
        let result = match catch_unwind(AssertUnwindSafe(|| self.task.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(panicked(&*panic)),
        };
        if let (Some(guard), Err(why)) = (self.guard.take(), result) {
            guard.fail(why);
        }
        Poll::Ready(())
    }
}

/// What a panic said.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let said =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", said.unwrap_or("without a word"))
}
