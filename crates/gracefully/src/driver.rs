//! The task that walks the sequence of a stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant as Clock, SystemTime};

use gracefully_core::event::{Action, Event, ExitStatus};
use gracefully_core::exit::SIGNAL_BASE;
use gracefully_core::phase::{Outcome, Phase as Core};
use gracefully_core::policy::Then;
use gracefully_core::report::{Part, Report, Target};
use gracefully_core::sequence::Sequence;
use gracefully_core::signal::Signal;
use gracefully_core::time::Timestamp;
use gracefully_core::traffic::Traffic;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::ended::Ended;
use crate::hooks::{Context, Phase};
use crate::settings::{Builder, Cause};
use crate::shutdown::Inner;
use crate::tasks::{Stage, panicked, run};

/// How often it is looked whether traffic has stopped, if nothing else happens.
const LOOK: Duration = Duration::from_millis(50);

/// What has come before drain began is read within this time. hyper closes a connection of which it has not begun to read a request,
/// also if one is there.
///
/// When the time is over the runtime has asked the kernel at least once what there is: both are one call (`epoll_wait(2)`).
pub(crate) const LAST_WORD: Duration = Duration::from_millis(2);

/// How long after its budget a process may go on in which nothing else can end it.
const STUCK: Duration = Duration::from_secs(1);

/// Somebody asks for the stop.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) cause: Cause,
    pub(crate) signal: Option<Signal>,
    /// Somebody who has asked already does not want to wait.
    pub(crate) hurries: bool,
}

/// Waits until somebody asks, walks the sequence, and tells the report.
pub(crate) async fn drive(
    inner: Weak<Inner>,
    settings: Builder,
    mut asks: mpsc::UnboundedReceiver<Asked>,
    told: watch::Sender<Option<Ended>>,
    over: Arc<AtomicBool>,
) {
    let Some(first) = asks.recv().await else { return };
    let Some(inner) = inner.upgrade() else { return };
    let ended = Walk::new(inner, &settings, first).run(&mut asks).await;
    over.store(true, Ordering::Release);
    // Whoever waits holds a receiver.
    let _ = told.send(Some(ended));
}

struct Walk {
    inner: Arc<Inner>,
    sequence: Sequence,
    began: Instant,
    at: SystemTime,
    cause: Cause,
    /// The hooks of Deregister and Flush that run.
    hooks: JoinSet<Result<(), String>>,
    running: BTreeMap<Id, Running>,
    parts: Vec<Part>,
    /// When connections are to close after what they have begun.
    closes_at: Option<Instant>,
}

struct Running {
    phase: Core,
    name: String,
    since: Instant,
}

impl Walk {
    fn new(inner: Arc<Inner>, settings: &Builder, first: Asked) -> Self {
        let [deregisters, flushes] = [Phase::Deregister, Phase::Flush].map(|phase| inner.has_hooks(phase));
        let plan = settings.plan(first.signal, inner.settle(), deregisters, flushes);
        Self {
            inner,
            sequence: Sequence::new(plan),
            began: Instant::now(),
            at: SystemTime::now(),
            cause: first.cause,
            hooks: JoinSet::new(),
            running: BTreeMap::new(),
            parts: Vec::new(),
            closes_at: None,
        }
    }

