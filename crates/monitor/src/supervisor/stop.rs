//! A stop that is under way, and whoever walks it.
//!
//! The walking is done by a **conductor**, a process of its own that comes and goes with the stop: it has the room for
//! what a stop takes besides a signal. It orders, the supervisor obeys. If the conductor is lost
//!
//! * before it has ordered the stop signal, another one is started for the same request, which has what is left of the
//!   budget; after [`CONDUCTORS`] of them the supervisor walks the stop by itself,
//! * after that, the supervisor walks the rest by itself: SIGKILL at the deadline, the start if it was a restart.
//!
//! A stop that was taken back before the signal is walked to its end, too: a conductor puts right what it has done to the
//! connections; if it is lost, the kernel has.
//!
//! Walking by itself means the same [`Sequence`], with a plan that has nothing in it but the signal. It is told again
//! what has happened since the request, each with its time, and then it is where this stop is; what it asks for and
//! was done before is not done again.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::diagnosis::{Code, Finding};
use gracefully_core::event::{self, ExitStatus};
use gracefully_core::plan::{GIVE_UP, Plan, Work};
use gracefully_core::policy::{Care, Policy, Request, Then, Timeout};
use gracefully_core::report::{Conclusion, Reason, Report, Target, Verdict};
use gracefully_core::sequence::Sequence;
use gracefully_core::signal::Signal;
use serde_json::value::RawValue;

use super::{Action, Ask, Awaited, Client, Now, Program, Start, Supervisor};
use crate::protocol::{Answer, Job, News, Order, raw};

/// How many conductors may be lost before the stop signal.
const CONDUCTORS: u8 = 3;

/// How long after the end of a step a conductor is taken to hang. It is never reached by one that runs.
const HANGS: Duration = Duration::from_secs(5);

/// A stop.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    requested: Now,
    policy: Policy,
    care: Care,
    gateways: Vec<String>,
    /// What happened, each with the time since the request.
    history: Vec<(Duration, event::Event)>,
    walker: Walker,
    /// How many conductors were lost.
    lost: u8,
    /// When the budget ends by all that was requested, on the monotonic clock; `None`: never.
    ends: Option<Duration>,
    /// The stop signal was sent.
    signalled: bool,
    /// When to kill, on the monotonic clock; `None`: never, or the signal was not sent.
    kill_at: Option<Duration>,
    killed: bool,
    /// When the main process has ended, on the monotonic clock.
    ended: Option<Duration>,
    /// The order to start the program again was given.
    restarted: bool,
    findings: Vec<Finding>,
    /// Whether the program was to stay down before this stop.
    stopped_on_purpose: bool,
    listeners: Vec<Client>,
    /// Who has asked for it; `None`: somebody did by a signal to us.
    requesters: Vec<Option<Client>>,
    /// For those who join later.
    told: Vec<Box<RawValue>>,
}

#[derive(Clone, Debug)]
enum Walker {
    Conductor,
    Ourselves(Box<Sequence>),
}

impl Stop {
    /// Who listens from now on hears what was told before.
    pub(super) fn listen(&mut self, client: Option<Client>) -> Vec<Box<RawValue>> {
        self.listeners.extend(client);
        if client.is_some() { self.told.clone() } else { Vec::new() }
    }

    /// When there is something to do if nothing happens.
    pub(super) fn deadline(&self, is_up: bool) -> Option<Duration> {
        match &self.walker {
            Walker::Ourselves(sequence) => sequence.deadline().map(|at| self.requested.monotonic + at),
            Walker::Conductor => {
                let kill = self.kill_at.filter(|_| is_up && !self.killed);
                kill.into_iter().chain(self.hangs_at()).min()
            }
        }
    }

