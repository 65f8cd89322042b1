//! The one executor: walks a [`Sequence`] on an [`Instance`].
//!
//! The sequence decides, this module only carries out. Every [`Action`] becomes a job (a future that ends in an
//! [`Event`]), and the loop waits for whatever comes first: a job, a further order of the caller, the next deadline.
//! The client uses it for docker and for plain processes, the [conductor](crate::conductor) for a container of the
//! local engine.
//!
//! Connections are looked after by a thread of [`gracefully_drain`], which tells what it sees ([`traffic`]). When the program has
//! ended, that thread judges first which requests were cut; then the sequence hears of the end. When it is started again,
//! the restart is complete when it listens wherever it listened before, and is healthy if it has a health check.
//!
//! Two looks at the processes make the diagnosis: one before the stop signal, because afterwards there may be nobody
//! left to look at; and one shortly before time runs out, because an engine kills by itself at that moment.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{self, BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use gracefully_core::diagnosis::{self, Code, Finding};
use gracefully_core::event::{Action, Event, ExitStatus, Progress};
use gracefully_core::exit::SIGNAL_BASE;
use gracefully_core::plan::{Plan, Work};
use gracefully_core::policy::{Care, Policy, Then, Timeout, Within};
use gracefully_core::report::{Report, Target, Verdict};
use gracefully_core::sequence::Sequence;
use gracefully_core::signal::Signal;
use gracefully_core::time::Timestamp;
use gracefully_core::traffic::Traffic as Seen;
use gracefully_drain::{Drain, Limit, Notice, Survey};
use gracefully_engine::{Error, Instance, Network, Running, Terminate};
use gracefully_linux::{connections, family, process};
use gracefully_registry::gateway::Serving;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::traffic::Traffic;
use crate::discovery::Discovery;

mod traffic;

/// How long before the end of the budget the second look is taken.
const LOOK_BEFORE_KILL: Duration = Duration::from_millis(100);

/// How long an engine's own stop may take to return after its container has ended: dockerd waits up to two seconds for
/// the streams and then releases the network.
const ENGINE_RETURN: Duration = Duration::from_secs(10);

/// How long leaving the places where others find it may take, however much time there is.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What is kept of the time for that, to hear why it has failed.
const TO_REPORT: Duration = Duration::from_millis(50);

/// How long coming back to them may take, or having them forget it.
const REJOIN_WITHIN: Duration = Duration::from_secs(5);

/// How often a restarted program is asked whether it is healthy, or has ended again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What a drain would find.
pub(crate) fn survey(main: u32, network: &Network) -> Result<Survey, Limit> {
    Survey::of(&traffic::target(main, network.clone()))
}

/// How a program is stopped that others find there.
///
/// It is known there how long requests may come after it has left, unless somebody has said how long to settle.
pub(crate) fn plan(policy: Policy, care: Care, discovery: Option<&dyn Discovery>) -> Plan {
    let hint = discovery.map(Discovery::settle).filter(|hint| !hint.is_zero()).map(Within::AtMost);
    let care = Care { settle: care.settle.or(hint), ..care };
    Plan::new(policy, Work { deregister: discovery.is_some(), ..Work::of(care, policy.then) })
}

/// Why a plan cannot give consumers the time that they need to hear of a leave; `None`, if it can, or somebody has said how long to settle.
pub(crate) fn short_of_time(plan: &Plan, needed: Duration) -> Option<String> {
    let settle = plan.work.settle.filter(|settle| settle.at_most == needed)?;
    let left = plan.ends.traffic.filter(|left| *left < settle.at_most)?;
    Some(format!(
        "consumers may need {} s to hear of a stop, and a budget of {} leaves {:.1} s for that",
        needed.as_secs(),
        plan.policy.timeout.value,
        left.as_secs_f64()
    ))
}

