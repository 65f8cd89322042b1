//! The state machine of a stop: `Deregister → Settle → Drain → Terminate → Flush → Kill`.
//!
//! It does no I/O and has no clock. A driver (the CLI, the local engine's monitor, init, the library) tells it
//! [`Event`]s with their times, carries out the [`Action`]s that come back, and calls again when
//! [`deadline`](Sequence::deadline) is reached:
//!
//! ```
//! use core::time::Duration;
//! use gracefully_core::event::{Action, Event, ExitStatus};
//! use gracefully_core::plan::{Plan, Work};
//! use gracefully_core::policy::{Policy, Request, Settings, Then};
//! use gracefully_core::report::Verdict;
//! use gracefully_core::sequence::Sequence;
//!
//! let policy = Policy::resolve(&Request::default(), &Settings::default());
//! let mut stop = Sequence::new(Plan::new(policy, Work::default()));
//! let ms = Duration::from_millis;
//!
//! stop.handle(ms(0), Event::StopRequested { budget: None, then: Then::Stay, again: false });
//! assert!(matches!(stop.next_action(), Some(Action::Signal { .. })));
//! stop.handle(ms(80), Event::MainExited(ExitStatus::Code(0)));
//! stop.handle(ms(80), Event::AllExited);
//! assert!(matches!(stop.next_action(), Some(Action::Flush { .. })));
//! stop.handle(ms(81), Event::Flushed(Ok(())));
//! assert_eq!(stop.next_action(), Some(Action::Done));
//! assert_eq!(stop.conclusion().unwrap().verdict, Verdict::Graceful);
//! ```
//!
//! What holds for every order of events (the tests search all of them to a depth):
//!
//! 1. With a budget it ends: at the latest when what survived SIGKILL is given up.
//! 2. The stop signal is sent at most once, and only after Drain ended by a fact, its cap or somebody who asked again.
//! 3. SIGKILL is sent at most once, and not before the deadline in force; whoever asks a third time moves that to now, and so
//!    does the news that the stop signal reaches nobody, if the program is drained.
//! 4. Flush is asked for exactly once before the end, also before a kill, unless the stop was aborted or the
//!    engine lost.
//! 5. A further request never prolongs anything.
//! 6. Whatever was held is released.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::event::{Action, Event, ExitStatus};
use crate::phase::{Outcome, Phase, Skip, Step};
use crate::plan::{AT_LEAST, Ends, GIVE_UP, NewConnections, Plan, Reach, earlier};
use crate::policy::{Then, Timeout};
use crate::report::{Conclusion, Reason, Verdict};
use crate::signal::Signal;
use crate::traffic::Traffic;

/// One stop, from the request (or the crash) to the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sequence {
    plan: Plan,
    state: State,
    /// When the current state was entered.
    entered: Duration,
    /// When the stop was requested, or the program crashed.
    origin: Duration,
    /// The plan's ends counted from `origin`, shortened by further requests.
    ends: Ends,
    /// How often somebody has asked again for the stop; more than twice changes nothing.
    urged: u8,
    /// When the registries were asked, while their answer is due.
    deregistering: Option<Duration>,
    observing: bool,
    /// The connections cannot be looked at.
    hidden: bool,
    /// New connections are held or refused at present.
    gate_closed: bool,
    /// Drain ended because nothing was in flight any more.
    drained: bool,
    /// The stop signal reaches nobody.
    unheard: bool,
    traffic: Traffic,
    main_exit: Option<ExitStatus>,
    all_exited: bool,
    killed: bool,
    /// What went wrong besides a kill or a cut connection.
    failure: Option<Reason>,
    /// Connections in flight when main ended.
    cut: u32,
    steps: Vec<Step>,
    actions: VecDeque<Action>,
}

/// Where the stop is. `Running`, `Starting` and `Done` are not phases, the others are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Running,
    Deregister,
    Settle { quiet_since: Duration, until: Option<Duration> },
    Drain,
    Terminate { swept: bool },
    Flush { until: Option<Duration> },
    Kill { sent: bool, give_up: Option<Duration> },
    Starting { until: Duration },
    Done,
}