    /// When a conductor of which nothing was heard is taken to hang.
    fn hangs_at(&self) -> Option<Duration> {
        let start = if self.policy.then == Then::Start { self.care.ready } else { Duration::ZERO };
        let end = match self.ended {
            // It may still be busy with what it has kept time for.
            Some(ended) => Some(ended.max(self.kill_at.or(self.ends).unwrap_or(ended))),
            None if self.signalled => self.kill_at.map(|at| at + GIVE_UP),
            None => self.ends,
        };
        end.map(|at| at + start + HANGS)
    }

    /// Is what runs now the program that it has started?
    pub(super) fn has_restarted(&self) -> bool {
        self.restarted
    }

    /// Was it taken back before the signal?
    pub(super) fn is_aborted(&self) -> bool {
        self.history.iter().any(|(_, event)| *event == event::Event::Aborted)
    }

    /// Has nobody but this client asked for it?
    fn is_of(&self, client: Client) -> bool {
        let is_request = |event: &event::Event| matches!(event, event::Event::StopRequested { .. });
        let requests = self.history.iter().filter(|(_, event)| is_request(event)).count();
        requests == 1 && self.listeners == [client]
    }

    fn since_request(&self, now: Now) -> Duration {
        now.monotonic.saturating_sub(self.requested.monotonic)
    }

    /// Tells the sequence, if we walk it, and remembers it for one that we may have to.
    fn tell(&mut self, now: Now, event: event::Event) {
        let at = self.since_request(now);
        if let Walker::Ourselves(sequence) = &mut self.walker {
            sequence.handle(at, event.clone());
        }
        self.history.push((at, event));
    }

    fn tell_exit(&mut self, now: Now, status: ExitStatus) {
        self.ended = Some(now.monotonic);
        self.tell(now, event::Event::MainExited(status));
        // With PID 1 everything in its namespace has ended.
        self.tell(now, event::Event::AllExited);
    }
}

// === with a conductor ===

impl Supervisor {
    pub(super) fn begin_stop(&mut self, now: Now, request: &Request, client: Option<Client>) {
        let policy = Policy::resolve(request, &self.record.settings());
        let mut stop = Stop {
            requested: now,
            policy,
            care: request.care,
            gateways: request.gateways.clone(),
            history: Vec::new(),
            walker: Walker::Conductor,
            lost: 0,
            ends: policy.timeout.value.limit().map(|budget| now.monotonic.saturating_add(budget)),
            signalled: false,
            kill_at: None,
            killed: false,
            ended: None,
            restarted: false,
            findings: Vec::new(),
            stopped_on_purpose: self.stopped_on_purpose,
            listeners: client.into_iter().collect(),
            requesters: Vec::from([client]),
            told: Vec::new(),
        };
        stop.tell(now, event::Event::StopRequested { budget: None, then: policy.then, again: false });
        if !self.is_up() {
            stop.tell_exit(now, self.record.exit.unwrap_or(ExitStatus::Unknown));
        }
        self.conduct(now, &stop);
        self.stop = Some(stop);
    }

    /// Starts a conductor, and tells it what the ones before it knew.
    fn conduct(&mut self, now: Now, stop: &Stop) {
        self.actions.push_back(Action::Conduct(Job {
            target: self.target(),
            policy: stop.policy,
            care: stop.care,
            gateways: stop.gateways.clone(),
            is_resumed: stop.lost > 0,
            requested_at: stop.requested.wall,
            elapsed: stop.since_request(now),
            main: self.main(),
        }));
        let since_request = stop.since_request(now);
        for (at, event) in stop.history.iter().skip(1) {
            self.actions.extend(self.news(stop, event, since_request.saturating_sub(*at)).map(Action::Tell));
        }
    }