/// What is to be stopped, and how.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) target: Target,
    pub(crate) plan: Plan,
    pub(crate) requested: Requested,
    /// Where others find it; there is something if the plan has to [deregister](gracefully_core::plan::Work::deregister).
    pub(crate) discovery: Option<Arc<dyn Discovery>>,
}

/// When a stop was requested. Its budget is counted from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requested {
    pub(crate) at: Timestamp,
    /// The same, on the clock by which deadlines are counted.
    pub(crate) instant: Instant,
}

impl Requested {
    /// At this moment.
    pub(crate) fn now() -> Self {
        Self { at: gracefully_engine::now(), instant: Instant::now() }
    }

    /// At that time, which was so long ago.
    pub(crate) fn before(at: Timestamp, ago: Duration) -> Self {
        let now = Instant::now();
        Self { at, instant: now.checked_sub(ago).unwrap_or(now) }
    }
}

/// What the caller may say while the stop is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// A further request: see [`Event::StopRequested`].
    Stop { budget: Option<Timeout>, then: Then, again: bool },
    /// Leave the program alone, if the stop signal has not been sent yet.
    Abort,
}

/// Walks one stop on `instance` and returns its report.
///
/// It does not fail: an engine that stops answering becomes a report with [`Verdict::Failed`]. `onlooker` is told what
/// happens while it happens. Dropping the future leaves everything to the engine: before the stop signal the program
/// goes on, after it an engine that kills by itself finishes.
pub(crate) async fn walk(
    instance: &dyn Instance,
    stop: Stop,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    onlooker: &mut (dyn FnMut(Progress) + Send),
) -> Report {
    let Stop { target, plan, requested, discovery } = stop;
    let (policy, settles) = (plan.policy, plan.work.settle.is_some());
    let short = discovery.as_deref().and_then(|discovery| short_of_time(&plan, discovery.settle()));
    onlooker(Progress::Planned(policy));

    let mut walk = Walk {
        instance,
        sequence: Sequence::new(plan),
        epoch: requested.instant,
        jobs: FuturesUnordered::new(),
        discovery,
        serving: Serving::TheSame,
        main: None,
        rejoining: None,
        terminating: None,
        kill_at: None,
        traffic: Traffic::new(settles),
        ended: None,
        findings: Vec::new(),
        last_look: Vec::new(),
        told_steps: 0,
        told_phase: None,
        onlooker,
    };
    if let Some(why) = short {
        walk.notice(Finding::new(Code::Discovery, why).hint("Give it more time with -t."));
    }
    walk.run(orders).await;

    let conclusion = walk.sequence.conclusion().expect("the sequence is done");
    let mut findings = walk.findings_for(conclusion.verdict);
    findings.extend(instance.findings());
    let connections = walk.traffic.finish().await;
    // A stop that was asked for meanwhile has made one of a restart.
    let policy = Policy { then: walk.sequence.plan().policy.then, ..policy };
    Report::new(target, requested.at.to_millis(), &policy, conclusion, findings).with_connections(connections)
}

struct Walk<'a> {
    instance: &'a dyn Instance,
    sequence: Sequence,
    epoch: Instant,
    jobs: FuturesUnordered<BoxFuture<'a, Ended>>,
    discovery: Option<Arc<dyn Discovery>>,
    /// Whom others have to find again.
    serving: Serving,
    /// The main process of the program that was started, if it runs on this machine.
    main: Option<u32>,
    /// Until others find it again.
    rejoining: Option<BoxFuture<'a, Result<(), String>>>,
    /// The engine's order to terminate, until it has returned.
    terminating: Option<BoxFuture<'a, Result<(), Error>>>,
    /// When the engine was told to kill by itself.
    kill_at: Option<Duration>,
    traffic: Traffic,
    /// How it ended, while its connections are being judged.
    ended: Option<ExitStatus>,
    findings: Vec<Finding>,
    /// What was found shortly before time ran out; it counts only if it did.
    last_look: Vec<Finding>,
    told_steps: usize,
    told_phase: Option<gracefully_core::phase::Phase>,
    onlooker: &'a mut (dyn FnMut(Progress) + Send),
}