impl Sequence {
    /// A sequence that waits for a request or a crash.
    pub fn new(plan: Plan) -> Self {
        let ends = plan.ends;
        Self {
            plan,
            state: State::Running,
            entered: Duration::ZERO,
            origin: Duration::ZERO,
            ends,
            urged: 0,
            deregistering: None,
            observing: false,
            hidden: false,
            gate_closed: false,
            drained: false,
            unheard: false,
            traffic: Traffic::default(),
            main_exit: None,
            all_exited: false,
            killed: false,
            failure: None,
            cut: 0,
            steps: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Tells the sequence what happened at time `at`. Times never go backwards.
    pub fn handle(&mut self, at: Duration, event: Event) {
        match event {
            Event::StopRequested { budget, then, again } => self.on_request(at, budget, then, again),
            Event::Aborted => self.on_abort(at),
            Event::Deregistered(result) => self.on_deregistered(at, result),
            Event::ConnectionsObserved(traffic) => self.on_connections(at, traffic),
            Event::ConnectionsHidden => self.on_hidden(at),
            Event::MainExited(status) => self.on_main_exit(at, status),
            Event::AllExited => self.on_all_exited(at),
            Event::Unheard => self.on_unheard(at),
            Event::Killed => self.on_killed(),
            Event::Flushed(result) => self.on_flushed(at, result),
            Event::Started(result) => self.on_started(at, result),
            Event::EngineLost(why) => self.on_engine_lost(at, why),
            Event::Timer => {}
        }
        // Time passes with every event, not only with Timer. Each expiry enters a later state or moves the
        // deadline on, so this ends.
        while self.deadline().is_some_and(|deadline| deadline <= at) {
            self.expire(at);
        }
    }

    /// The next thing to do, in order; `None` until another event is told.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to tell [`Event::Timer`] if nothing else happens.
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Running | State::Done => None,
            State::Deregister => self.ends.deregister,
            State::Settle { until, .. } => earlier(until, self.ends.traffic),
            State::Drain => self.ends.traffic,
            State::Terminate { swept: true } => self.ends.terminate,
            State::Terminate { swept: false } => earlier(self.ends.main, self.ends.terminate),
            State::Flush { until } => until,
            State::Kill { sent: false, .. } => self.ends.kill,
            State::Kill { sent: true, give_up } => give_up,
            State::Starting { until } => Some(until),
        }
    }

    /// The phase that is running, if one is.
    pub fn phase(&self) -> Option<Phase> {
        match self.state {
            State::Running | State::Starting { .. } | State::Done => None,
            State::Deregister => Some(Phase::Deregister),
            State::Settle { .. } => Some(Phase::Settle),
            State::Drain => Some(Phase::Drain),
            State::Terminate { .. } => Some(Phase::Terminate),
            State::Flush { .. } => Some(Phase::Flush),
            State::Kill { .. } => Some(Phase::Kill),
        }
    }

    /// The phases that have ended so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// When whatever is left is killed; `None`: never.
    pub fn kill_at(&self) -> Option<Duration> {
        self.ends.kill
    }

    /// The latest look at the connections.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What this sequence was made from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How it ended, once [`Action::Done`] was asked for.
    pub fn conclusion(&self) -> Option<Conclusion> {
        if self.state != State::Done {
            return None;
        }
        let died_of_kill = self.killed || self.main_exit == Some(ExitStatus::Signal(Signal::KILL));
        let (verdict, reason) = match &self.failure {
            Some(failure) => (Verdict::Failed, failure.clone()),
            None if died_of_kill => (Verdict::Forced, Reason::Killed),
            None if self.cut > 0 => (Verdict::Forced, Reason::Cut(self.cut)),
            None => (Verdict::Graceful, Reason::Exited),
        };
        Some(Conclusion {
            verdict,
            reason,
            exit: self.main_exit,
            took: self.entered.saturating_sub(self.origin),
            steps: self.steps.clone(),
        })
    }
}

// === events ===

impl Sequence {
    fn on_request(&mut self, at: Duration, budget: Option<Timeout>, then: Then, again: bool) {
        if self.state == State::Running {
            self.begin(at);
            return self.enter_deregister(at);
        }
        if then == Then::Stay {
            self.plan.policy.then = Then::Stay;
            if let State::Starting { .. } = self.state {
                // Nobody waits for it any more. If it was started already, that is another stop's affair.
                return self.finish(at);
            }
        }
        if let Some(budget) = budget {
            self.ends = self.ends.earlier(Ends::new(budget, &self.plan.work).after(at));
            if let State::Flush { until } = &mut self.state {
                *until = earlier(*until, flush_end(at, self.ends));
            }
        }
        if again {
            self.urged = self.urged.saturating_add(1);
            match self.urged {
                0 | 1 => self.skip_waiting(at),
                2.. => self.kill_now(at),
            }
        }
    }