    /// What a conductor is told of an event that was this long ago.
    fn news(&self, stop: &Stop, event: &event::Event, ago: Duration) -> Option<News> {
        match event {
            event::Event::StopRequested { budget, then, again } => {
                let left = |budget| match budget {
                    Timeout::After(limit) => Timeout::After(Duration::saturating_sub(limit, ago)),
                    Timeout::Never => Timeout::Never,
                };
                Some(News::Stop { budget: budget.map(left), then: *then, again: *again })
            }
            event::Event::MainExited(exit) => {
                Some(News::Ended { exit: *exit, findings: stop.findings.clone() })
            }
            event::Event::Started(Ok(())) => Some(News::Started(self.main())),
            event::Event::Started(Err(why)) => Some(News::NotStarted(why.clone())),
            event::Event::Aborted => Some(News::Abort),
            event::Event::Deregistered(_)
            | event::Event::ConnectionsObserved(_)
            | event::Event::ConnectionsHidden
            | event::Event::AllExited
            | event::Event::Unheard
            | event::Event::Killed
            | event::Event::Flushed(_)
            | event::Event::EngineLost(_)
            | event::Event::Timer => None,
        }
    }

    pub(super) fn further_request(&mut self, now: Now, request: &Request, client: Option<Client>) {
        let Some(mut stop) = self.stop.take() else { return };
        // Who wants the same as others is not impatient; who asks again is.
        let again = stop.requesters.contains(&client);
        if !again {
            stop.requesters.push(client);
        }
        let end = request.timeout.and_then(Timeout::limit).map(|budget| now.monotonic.saturating_add(budget));
        stop.ends = stop.ends.into_iter().chain(end).min();
        if request.then == Then::Stay {
            stop.policy.then = Then::Stay;
        }
        let (budget, then) = (request.timeout, request.then);
        self.advance(now, stop, event::Event::StopRequested { budget, then, again });
    }

    /// Whoever has asked for the stop takes it back.
    pub(super) fn on_abort(&mut self, now: Now, client: Option<Client>) {
        let is_its = |(asked, ask): &(Option<Client>, Ask)| *asked == client && matches!(ask, Ask::Stop(_));
        if client.is_some() && self.deferred.iter().any(is_its) {
            // It has not begun.
            self.deferred.retain(|deferred| !is_its(deferred));
            return self.answer(client, Answer::NotRunning);
        }
        let Some(stop) = self.stop.take() else { return };
        let alone = client.is_some_and(|client| stop.is_of(client));
        let conducted = matches!(stop.walker, Walker::Conductor);
        if alone && conducted && self.is_up() && !stop.signalled && !stop.is_aborted() {
            self.stopped_on_purpose = stop.stopped_on_purpose;
            self.advance(now, stop, event::Event::Aborted);
        } else {
            self.stop = Some(stop);
        }
    }

    pub(super) fn tell_stop_of_exit(
        &mut self,
        now: Now,
        mut stop: Stop,
        status: ExitStatus,
        lost: Option<Finding>,
    ) {
        stop.findings.extend(lost);
        stop.tell_exit(now, status);
        self.pass_on(now, stop, 2);
    }

    /// The program that this stop has had started runs, or does not.
    pub(super) fn tell_stop_of_start(&mut self, now: Now, started: Result<(), String>) {
        // Whoever walked it may have given up waiting.
        if let Some(stop) = self.stop.take() {
            self.advance(now, stop, event::Event::Started(started));
        }
    }

    /// What this stop has had started has ended again, or the restart policy has started it after that.
    pub(super) fn tell_stop_of_change(&mut self) {
        let conducted = |stop: &Stop| stop.restarted && matches!(stop.walker, Walker::Conductor);
        if self.stop.as_ref().is_some_and(conducted) {
            self.actions.push_back(Action::Tell(News::Started(self.main())));
        }
    }

    fn advance(&mut self, now: Now, mut stop: Stop, event: event::Event) {
        stop.tell(now, event);
        self.pass_on(now, stop, 1);
    }

    /// Lets whoever walks the stop act on its last `n` events.
    fn pass_on(&mut self, now: Now, stop: Stop, n: usize) {
        match &stop.walker {
            Walker::Conductor => {
                for (_, event) in &stop.history[stop.history.len() - n..] {
                    self.actions.extend(self.news(&stop, event, Duration::ZERO).map(Action::Tell));
                }
                self.stop = Some(stop);
            }
            Walker::Ourselves(_) => {
                let at = stop.since_request(now);
                self.go_on_alone(now, stop, at);
            }
        }
    }