/// How a job ended.
enum Ended {
    With(Event),
    /// The program has ended.
    Exited(ExitStatus),
    /// It is time for the last look.
    TimeToLook,
    /// It has had the time to install a handler for this signal.
    HadTime(Signal),
    /// The engine has started it again; `None`: and it has ended again.
    Started(Option<Running>),
}

impl Walk<'_> {
    async fn run(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) {
        let instance = self.instance;
        // From the beginning, so that a program that ends by itself is noticed in every phase, and so that an engine
        // with a restart of its own is asked for the next exit before there can be one.
        self.jobs.push(
            async move {
                match instance.exited().await {
                    Ok(status) => Ended::Exited(status),
                    Err(error) => Ended::With(Event::EngineLost(chain(&error))),
                }
            }
            .boxed(),
        );
        let then = self.sequence.plan().policy.then;
        self.sequence.handle(Duration::ZERO, Event::StopRequested { budget: None, then, again: false });

        let mut orders_open = true;
        while !self.carry_out() {
            let deadline = self.sequence.deadline().map(|at| self.epoch + at);
            tokio::select! {
                Some(ended) = self.jobs.next() => match ended {
                    Ended::With(event) => self.tell(event),
                    Ended::Exited(status) => self.on_exited(status),
                    Ended::TimeToLook => self.look_again(),
                    Ended::HadTime(signal) => self.look_whether_it_hears(signal),
                    Ended::Started(running) => self.on_started(running),
                },
                notice = self.traffic.notice() => self.on_notice(notice),
                Some(result) = returned(&mut self.terminating) => {
                    self.terminating = None;
                    self.on_terminate_returned(result);
                }
                order = orders.recv(), if orders_open => match order {
                    Some(Order::Stop { budget, then, again }) => {
                        self.tell(Event::StopRequested { budget, then, again });
                    }
                    Some(Order::Abort) => self.tell(Event::Aborted),
                    None => orders_open = false,
                },
                () = until(deadline) => self.tell(Event::Timer),
            }
        }
        // The container has ended, but the engine may still be busy with its network: docker prints no name before.
        if let Some(terminating) = self.terminating.take() {
            let _ = timeout(ENGINE_RETURN, terminating).await;
        }
        if let Some(rejoining) = self.rejoining.take() {
            self.try_discovery(rejoining, "It could not be put in again").await;
        } else if let Some(discovery) = self.discovery.clone()
            && self.sequence.conclusion().is_some_and(|conclusion| conclusion.exit.is_some())
        {
            let forget = async move { discovery.forget().await }.boxed();
            self.try_discovery(forget, "What it has left behind could not be taken out").await;
        }
    }

    /// Waits for this, and says so if it fails.
    async fn try_discovery(&mut self, job: BoxFuture<'_, Result<(), String>>, failed: &str) {
        let why = match timeout(REJOIN_WITHIN, job).await {
            Ok(result) => result.err(),
            Err(_) => Some(format!("not within {} s", REJOIN_WITHIN.as_secs())),
        };
        if let Some(why) = why {
            self.notice(Finding::new(Code::Discovery, format!("{failed}: {why}")));
        }
    }

    fn tell(&mut self, event: Event) {
        // An instance is one PID namespace or one process: with main everything has ended.
        let everything = matches!(event, Event::MainExited(_));
        let now = self.epoch.elapsed();
        self.sequence.handle(now, event);
        if everything {
            self.sequence.handle(now, Event::AllExited);
        }
    }

    /// Carries out what the sequence asks for; true when it asks for nothing more.
    fn carry_out(&mut self) -> bool {
        let mut done = false;
        while let Some(action) = self.sequence.next_action() {
            self.tell_onlooker();
            match action {
                Action::Signal { .. } => {
                    if let Some(drain) = self.traffic.active() {
                        drain.signal_comes();
                    }
                    self.terminate();
                }
                // Nothing in this process buffers the program's data; its own files are its own affair.
                Action::Flush { .. } => {
                    self.jobs.push(future::ready(Ended::With(Event::Flushed(Ok(())))).boxed());
                }
                Action::Kill => self.kill(),
                Action::Start => self.start(),
                Action::Observe => self.with_traffic(Drain::observe),
                Action::Hold => {
                    let at_most = self.gate_at_most();
                    self.with_traffic(|drain| drain.hold(at_most));
                }
                Action::Refuse => {
                    let at_most = self.gate_at_most();
                    self.with_traffic(|drain| drain.refuse(at_most));
                }
                Action::Release => {
                    if let Some(drain) = self.traffic.active() {
                        drain.release();
                    }
                }
                Action::Done => done = true,
                Action::Deregister => self.leave_discovery(),
                Action::Reregister => {
                    let (discovery, who) = (self.discovery.clone(), self.serving);
                    self.rejoining =
                        discovery.map(|discovery| async move { discovery.rejoin(who).await }.boxed());
                }
                Action::Sweep(_) => unreachable!("{action:?} is in no plan that this program makes"),
            }
        }
        self.tell_onlooker();
        done
    }

    /// Leaves every place where others find it, in the time that the plan has for that.
    fn leave_discovery(&mut self) {
        let Some(discovery) = self.discovery.clone() else {
            return self.tell(Event::Deregistered(Ok(())));
        };
        let until = self.sequence.deadline().map(|at| at.saturating_sub(self.epoch.elapsed()));
        // The reason why it took too long should still be in time for the report.
        let within = until.map_or(LEAVE_WITHIN, |until| until.saturating_sub(TO_REPORT)).min(LEAVE_WITHIN);
        let leave = async move { Ended::With(Event::Deregistered(discovery.leave(within).await)) };
        self.jobs.push(leave.boxed());
    }

    /// Does something about the connections; where nothing can be done, says so once.
    fn with_traffic(&mut self, act: impl FnOnce(&Drain)) {
        match self.traffic.begin(self.instance.main_pid(), self.instance.network()) {
            Ok(Some(drain)) => act(drain),
            Ok(None) => {}
            Err(limit) => {
                if let Some(limit) = limit {
                    self.notice_limit(limit);
                }
                self.tell(Event::ConnectionsHidden);
            }
        }
    }

    /// How long new connections may be kept from the program, whatever becomes of us.
    fn gate_at_most(&self) -> Duration {
        let plan = self.sequence.plan();
        let ready = match plan.policy.then {
            Then::Stay => Duration::ZERO,
            Then::Start => plan.work.ready,
        };
        let left = self.sequence.kill_at().map(|at| at.saturating_sub(self.epoch.elapsed()));
        left.map_or(Duration::MAX, |left| left + ENGINE_RETURN + ready)
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Looked(traffic) => {
                if traffic != self.sequence.traffic() {
                    (self.onlooker)(Progress::Traffic(traffic));
                }
                self.tell(Event::ConnectionsObserved(traffic));
            }
            Notice::Limited(limit) => self.notice_limit(limit),
            Notice::Hidden(limit) => {
                self.traffic.hide();
                self.notice_limit(limit);
                self.tell(Event::ConnectionsHidden);
                // Nobody is going to judge them.
                if let Some(status) = self.ended.take() {
                    self.tell(Event::MainExited(status));
                }
            }
            Notice::Judged(cut) => {
                self.tell(Event::ConnectionsObserved(Seen { in_flight: cut, new: 0 }));
                if let Some(status) = self.ended.take() {
                    self.tell(Event::MainExited(status));
                }
            }
            Notice::Ready => self.on_listening(),
            Notice::Finished(_) => {}
        }
    }

    fn notice_limit(&mut self, limit: Limit) {
        self.notice(traffic::finding(limit));
    }

    fn notice(&mut self, finding: Finding) {
        (self.onlooker)(Progress::Noticed(finding.clone()));
        self.findings.push(finding);
    }

    fn on_exited(&mut self, status: ExitStatus) {
        let Some(drain) = self.traffic.active() else { return self.tell(Event::MainExited(status)) };
        let killed = match status {
            ExitStatus::Signal(_) | ExitStatus::Unknown => true,
            // An init reports the end of its child so, and docker every end by a signal.
            ExitStatus::Code(code) => code >= SIGNAL_BASE,
        };
        self.ended = Some(status);
        drain.judge(killed);
    }

    fn terminate(&mut self) {
        let policy = self.sequence.plan().policy;
        self.look_before(policy.signal.value);
        // By now it may be sooner than planned.
        let kill_at = self.sequence.kill_at();
        let now = self.epoch.elapsed();
        let order =
            Terminate { policy, kill_after: kill_at.map(|at| at.saturating_sub(now)), then: policy.then };
        let instance = self.instance;
        self.terminating = Some(async move { instance.terminate(&order).await }.boxed());
        self.kill_at = kill_at;
        if let Some(look_at) = kill_at.map(|at| at.saturating_sub(LOOK_BEFORE_KILL)).filter(|at| *at > now) {
            let look_at = self.epoch + look_at;
            self.jobs.push(sleep_until(look_at).map(|()| Ended::TimeToLook).boxed());
        }
    }

    fn on_terminate_returned(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => {}
            // Somebody was quicker; `exited` tells how it ended.
            Err(error) if error.is_not_running() || error.is_not_found() => {}
            Err(error) => self.tell(Event::EngineLost(chain(&error))),
        }
    }

    fn kill(&mut self) {
        // An engine that restarts by itself also kills by itself. A kill of ours at the same moment could hit the
        // program that it has just started.
        let engine_kills = self.instance.kills_by_itself()
            && self.sequence.plan().policy.then == Then::Start
            && self.kill_at.is_some_and(|at| at <= self.epoch.elapsed());
        if engine_kills {
            return;
        }
        let instance = self.instance;
        self.jobs.push(
            async move {
                match instance.kill().await {
                    Err(error) if !error.is_not_running() && !error.is_not_found() => {
                        Ended::With(Event::EngineLost(chain(&error)))
                    }
                    // Nothing more to do here: `exited` tells the rest.
                    Ok(()) | Err(_) => future::pending().await,
                }
            }
            .boxed(),
        );
    }

    fn start(&mut self) {
        let instance = self.instance;
        self.jobs.push(
            async move {
                match started(instance).await {
                    Ok(running) => Ended::Started(running),
                    Err(error) => Ended::With(Event::Started(Err(chain(&error)))),
                }
            }
            .boxed(),
        );
    }

    /// It is healthy, or has no health check; but it may not listen yet.
    fn on_started(&mut self, running: Option<Running>) {
        let Some(running) = running else {
            return self.tell(Event::Started(Err("it has ended again".to_owned())));
        };
        (self.serving, self.main) = (Serving::ANewOne, running.main);
        if let Some(finding) = traffic::moved(&self.instance.network(), &running.network) {
            self.notice(finding);
        }
        match (self.traffic.active(), traffic::successor(&running)) {
            (Some(drain), Some(successor)) => drain.await_listeners(successor),
            // Nobody knows where it listened.
            (Some(_) | None, _) => self.on_listening(),
        }
        // It may end again before it is ready.
        let instance = self.instance;
        self.jobs.push(
            async move {
                match changed(instance, running.main).await {
                    Ok(running) => Ended::Started(running),
                    Err(error) => Ended::With(Event::Started(Err(chain(&error)))),
                }
            }
            .boxed(),
        );
    }

    /// It is ready when others find it again; whoever has waited at its door does not wait for that.
    fn on_listening(&mut self) {
        let (Some(discovery), Some(main)) = (self.discovery.clone(), self.main) else {
            return self.tell(Event::Started(Ok(())));
        };
        if let Some(drain) = self.traffic.active() {
            drain.release();
        }
        let ready = async move {
            discovery.found_again(main).await;
            Ended::With(Event::Started(Ok(())))
        };
        self.jobs.push(ready.boxed());
    }

    fn look_before(&mut self, signal: Signal) {
        let Some(family) = self.instance.main_pid().and_then(family::family) else { return };
        if diagnosis::reaches_nobody(signal, &family.main) {
            self.tell(Event::Unheard);
        } else if let Some(left) = diagnosis::may_reach_nobody_in(signal, &family.main) {
            self.jobs.push(sleep(left).map(move |()| Ended::HadTime(signal)).boxed());
        }
        for finding in diagnosis::before(signal, &family) {
            self.notice(finding);
        }
    }

    /// It was still starting when it got the signal.
    fn look_whether_it_hears(&mut self, signal: Signal) {
        let main = self.instance.main_pid().and_then(process::read);
        if main.is_some_and(|main| diagnosis::reaches_nobody(signal, &main)) {
            self.tell(Event::Unheard);
        }
    }

    fn look_again(&mut self) {
        if self.ended.is_some() {
            // It needed no more time; only its connections are still being judged.
            return;
        }
        let policy = self.sequence.plan().policy;
        self.last_look = match self.instance.main_pid() {
            Some(pid) => {
                let mut family = family::family(pid);
                family.iter_mut().for_each(connections::count);
                let after = |family| diagnosis::after(policy.signal.value, policy.timeout.value, &family);
                family.map(after).unwrap_or_default()
            }
            None => vec![Finding::new(
                Code::NotVisible,
                "the engine runs on another host: its processes cannot be looked at from here",
            )],
        };
    }

    /// What was noticed and still matters after this verdict.
    fn findings_for(&self, verdict: Verdict) -> Vec<Finding> {
        let last = if verdict == Verdict::Graceful { &[][..] } else { &self.last_look };
        let first = self.findings.iter().filter(|finding| match finding.code {
            // A program that was still starting and ended in time has shown that it could; of one that did not, the
            // second look tells more.
            Code::StillStarting => verdict != Verdict::Graceful && last.is_empty(),
            code => !last.iter().any(|later| later.code == code),
        });
        first.chain(last).cloned().collect()
    }

    fn tell_onlooker(&mut self) {
        for step in &self.sequence.steps()[self.told_steps..] {
            (self.onlooker)(Progress::Ended(step.clone()));
        }
        self.told_steps = self.sequence.steps().len();
        let phase = self.sequence.phase();
        if phase != self.told_phase {
            self.told_phase = phase;
            if let Some(phase) = phase {
                (self.onlooker)(Progress::Began(phase));
            }
        }
    }
}

/// Starts it again and waits until it is healthy, if it has a health check.
async fn started(instance: &dyn Instance) -> Result<Option<Running>, Error> {
    instance.start().await?;
    loop {
        match instance.running().await? {
            Some(Running { healthy: Some(false), .. }) => sleep(ASK_AGAIN).await,
            running => return Ok(running),
        }
    }
}

/// Waits until it is another process that runs, or none.
async fn changed(instance: &dyn Instance, main: Option<u32>) -> Result<Option<Running>, Error> {
    loop {
        sleep(ASK_AGAIN).await;
        match instance.running().await? {
            Some(running) if running.main == main => {}
            running => return Ok(running),
        }
    }
}

/// The result of `job` when it ends; never, if there is none.
async fn returned<T>(job: &mut Option<BoxFuture<'_, T>>) -> Option<T> {
    match job {
        Some(job) => Some(job.await),
        None => future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => future::pending().await,
    }
}

/// An error with its causes, for a text.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
