//! The handle by which a service takes part in its own stop.

use std::future::Future;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::driver::{self, Asked};
use crate::ended::Ended;
use crate::hooks::{Context, Hook, HookResult, Phase};
use crate::presses::Presses;
use crate::settings::{Builder, Cause};
use crate::tasks::{Guard, Rejected, Tasks, Token, run};

/// The stop of this service, from its beginning to the report. Clones are the same stop.
///
/// Dropping it does not stop anything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use gracefully::{Phase, Shutdown};
///
/// let shutdown = Shutdown::builder().without_signals().install()?;
/// shutdown.on(Phase::Flush, "journal", async |_| std::io::Result::Ok(()));
/// shutdown.trigger("the lease has ended");
/// let ended = shutdown.wait().await;
/// assert_eq!(ended.code(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Shutdown {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) tasks: Arc<Tasks>,
    hooks: Mutex<Vec<Hook>>,
    /// The stop was asked for.
    pub(crate) asked: CancellationToken,
    /// Tasks are to finish.
    pub(crate) draining: CancellationToken,
    settle: Settle,
    ask: mpsc::UnboundedSender<Asked>,
    ended: watch::Receiver<Option<Ended>>,
    /// As long as somebody may still take part.
    _presses: Option<Presses>,
}

/// How long the service goes on serving at most once the stop was asked for.
#[derive(Debug)]
struct Settle {
    /// By whoever runs the service.
    said: Option<Duration>,
    /// If nobody has said: by the registries.
    #[cfg(feature = "registry")]
    asked_for: Mutex<Vec<gracefully_registry::Settling>>,
}

impl Settle {
    fn new(said: Option<Duration>) -> Self {
        Self {
            said,
            #[cfg(feature = "registry")]
            asked_for: Mutex::default(),
        }
    }

    #[cfg(feature = "registry")]
    fn asked_for(&self) -> Duration {
        let asked_for = self.asked_for.lock().unwrap_or_else(PoisonError::into_inner);
        asked_for.iter().map(gracefully_registry::Settling::time).max().unwrap_or_default()
    }
}

impl Inner {
    /// How long the service goes on serving at most once the stop was asked for.
    pub(crate) fn settle(&self) -> Duration {
        #[cfg(feature = "registry")]
        let asked_for = self.settle.asked_for();
        #[cfg(not(feature = "registry"))]
        let asked_for = Duration::ZERO;
        self.settle.said.unwrap_or(asked_for)
    }

    /// Others take so long to hear that it is gone.
    #[cfg(feature = "registry")]
    pub(crate) fn settle_for(&self, settling: gracefully_registry::Settling) {
        self.settle.asked_for.lock().unwrap_or_else(PoisonError::into_inner).push(settling);
    }

    fn hooks(&self) -> MutexGuard<'_, Vec<Hook>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has anybody asked for something in this phase?
    pub(crate) fn has_hooks(&self, phase: Phase) -> bool {
        self.hooks().iter().any(|hook| hook.phase == phase)
    }

    /// The hooks of a phase, to be run.
    pub(crate) fn take_hooks(&self, phase: Phase) -> Vec<Hook> {
        let mut hooks = self.hooks();
        let (these, others) = std::mem::take(&mut *hooks).into_iter().partition(|hook| hook.phase == phase);
        *hooks = others;
        these
    }
}