    async fn run(mut self, asks: &mut mpsc::UnboundedReceiver<Asked>) -> Ended {
        self.inner.asked.cancel();
        self.inner.tasks.tell(Stage::Settling);
        self.tell(Event::StopRequested { budget: None, then: Then::Stay, again: false });
        loop {
            if self.carry_out() {
                return self.ended();
            }
            if self.observe() {
                continue;
            }
            let inner = Arc::clone(&self.inner);
            let look = (self.sequence.phase() == Some(Core::Settle)).then(|| Instant::now() + LOOK);
            let wake = [self.deadline(), look, self.closes_at].into_iter().flatten().min();
            tokio::select! {
                asked = asks.recv() => {
                    self.count();
                    let hurries = asked.is_some_and(|asked| asked.hurries);
                    self.tell(Event::StopRequested { budget: None, then: Then::Stay, again: hurries });
                }
                Some(ended) = self.hooks.join_next_with_id() => self.on_hook(ended),
                () = inner.tasks.alone.notified() => {}
                () = sleep(wake) => {
                    self.count();
                    self.tell(Event::Timer);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.sequence.deadline().and_then(|deadline| self.began.checked_add(deadline))
    }

    fn tell(&mut self, event: Event) {
        self.sequence.handle(self.began.elapsed(), event);
        // Whoever is late has no phase any more.
        for phase in [Core::Deregister, Core::Flush] {
            if self.sequence.phase() != Some(phase) {
                self.abort(phase);
            }
        }
    }

    /// Does what the sequence asks for; `true`: it is over.
    fn carry_out(&mut self) -> bool {
        while let Some(action) = self.sequence.next_action() {
            match action {
                Action::Deregister => self.start(Phase::Deregister),
                Action::Signal { .. } => {
                    self.close();
                    self.inner.tasks.abort();
                    self.tell(Event::MainExited(ExitStatus::Code(0)));
                    self.tell(Event::AllExited);
                }
                Action::Flush { .. } => self.start(Phase::Flush),
                Action::Done => return true,
                // Who is there is told in each phase that waits for it; and nobody is left to be killed: what was left was aborted.
                Action::Observe | Action::Kill | Action::Sweep(_) => {}
                Action::Hold | Action::Refuse | Action::Release | Action::Reregister | Action::Start => {
                    unreachable!("{action:?} is in no plan of a service")
                }
            }
        }
        false
    }

    /// Tells who is there, and tells tasks to finish when it is time for that; `true`: something has changed by it.
    fn observe(&mut self) -> bool {
        let phase = self.sequence.phase();
        if phase == Some(Core::Drain) && !self.inner.draining.is_cancelled() {
            self.close();
            self.closes_at = Some(Instant::now() + LAST_WORD);
            let context = Context { deadline: self.deadline() };
            for hook in self.inner.take_hooks(Phase::Drain) {
                let guard = self.inner.tasks.enter_always(&hook.name);
                run(guard, (hook.run)(context));
            }
        }
        if self.closes_at.take_if(|at| *at <= Instant::now()).is_some() {
            self.inner.tasks.tell(Stage::Closing);
        }
        self.count();
        self.sequence.phase() != phase
    }

    /// Tells who is there, in the phases that wait for them.
    fn count(&mut self) {
        if matches!(self.sequence.phase(), Some(Core::Settle | Core::Drain)) {
            let (in_flight, new) = self.inner.tasks.count();
            self.tell(Event::ConnectionsObserved(Traffic { in_flight, new }));
        }
    }

    /// Takes nothing new from now on, and tells tasks to finish.
    fn close(&self) {
        self.inner.tasks.close();
        self.inner.draining.cancel();
    }

    /// Starts the hooks of a phase whose end is told.
    fn start(&mut self, phase: Phase) {
        let context = Context { deadline: self.deadline() };
        for hook in self.inner.take_hooks(phase) {
            let id = self.hooks.spawn((hook.run)(context)).id();
            self.running.insert(id, Running { phase: phase.core(), name: hook.name, since: Instant::now() });
        }
        self.if_done(phase.core());
    }

    fn on_hook(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => {
                let id = error.id();
                let text = match error.try_into_panic() {
                    Ok(panic) => panicked(&*panic),
                    Err(error) => error.to_string(),
                };
                (id, Err(text))
            }
        };
        // One that was aborted has been told of.
        let Some(Running { phase, name, since }) = self.running.remove(&id) else { return };
        let outcome = result.map_or_else(Outcome::Failed, |()| Outcome::Done);
        self.parts.push(Part { phase, name, took: since.elapsed(), outcome });
        self.if_done(phase);
    }

    /// Tells the sequence when all hooks of a phase have ended.
    fn if_done(&mut self, phase: Core) {
        if self.running.values().any(|running| running.phase == phase) {
            return;
        }
        let failed =
            self.parts.iter().filter(|part| part.phase == phase).find_map(|part| match &part.outcome {
                Outcome::Failed(why) => Some(format!("{}: {why}", part.name)),
                _ => None,
            });
        let result = failed.map_or(Ok(()), Err);
        match phase {
            Core::Deregister => self.tell(Event::Deregistered(result)),
            _ => self.tell(Event::Flushed(result)),
        }
    }

    /// Aborts the hooks of a phase that is over.
    fn abort(&mut self, phase: Core) {
        let late: Vec<Id> =
            self.running.iter().filter(|(_, running)| running.phase == phase).map(|(id, _)| *id).collect();
        for id in late {
            let Some(Running { phase, name, since }) = self.running.remove(&id) else { continue };
            self.parts.push(Part { phase, name, took: since.elapsed(), outcome: Outcome::Late });
        }
        if self.running.is_empty() {
            self.hooks.abort_all();
        }
    }

    fn ended(mut self) -> Ended {
        self.parts.extend(self.inner.tasks.take_parts());
        self.parts.sort_by_key(|part| part.phase);
        let name = std::env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.file_name()?.to_string_lossy().into_owned()));
        let target = Target {
            engine: "service".into(),
            id: std::process::id().to_string(),
            name: name.unwrap_or_default(),
        };
        let at = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = Timestamp::since_1970(at).to_millis();
        let policy = self.sequence.plan().policy;
        // The action that it is done comes with the conclusion.
        let conclusion = self.sequence.conclusion().expect("the sequence is done");
        let mut report = Report::new(target, at, &policy, conclusion, Vec::new());
        report.parts = self.parts;
        Ended::new(report, self.cause)
    }
}

/// Ends the process if it is still there when its budget is over, as the signal that asked for the stop would have, unless `over` is
/// set by then: whatever else can do so is stuck. A thread does it, because every thread of the runtime may be what is stuck.
pub(crate) fn end_after(budget: Duration, signal: Signal, over: Arc<AtomicBool>) {
    let watch = move || {
        // Whoever has more time than the clock has for ever.
        let Some(deadline) = Clock::now().checked_add(budget.saturating_add(STUCK)) else { return };
        while let Some(left) = deadline.checked_duration_since(Clock::now()).filter(|left| !left.is_zero()) {
            thread::park_timeout(left);
        }
        if !over.load(Ordering::Acquire) {
            signal_hook::low_level::exit((SIGNAL_BASE + signal.number()).into());
        }
    };
    // Without it the stop is as safe as the runtime.
    let _ = thread::Builder::new().name("gracefully".into()).spawn(watch);
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