    /// Asked again: nothing waits for traffic any more. Deregister goes on, it does not wait but work.
    fn skip_waiting(&mut self, at: Duration) {
        match self.state {
            State::Settle { .. } => {
                self.leave(at, Outcome::Hurried);
                self.enter_drain(at);
            }
            State::Drain => {
                self.leave(at, Outcome::Hurried);
                self.enter_terminate(at);
            }
            State::Running
            | State::Deregister
            | State::Terminate { .. }
            | State::Flush { .. }
            | State::Kill { .. }
            | State::Starting { .. }
            | State::Done => {}
        }
    }

    /// Asked a third time: the deadline is now.
    fn kill_now(&mut self, at: Duration) {
        let now = Some(at);
        self.ends = self.ends.earlier(Ends {
            deregister: now,
            traffic: now,
            main: now,
            terminate: now,
            flush: now,
            kill: now,
            give_up: Some(at + GIVE_UP),
        });
        match &mut self.state {
            State::Deregister | State::Settle { .. } | State::Drain | State::Terminate { .. } => {
                let after = self.phase();
                self.leave(at, Outcome::Hurried);
                for phase in [Phase::Settle, Phase::Drain, Phase::Terminate] {
                    if Some(phase) > after {
                        self.skip(at, phase, Skip::Hurried);
                    }
                }
                self.enter_flush(at);
            }
            State::Flush { until } => *until = earlier(*until, Some(at + AT_LEAST)),
            // Running cannot be: this is a further request. Kill obeys the new end by itself.
            State::Running | State::Kill { .. } | State::Starting { .. } | State::Done => {}
        }
    }

    fn on_abort(&mut self, at: Duration) {
        match self.state {
            State::Deregister | State::Settle { .. } | State::Drain => {
                self.leave(at, Outcome::Failed("aborted".to_string()));
                self.reregister();
                self.failure = Some(Reason::Aborted);
                self.finish(at);
            }
            // Before the request there is nothing to abort; after the signal it is too late.
            State::Running
            | State::Terminate { .. }
            | State::Flush { .. }
            | State::Kill { .. }
            | State::Starting { .. }
            | State::Done => {}
        }
    }

    fn on_deregistered(&mut self, at: Duration, result: Result<(), String>) {
        // A late answer finds nothing outstanding: the phase is in the report as late already.
        let Some(began) = self.deregistering.take() else { return };
        let outcome = result.map_or_else(Outcome::Failed, |()| Outcome::Done);
        self.record(Phase::Deregister, began, at, outcome);
        if self.state == State::Deregister {
            self.enter_settle(at);
        }
    }

    fn on_connections(&mut self, at: Duration, traffic: Traffic) {
        self.traffic = traffic;
        match &mut self.state {
            State::Settle { quiet_since, .. } => {
                if traffic.new > 0 {
                    *quiet_since = at;
                } else if self.plan.work.settle.is_some_and(|settle| at >= *quiet_since + settle.quiet) {
                    self.leave(at, Outcome::Done);
                    self.enter_drain(at);
                }
            }
            State::Drain if traffic.in_flight == 0 => {
                self.drained = true;
                self.leave(at, Outcome::Done);
                self.enter_terminate(at);
            }
            State::Terminate { .. } if self.unheard => self.kill_unheard(at),
            State::Running
            | State::Deregister
            | State::Drain
            | State::Terminate { .. }
            | State::Flush { .. }
            | State::Kill { .. }
            | State::Starting { .. }
            | State::Done => {}
        }
    }

    /// What cannot be seen cannot be waited for.
    fn on_hidden(&mut self, at: Duration) {
        self.hidden = true;
        match self.state {
            State::Settle { .. } => {
                self.leave(at, Outcome::Skipped(Skip::NotVisible));
                self.enter_drain(at);
            }
            State::Drain => {
                self.leave(at, Outcome::Skipped(Skip::NotVisible));
                self.enter_terminate(at);
            }
            State::Running
            | State::Deregister
            | State::Terminate { .. }
            | State::Flush { .. }
            | State::Kill { .. }
            | State::Starting { .. }
            | State::Done => {}
        }
    }