impl Shutdown {
    /// Settings that differ from the usual ones.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// With the usual settings: SIGTERM and SIGINT, and 10 s or what `GRACEFULLY_GRACE` says.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn install() -> io::Result<Self> {
        Self::builder().install()
    }

    pub(crate) fn new(settings: &Builder) -> io::Result<Self> {
        let (ask, asks) = mpsc::unbounded_channel();
        let (told, ended) = watch::channel(None);
        let over = Arc::new(AtomicBool::new(false));
        let signals = settings.signals();
        let presses = (!signals.is_empty()).then(|| {
            let (ask, over, limit) = (ask.clone(), Arc::clone(&over), settings.limit());
            Presses::listen(&signals, move |press| {
                if let Some(limit) = limit.filter(|_| press.first) {
                    driver::end_after(limit, press.signal, Arc::clone(&over));
                }
                // Whoever has ended needs no more.
                let _ = ask.send(Asked {
                    cause: Cause::Signal(press.signal.to_string()),
                    signal: Some(press.signal),
                    hurries: !press.first,
                });
            })
        });
        let inner = Arc::new(Inner {
            tasks: Arc::default(),
            hooks: Mutex::default(),
            asked: CancellationToken::new(),
            draining: CancellationToken::new(),
            settle: Settle::new(settings.settles()),
            ask,
            ended,
            _presses: presses.transpose()?,
        });
        tokio::spawn(driver::drive(Arc::downgrade(&inner), settings.clone(), asks, told, over));
        Ok(Self { inner })
    }

    /// Asks for the stop. Asked again, or after a signal, it changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// let another = shutdown.clone();
    /// tokio::spawn(async move { another.trigger("the configuration has changed") });
    /// shutdown.requested().await;
    /// # Ok(()) }
    /// ```
    pub fn trigger(&self, cause: impl Into<String>) {
        let _ = self.inner.ask.send(Asked {
            cause: Cause::Triggered(cause.into()),
            signal: None,
            hurries: false,
        });
    }

    /// Asks for the stop when this is ready: the end of a lease, the removal of a file, whatever else says that it is time.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// shutdown.trigger_when("it is late", tokio::time::sleep(std::time::Duration::from_millis(1)));
    /// assert_eq!(shutdown.wait().await.cause(), &gracefully::Cause::Triggered("it is late".into()));
    /// # Ok(()) }
    /// ```
    pub fn trigger_when(
        &self,
        cause: impl Into<String> + Send + 'static,
        ready: impl Future<Output = ()> + Send + 'static,
    ) {
        let shutdown = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ready => shutdown.trigger(cause),
                // Somebody else was first.
                () = shutdown.requested() => {}
            }
        });
    }

    /// Runs this to its end, or until the stop is asked for, and then drops it: for what comes before a service can serve, as
    /// connecting to a database that does not answer.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// # async fn connect() -> std::io::Result<()> { std::future::pending().await }
    /// # shutdown.trigger("enough");
    /// match shutdown.unless_requested(connect()).await {
    ///     Some(database) => database?,
    ///     None => shutdown.wait().await.exit(),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn unless_requested<T>(&self, begins: impl Future<Output = T>) -> Option<T> {
        self.inner.asked.run_until_cancelled(begins).await
    }

    /// Was the stop asked for? From then on a readiness probe should fail.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// assert!(!shutdown.is_requested());
    /// # Ok(()) }
    /// ```
    pub fn is_requested(&self) -> bool {
        self.inner.asked.is_cancelled()
    }

    /// Ready when the stop is asked for.
    pub async fn requested(&self) {
        self.inner.asked.cancelled().await;
    }

    /// What tells a task when to finish: when drain begins, not before.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// let token = shutdown.token();
    /// shutdown.trigger("test");
    /// token.requested().await;
    /// # Ok(()) }
    /// ```
    pub fn token(&self) -> Token {
        Token(self.inner.draining.clone())
    }

    /// Runs a task that is waited for. What it has not finished when drain's time is up is aborted, and it is named in the report;
    /// so it is if it panics.
    ///
    /// Fails once drain has begun.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// shutdown.spawn("mailer", async |token| {
    ///     while !token.is_requested() {
    ///         // one mail
    ///         tokio::task::yield_now().await;
    ///     }
    /// })?;
    /// # shutdown.trigger("test");
    /// # assert_eq!(shutdown.wait().await.code(), 0);
    /// # Ok(()) }
    /// ```
    pub fn spawn<F>(&self, name: &str, task: impl FnOnce(Token) -> F) -> Result<(), Rejected>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = self.inner.tasks.enter(name)?;
        let task = task(self.token());
        run(guard, async move {
            task.await;
            Ok(())
        });
        Ok(())
    }

    /// Something else that is waited for, as long as the guard is there.
    ///
    /// Fails once drain has begun.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// let guard = shutdown.guard("upload")?;
    /// std::thread::spawn(move || {
    ///     // the upload, on a thread of its own
    ///     drop(guard);
    /// });
    /// # shutdown.trigger("test");
    /// # assert_eq!(shutdown.wait().await.code(), 0);
    /// # Ok(()) }
    /// ```
    pub fn guard(&self, name: &str) -> Result<Guard, Rejected> {
        self.inner.tasks.enter(name)
    }

    /// Has this done in a phase of the stop. Hooks of one phase run at once.
    ///
    /// One that is registered when its phase has begun does not run.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// use gracefully::Phase;
    ///
    /// shutdown.on(Phase::Deregister, "registry", async |_| {
    ///     // leave it; an error goes into the report, and the stop goes on
    ///     Err::<(), _>("the registry does not answer")
    /// });
    /// # shutdown.trigger("test");
    /// # assert!(shutdown.wait().await.to_string().contains("registry (deregister): the registry does not answer"));
    /// # Ok(()) }
    /// ```
    pub fn on<F, R>(&self, phase: Phase, name: &str, hook: impl FnOnce(Context) -> F + Send + 'static)
    where
        F: Future<Output = R> + Send + 'static,
        R: HookResult + 'static,
    {
        self.inner.hooks().push(Hook::new(phase, name, hook));
    }

    /// Waits until the stop was asked for and is over.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// shutdown.trigger("test");
    /// let ended = shutdown.wait().await;
    /// assert_eq!(ended.to_string(), "graceful: stopped after 0.00 s of 10 s");
    /// # Ok(()) }
    /// ```
    pub async fn wait(&self) -> Ended {
        let mut told = self.inner.ended.clone();
        let ended = told.wait_for(Option::is_some).await;
        match ended.ok().and_then(|ended| ended.clone()) {
            Some(ended) => ended,
            // The runtime ends, and the driver with it, so nobody is going to say more.
            None => std::future::pending().await,
        }
    }
}