    pub(super) fn on_ordered(&mut self, now: Now, order: Order) {
        let Some(mut stop) = self.stop.take() else { return };
        if let Walker::Ourselves(_) = stop.walker {
            // The last words of a conductor that was given up.
            self.stop = Some(stop);
            return;
        }
        match order {
            Order::Terminate { kill_after_ms } => {
                let at =
                    kill_after_ms.map(|after| now.monotonic.saturating_add(Duration::from_millis(after)));
                stop.kill_at = stop.kill_at.into_iter().chain(at).min();
                if stop.is_aborted() && self.is_up() {
                    // It was ordered before the conductor heard of the abort: that comes too late.
                    stop.history.retain(|(_, event)| *event != event::Event::Aborted);
                    self.stopped_on_purpose |= stop.policy.then == Then::Stay;
                }
                self.terminate(&mut stop);
            }
            Order::Kill => self.kill(&mut stop),
            Order::Start => self.start_again(now, &mut stop),
            Order::Progress(progress) => {
                for &listener in &stop.listeners {
                    self.actions.push_back(Action::Answer(listener, Answer::Progress(progress.clone())));
                }
                stop.told.push(progress);
            }
            Order::Report(report) => return self.conclude(now, stop, report),
        }
        self.stop = Some(stop);
    }

    pub(super) fn on_conductor_lost(&mut self, now: Now) {
        let Some(mut stop) = self.stop.take() else { return };
        if let Walker::Ourselves(_) = stop.walker {
            self.stop = Some(stop);
            return;
        }
        stop.lost += 1;
        if stop.signalled || stop.is_aborted() || stop.lost >= CONDUCTORS {
            return self.walk_alone(now, stop);
        }
        // The next one tells it again.
        stop.told.clear();
        self.conduct(now, &stop);
        self.stop = Some(stop);
    }

    pub(super) fn on_time_of_stop(&mut self, now: Now) {
        let Some(mut stop) = self.stop.take() else { return };
        match &mut stop.walker {
            Walker::Ourselves(sequence) => {
                let at = now.monotonic.saturating_sub(stop.requested.monotonic);
                sequence.handle(at, event::Event::Timer);
                self.go_on_alone(now, stop, at);
            }
            Walker::Conductor => {
                if stop.kill_at.is_some_and(|at| at <= now.monotonic) {
                    self.kill(&mut stop);
                }
                if stop.hangs_at().is_some_and(|at| at <= now.monotonic) {
                    self.actions.push_back(Action::Dismiss);
                    stop.lost += 1;
                    return self.walk_alone(now, stop);
                }
                self.stop = Some(stop);
            }
        }
    }
}

// === without a conductor ===

impl Supervisor {
    fn walk_alone(&mut self, now: Now, mut stop: Stop) {
        if stop.is_aborted() {
            let took = stop.since_request(now);
            let (verdict, reason) = (Verdict::Failed, Reason::Aborted);
            let conclusion = Conclusion { verdict, reason, exit: None, took, steps: Vec::new() };
            return self.report(now, stop, conclusion);
        }
        let message = match stop.lost {
            1 => String::from(
                "The conductor of this stop was lost; the monitor ended it with the signal alone.",
            ),
            n => {
                format!("{n} conductors of this stop were lost; the monitor ended it with the signal alone.")
            }
        };
        stop.findings.push(Finding::new(Code::ConductorLost, message));
        let plan =
            Plan::new(stop.policy, Work::of(Care { ready: stop.care.ready, ..Care::NONE }, stop.policy.then));
        stop.walker = Walker::Ourselves(Box::new(Sequence::new(plan)));
        let here = (stop.since_request(now), event::Event::Timer);
        for (at, event) in core::mem::take(&mut stop.history).into_iter().chain([here]) {
            if let Walker::Ourselves(sequence) = &mut stop.walker {
                sequence.handle(at, event);
            }
            match self.carry_out(now, stop, at) {
                Some(going_on) => stop = going_on,
                None => return,
            }
        }
        self.stop = Some(stop);
    }