    fn on_main_exit(&mut self, at: Duration, status: ExitStatus) {
        if self.main_exit.is_some() {
            return;
        }
        match self.state {
            State::Running => {
                self.main_exit = Some(status);
                self.crash(at, status);
            }
            State::Deregister => self.main_exit = Some(status),
            State::Settle { .. } | State::Drain => {
                self.main_exit = Some(status);
                self.cut = self.traffic.in_flight;
                let in_settle = self.phase() == Some(Phase::Settle);
                self.leave(at, Outcome::Failed("the program ended by itself".to_string()));
                if in_settle {
                    self.skip(at, Phase::Drain, Skip::AlreadyGone);
                }
                self.enter_terminate(at);
            }
            State::Terminate { ref mut swept } => {
                self.main_exit = Some(status);
                self.cut = self.traffic.in_flight;
                let sweep = !core::mem::replace(swept, true) && self.plan.work.reach == Reach::Family;
                if sweep {
                    self.actions.push_back(Action::Sweep(self.plan.policy.signal.value));
                }
            }
            State::Flush { .. } | State::Kill { .. } => {
                self.main_exit = Some(status);
                self.cut = self.traffic.in_flight;
            }
            // The restarted program's exit is told as Started(Err(…)).
            State::Starting { .. } | State::Done => {}
        }
    }

    fn on_all_exited(&mut self, at: Duration) {
        if self.main_exit.is_none() {
            self.on_main_exit(at, ExitStatus::Unknown);
        }
        match self.state {
            State::Deregister | State::Flush { .. } => self.all_exited = true,
            State::Terminate { .. } => {
                self.all_exited = true;
                self.leave(at, Outcome::Done);
                self.enter_flush(at);
            }
            State::Kill { .. } => {
                self.all_exited = true;
                self.leave(at, Outcome::Done);
                self.after_exit(at);
            }
            State::Running | State::Settle { .. } | State::Drain => {
                unreachable!("the exit of main has left {:?}", self.state)
            }
            State::Starting { .. } | State::Done => {}
        }
    }

    fn on_unheard(&mut self, at: Duration) {
        self.unheard = true;
        self.kill_unheard(at);
    }

    /// Waiting for the program to react would change nothing; and when it is drained, there is nothing else to wait for. It
    /// goes on serving, so a connection of which nobody knew may have brought a request meanwhile: that is answered first.
    fn kill_unheard(&mut self, at: Duration) {
        match self.state {
            State::Terminate { .. }
                if self.drained
                    && self.traffic.in_flight == 0
                    && self.main_exit.is_none()
                    && self.plan.work.kill_unheard =>
            {
                self.ends.terminate = earlier(self.ends.terminate, Some(at));
                self.ends.flush = earlier(self.ends.flush, Some(at));
                self.ends.kill = earlier(self.ends.kill, Some(at));
                self.ends.give_up = earlier(self.ends.give_up, Some(at + GIVE_UP));
                self.leave(at, Outcome::Unheard);
                self.enter_flush(at);
            }
            State::Running
            | State::Deregister
            | State::Settle { .. }
            | State::Drain
            | State::Terminate { .. }
            | State::Flush { .. }
            | State::Kill { .. }
            | State::Starting { .. }
            | State::Done => {}
        }
    }

    fn on_killed(&mut self) {
        match self.state {
            State::Starting { .. } | State::Done => {}
            State::Running
            | State::Deregister
            | State::Settle { .. }
            | State::Drain
            | State::Terminate { .. }
            | State::Flush { .. }
            | State::Kill { .. } => self.killed = true,
        }
    }

    fn on_flushed(&mut self, at: Duration, result: Result<(), String>) {
        if let State::Flush { .. } = self.state {
            self.leave(at, result.map_or_else(Outcome::Failed, |()| Outcome::Done));
            self.after_flush(at);
        }
    }

    fn on_started(&mut self, at: Duration, result: Result<(), String>) {
        if let State::Starting { .. } = self.state {
            match result {
                Ok(()) => self.reregister(),
                Err(why) => self.failure = Some(Reason::NotStarted(why)),
            }
            self.finish(at);
        }
    }

    /// It serves on, or again, and has left the places where others find it.
    fn reregister(&mut self) {
        if self.plan.work.deregister {
            self.actions.push_back(Action::Reregister);
        }
    }

    fn on_engine_lost(&mut self, at: Duration, why: String) {
        match self.state {
            State::Running | State::Done => {}
            State::Deregister
            | State::Settle { .. }
            | State::Drain
            | State::Terminate { .. }
            | State::Flush { .. }
            | State::Kill { .. }
            | State::Starting { .. } => {
                let is_before_the_signal = self.phase().is_some_and(|phase| phase < Phase::Terminate);
                self.leave(at, Outcome::Failed(why.clone()));
                if is_before_the_signal {
                    self.reregister();
                }
                self.failure = Some(Reason::EngineLost(why));
                self.finish(at);
            }
        }
    }

    /// The current deadline has passed.
    fn expire(&mut self, at: Duration) {
        match self.state {
            State::Deregister => {
                self.leave(at, Outcome::Late);
                self.enter_settle(at);
            }
            State::Settle { quiet_since, .. } => {
                // With little time, this may come before the look that would have shown it. Nobody new at all is quiet, however short.
                let is_quiet = quiet_since <= self.entered
                    || self.plan.work.settle.is_some_and(|settle| at >= quiet_since + settle.quiet);
                self.leave(at, if is_quiet { Outcome::Done } else { Outcome::Late });
                self.enter_drain(at);
            }
            State::Drain => {
                self.leave(at, Outcome::Late);
                self.enter_terminate(at);
            }
            State::Terminate { swept: false } if self.ends.terminate.is_none_or(|end| at < end) => {
                self.state = State::Terminate { swept: true };
                self.actions.push_back(Action::Sweep(self.plan.policy.signal.value));
            }
            State::Terminate { .. } => {
                self.leave(at, Outcome::Late);
                self.enter_flush(at);
            }
            State::Flush { .. } => {
                self.leave(at, Outcome::Late);
                self.after_flush(at);
            }
            State::Kill { sent: false, .. } => self.send_kill(at),
            State::Kill { sent: true, .. } => {
                self.leave(at, Outcome::Late);
                self.failure = Some(Reason::NotKillable);
                self.finish(at);
            }
            State::Starting { .. } => {
                self.failure = Some(Reason::not_ready());
                self.finish(at);
            }
            State::Running | State::Done => {}
        }
    }
}

// === transitions, in the order in which they happen ===

impl Sequence {
    fn begin(&mut self, at: Duration) {
        self.origin = at;
        self.ends = self.plan.ends.after(at);
    }

    /// Main ended unasked: deregister at once, without waiting for it, and give the rest of the family its
    /// signal.
    fn crash(&mut self, at: Duration, status: ExitStatus) {
        self.begin(at);
        if status != ExitStatus::Code(0) {
            self.failure = Some(Reason::Crashed);
        }
        if self.plan.work.deregister {
            self.ask_registries(at);
        } else {
            self.skip(at, Phase::Deregister, Skip::NotPlanned);
        }
        self.plan.policy.then = Then::Stay; // whether it is restarted is the engine's restart policy
        self.skip(at, Phase::Settle, Skip::AlreadyGone);
        self.skip(at, Phase::Drain, Skip::AlreadyGone);
        self.enter_terminate(at);
    }

    fn ask_registries(&mut self, at: Duration) {
        self.deregistering = Some(at);
        self.actions.push_back(Action::Deregister);
    }

    fn enter_deregister(&mut self, at: Duration) {
        if !self.plan.work.deregister {
            self.skip(at, Phase::Deregister, Skip::NotPlanned);
            return self.enter_settle(at);
        }
        self.enter(at, State::Deregister);
        self.ask_registries(at);
    }

    fn enter_settle(&mut self, at: Duration) {
        let Some(settle) = self.plan.work.settle else {
            self.skip(at, Phase::Settle, Skip::NotPlanned);
            return self.enter_drain(at);
        };
        if let Some(why) = self.why_not_wait(at) {
            self.skip(at, Phase::Settle, why);
            return self.enter_drain(at);
        }
        self.enter(at, State::Settle { quiet_since: at, until: Some(at.saturating_add(settle.at_most)) });
        self.observe();
    }

    fn enter_drain(&mut self, at: Duration) {
        let Some(new_connections) = self.plan.work.drain else {
            self.skip(at, Phase::Drain, Skip::NotPlanned);
            return self.enter_terminate(at);
        };
        // What is held waits for the restarted program, so it is held also if nothing is drained.
        if new_connections == NewConnections::Hold {
            self.close_gate(Action::Hold);
        }
        if let Some(why) = self.why_not_wait(at) {
            self.skip(at, Phase::Drain, why);
            return self.enter_terminate(at);
        }
        self.enter(at, State::Drain);
        if new_connections == NewConnections::Refuse {
            self.close_gate(Action::Refuse);
        }
        self.observe();
    }