    /// Carries out what the sequence asks for.
    fn go_on_alone(&mut self, now: Now, stop: Stop, at: Duration) {
        // When it is over there may be another one already.
        if let Some(stop) = self.carry_out(now, stop, at) {
            self.stop = Some(stop);
        }
    }

    /// Carries out what the sequence asks for at this time since the request. `None`: the stop is over.
    fn carry_out(&mut self, now: Now, mut stop: Stop, at: Duration) -> Option<Stop> {
        while let Walker::Ourselves(sequence) = &mut stop.walker
            && let Some(action) = sequence.next_action()
        {
            match action {
                event::Action::Signal { .. } => self.terminate(&mut stop),
                // Nothing in this process buffers the program's data.
                event::Action::Flush { .. } => sequence.handle(at, event::Event::Flushed(Ok(()))),
                event::Action::Kill => self.kill(&mut stop),
                event::Action::Start => self.start_again(now, &mut stop),
                event::Action::Done => {
                    let conclusion = sequence.conclusion().expect("the sequence is done");
                    self.report(now, stop, conclusion);
                    return None;
                }
                event::Action::Deregister
                | event::Action::Reregister
                | event::Action::Observe
                | event::Action::Hold
                | event::Action::Refuse
                | event::Action::Release
                | event::Action::Sweep(_) => unreachable!("{action:?} is not in the plan"),
            }
        }
        Some(stop)
    }

    /// Concludes it with a report of our own.
    fn report(&mut self, now: Now, mut stop: Stop, conclusion: Conclusion) {
        let requested_at = stop.requested.wall.to_millis();
        let findings = core::mem::take(&mut stop.findings);
        let report = Report::new(self.target(), requested_at, &stop.policy, conclusion, findings);
        self.conclude(now, stop, raw(&report));
    }
}

// === what both do ===

impl Supervisor {
    fn terminate(&mut self, stop: &mut Stop) {
        if self.is_up() && !stop.signalled {
            stop.signalled = true;
            self.actions.push_back(Action::Terminate(stop.policy.signal.value));
        }
    }

    fn kill(&mut self, stop: &mut Stop) {
        if self.is_up() && !stop.killed && !stop.restarted {
            stop.killed = true;
            self.actions.push_back(Action::Send(Signal::KILL, None));
        }
    }

    fn start_again(&mut self, now: Now, stop: &mut Stop) {
        // If it is to stay down, whoever orders this has not heard of that yet.
        let is_wanted = stop.policy.then == Then::Start;
        if is_wanted && !stop.restarted && matches!(self.program, Program::Down) {
            stop.restarted = true;
            self.release_waiting();
            self.launch(now, Start::Stop);
        }
    }

    fn conclude(&mut self, now: Now, stop: Stop, report: Box<RawValue>) {
        self.actions.push_back(Action::Report(report.clone()));
        let answer = Answer::Report(report);
        let deferred = core::mem::take(&mut self.deferred);
        if let Program::Down = self.program {
            // They are told when nothing is left of it.
            let mut told = stop.listeners;
            for (client, ask) in deferred {
                match ask {
                    // It is down, as they want.
                    Ask::Stop(_) => told.extend(client),
                    Ask::Signal(_) | Ask::Wait | Ask::Abort => self.answer(client, Answer::NotRunning),
                }
            }
            let told = told.into_iter().map(|client| (client, Awaited::This(answer.clone())));
            self.waiting.extend(told);
            return self.leave();
        }
        for client in stop.listeners {
            self.answer(Some(client), answer.clone());
        }
        for (client, ask) in deferred {
            self.on_asked(now, client, ask);
        }
    }

    fn target(&self) -> Target {
        let record = &self.record;
        Target { engine: String::from("local"), id: record.id.clone(), name: record.name.clone() }
    }
}