    fn enter_terminate(&mut self, at: Duration) {
        if self.all_exited {
            self.skip(at, Phase::Terminate, Skip::AlreadyGone);
            return self.enter_flush(at);
        }
        let signal = self.plan.policy.signal.value;
        let family = self.plan.work.reach == Reach::Family;
        // Without a family there is nobody to sweep; without main there is nobody but the family.
        self.enter(at, State::Terminate { swept: !family || self.main_exit.is_some() });
        if self.main_exit.is_none() {
            self.actions.push_back(Action::Signal { signal, kill_at: self.ends.kill });
        } else if family {
            self.actions.push_back(Action::Sweep(signal));
        }
    }

    fn enter_flush(&mut self, at: Duration) {
        let until = flush_end(at, self.ends);
        self.enter(at, State::Flush { until });
        self.actions.push_back(Action::Flush { until });
    }

    fn after_flush(&mut self, at: Duration) {
        if self.all_exited {
            self.skip(at, Phase::Kill, Skip::AlreadyGone);
            return self.after_exit(at);
        }
        // The rest of the budget is still the program's; SIGKILL comes at its end, not before.
        self.enter(at, State::Kill { sent: false, give_up: None });
    }

    fn send_kill(&mut self, at: Duration) {
        self.killed = true;
        let give_up = self.ends.give_up.map(|end| end.max(at + AT_LEAST));
        self.state = State::Kill { sent: true, give_up };
        self.actions.push_back(Action::Kill);
    }

    /// Everything is gone and flushed.
    fn after_exit(&mut self, at: Duration) {
        match self.plan.policy.then {
            Then::Stay => self.finish(at),
            Then::Start => {
                self.enter(at, State::Starting { until: at.saturating_add(self.plan.work.ready) });
                self.actions.push_back(Action::Start);
            }
        }
    }

    fn finish(&mut self, at: Duration) {
        if let Some(began) = self.deregistering.take() {
            self.record(Phase::Deregister, began, at, Outcome::Late);
        }
        if core::mem::take(&mut self.gate_closed) {
            self.actions.push_back(Action::Release);
        }
        self.enter(at, State::Done);
        self.actions.push_back(Action::Done);
    }

    /// Why Settle and Drain must not wait now.
    fn why_not_wait(&self, at: Duration) -> Option<Skip> {
        if self.main_exit.is_some() {
            Some(Skip::AlreadyGone)
        } else if self.hidden {
            Some(Skip::NotVisible)
        } else if self.urged >= 1 {
            Some(Skip::Hurried)
        } else if self.ends.traffic.is_some_and(|end| end <= at) {
            Some(Skip::NoTime)
        } else {
            None
        }
    }

    fn observe(&mut self) {
        if !core::mem::replace(&mut self.observing, true) {
            self.actions.push_back(Action::Observe);
        }
    }

    fn close_gate(&mut self, how: Action) {
        self.gate_closed = true;
        self.actions.push_back(how);
    }

    fn enter(&mut self, at: Duration, state: State) {
        self.entered = at;
        self.state = state;
    }

    /// Records the end of the current phase; the caller enters the next state.
    fn leave(&mut self, at: Duration, outcome: Outcome) {
        if let Some(phase) = self.phase() {
            if phase == Phase::Deregister {
                self.deregistering = None;
            }
            self.record(phase, self.entered, at, outcome);
        }
    }

    fn skip(&mut self, at: Duration, phase: Phase, why: Skip) {
        self.record(phase, at, at, Outcome::Skipped(why));
    }

    fn record(&mut self, phase: Phase, began: Duration, ended: Duration, outcome: Outcome) {
        self.steps.push(Step {
            phase,
            began: began.saturating_sub(self.origin),
            took: ended.saturating_sub(began),
            outcome,
        });
    }
}

/// When a flush that goes on at time `at` is given up. Its reserve may be zero or used up (a budget of zero, a third
/// request): then there is one last short attempt.
fn flush_end(at: Duration, ends: Ends) -> Option<Duration> {
    ends.flush.map(|end| if end > at { end } else { at + AT_LEAST })
}

#[cfg(test)]
mod tests;
