//! The decisions of a monitor: a state machine without I/O and without a clock, as [`Sequence`] is one.
//!
//! It is told [`Event`]s and answers with [`Action`]s, which `watch` carries out. It is for its container what dockerd
//! is for docker's: it has the program started, sends the stop signal once when it is ordered, kills at the deadline
//! that comes with that order, starts again by order or by the restart policy, and answers clients. What else a stop
//! takes is the conductor's affair (see [`stop`]).
//!
//! What holds for every order of events (the tests search all of them to a depth):
//!
//! 1. In one stop the stop signal is sent at most once, and so is SIGKILL.
//! 2. Whatever becomes of conductors, a stop with a budget ends: not later than if nobody had conducted it.
//! 3. Every stop has exactly one report, and everybody who asked for it gets that one.
//! 4. The program is never started while it runs, and at most once by a stop.
//! 5. A stop is aborted only by the one who alone has asked for it, and only before the stop signal.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::diagnosis::Finding;
use gracefully_core::event::ExitStatus;
use gracefully_core::exit::USAGE;
use gracefully_core::policy::{Request, Then};
use gracefully_core::signal::Signal;
use gracefully_core::time::Timestamp;
use serde_json::value::RawValue;

use crate::backoff::{self, Backoff};
use crate::protocol::{Answer, Ask, Job, Launched, News, Order};
use crate::record::{Main, Record, Status};

use self::stop::Stop;

mod stop;
#[cfg(test)]
mod tests;

/// How long making a container may take. It takes milliseconds; a root file system on a dead server may take for ever.
const LAUNCH_WITHIN: Duration = Duration::from_secs(30);

/// The exit code when nobody knows how it ended, as docker's.
const UNKNOWN: i64 = 255;

/// A client that has asked something.
pub(crate) type Client = u64;

/// A moment on the two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Now {
    /// The monotonic one, which deadlines are on.
    pub(crate) monotonic: Duration,
    /// The one that people read.
    pub(crate) wall: Timestamp,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The launcher has made PID 1, which waits.
    Created(Main),
    /// The program has been executed.
    Started,
    /// It was not, and nothing is left of it: an exit code of `run`, and why.
    NotStarted { code: u8, message: String },
    /// PID 1 of what was [started](Self::Started) has ended, and was reaped. The finding tells what its log lacks.
    Exited { status: ExitStatus, lost: Option<Finding> },
    /// A client asks; `None`: somebody does by a signal to us.
    Asked(Option<Client>, Ask),
    /// The conductor orders.
    Ordered(Order),
    /// The conductor has ended without a report.
    ConductorLost,
    /// Time passed: [`Supervisor::deadline`] was reached.
    Timer,
}

/// Something to do.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Write the record down. If that fails the next command that looks puts it right, when we are gone.
    Save,
    /// Have the container made; answer with [`Event::Created`], then [`Event::Started`], or with [`Event::NotStarted`].
    Launch,
    /// Write the record down, then let PID 1 become the program. If it cannot be written, give the launch up and answer
    /// with [`Event::NotStarted`]: a process that is written down nowhere could be lost.
    Run,
    /// Give the launch up.
    Abandon,
    /// Send the stop signal to PID 1, and wake it up if it has stopped itself.
    Terminate(Signal),
    /// Send a signal to PID 1, and tell the client if there is one how that went; of SIGKILL only if it failed.
    Send(Signal, Option<Client>),
    /// Start a conductor; answer with [`Event::ConductorLost`] if there is none.
    Conduct(Job),
    /// Tell the conductor.
    Tell(News),
    /// End the conductor, of which nothing is heard any more.
    Dismiss,
    /// Answer a client.
    Answer(Client, Answer),
    /// Write the report down.
    Report(Box<RawValue>),
    /// Tell whoever has started us.
    Starter(Launched),
    /// Nothing is left to look after: clean up, then tell the [last words](Supervisor::last_words).
    Leave,
    /// The container was never there: end.
    Quit,
}

/// The state machine.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    record: Record,
    program: Program,
    /// Whoever ended it, or is about to, wants it to stay so: the restart policy does not count.
    stopped_on_purpose: bool,
    backoff: Backoff,
    /// What the log lacks, as far as the program has ended.
    lost: Option<Finding>,
    stop: Option<Stop>,
    /// They wait until the container is not running.
    waiting: Vec<(Client, Awaited)>,
    /// What was asked while the container was being made.
    deferred: Vec<(Option<Client>, Ask)>,
    actions: VecDeque<Action>,
}

#[derive(Clone, Debug)]
enum Program {
    /// Never started, or ended.
    Down,
    /// Ended; the restart policy starts it at this time.
    Due(Duration),
    /// Being made.
    Launching { why: Start, until: Duration },
    /// Running since then.
    Up(Duration),
    /// We leave.
    Gone,
}

/// Who wants the program started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Whoever has started us.
    Starter,
    /// The restart policy.
    Policy,
    /// A stop that is a restart.
    Stop,
}

/// What a client is told when the container is not running any more.
#[derive(Clone, Debug)]
enum Awaited {
    Exit,
    This(Answer),
}

impl Supervisor {
    /// For a container that is not running.
    pub(crate) fn new(record: Record) -> Self {
        Self {
            record,
            program: Program::Down,
            stopped_on_purpose: false,
            backoff: Backoff::default(),
            lost: None,
            stop: None,
            waiting: Vec::new(),
            deferred: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// Has the program started.
    pub(crate) fn begin(&mut self, now: Now) {
        self.record.restarts = 0;
        self.launch(now, Start::Starter);
    }

    /// Tells what happened.
    pub(crate) fn handle(&mut self, now: Now, event: Event) {
        match event {
            Event::Created(main) => self.on_created(now, main),
            Event::Started => self.on_started(now),
            Event::NotStarted { code, message } => self.on_not_started(now, code, message),
            Event::Exited { status, lost } => self.on_exited(now, status, lost),
            Event::Asked(client, ask) => self.on_asked(now, client, ask),
            Event::Ordered(order) => self.on_ordered(now, order),
            Event::ConductorLost => self.on_conductor_lost(now),
            Event::Timer => self.on_timer(now),
        }
    }

    /// The next thing to do, in order; `None` until another event is told.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to tell [`Event::Timer`] if nothing else happens, on the monotonic clock.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let program = match self.program {
            Program::Due(at) | Program::Launching { until: at, .. } => Some(at),
            Program::Down | Program::Up(_) | Program::Gone => None,
        };
        let stop = self.stop.as_ref().and_then(|stop| stop.deadline(self.is_up()));
        program.into_iter().chain(stop).min()
    }

    /// What is written down about the container.
    pub(crate) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// What everybody who still waits is told, once nothing is left of the container.
    pub(crate) fn last_words(&mut self) {
        self.release_waiting();
        self.actions
            .push_back(Action::Starter(Launched::Ended { code: self.exit_code(), lost: self.lost.take() }));
    }

    fn is_up(&self) -> bool {
        matches!(self.program, Program::Up(_))
    }

    /// The PID of the main process while it runs.
    fn main(&self) -> Option<u32> {
        self.record.main().filter(|_| self.is_up()).map(|main| main.pid)
    }
}

// === the program ===

impl Supervisor {
    fn launch(&mut self, now: Now, why: Start) {
        self.program = Program::Launching { why, until: now.monotonic + LAUNCH_WITHIN };
        self.actions.push_back(Action::Launch);
    }

    fn on_created(&mut self, now: Now, main: Main) {
        // Before the program is executed, so that it is never lost.
        self.record.status = Status::Running(main);
        self.record.started = Some(now.wall);
        self.record.error = None;
        self.actions.push_back(Action::Run);
    }

    fn on_started(&mut self, now: Now) {
        let Program::Launching { why, .. } = core::mem::replace(&mut self.program, Program::Down) else {
            unreachable!("only what is launched is started")
        };
        self.program = Program::Up(now.monotonic);
        self.stopped_on_purpose = false;
        match why {
            Start::Starter => self.actions.push_back(Action::Starter(Launched::Started)),
            Start::Policy => self.tell_stop_of_change(),
            Start::Stop => self.tell_stop_of_start(now, Ok(())),
        }
        for (client, ask) in core::mem::take(&mut self.deferred) {
            self.on_asked(now, client, ask);
        }
    }

    fn on_not_started(&mut self, now: Now, code: u8, message: String) {
        let Program::Launching { why, .. } = core::mem::replace(&mut self.program, Program::Down) else {
            return;
        };
        let status = ExitStatus::Code(code);
        self.record.error = Some(message.clone());
        match why {
            Start::Starter => {
                self.ended(now, status, Status::Exited);
                self.actions.push_back(Action::Starter(Launched::Failed { code, message }));
                self.program = Program::Gone;
                self.actions.push_back(Action::Quit);
            }
            Start::Policy => self.restart_or_leave(now, status, Duration::ZERO),
            Start::Stop => {
                self.ended(now, status, Status::Exited);
                if self.stop.is_some() {
                    self.tell_stop_of_start(now, Err(message));
                } else {
                    self.leave();
                }
            }
        }
        for (client, ask) in core::mem::take(&mut self.deferred) {
            self.on_asked(now, client, ask);
        }
    }

    fn on_exited(&mut self, now: Now, status: ExitStatus, lost: Option<Finding>) {
        self.lost.clone_from(&lost);
        match self.program {
            Program::Up(since) => {
                let run = now.monotonic.saturating_sub(since);
                self.program = Program::Down;
                if let Some(stop) = self.stop.take_if(|stop| !stop.has_restarted() && !stop.is_aborted()) {
                    // Whoever conducts it decides what comes next.
                    self.ended(now, status, Status::Exited);
                    self.tell_stop_of_exit(now, stop, status, lost);
                } else {
                    self.tell_stop_of_change();
                    self.restart_or_leave(now, status, run);
                }
            }
            Program::Launching { .. } | Program::Down | Program::Due(_) | Program::Gone => {
                unreachable!("only what runs ends")
            }
        }
    }

    fn restart_or_leave(&mut self, now: Now, status: ExitStatus, run: Duration) {
        let restarts = self.record.restarts;
        if !self.stopped_on_purpose && backoff::wants(self.record.spec.restart, status, restarts) {
            self.ended(now, status, Status::Restarting);
            self.program = Program::Due(now.monotonic + self.backoff.after(run));
        } else {
            self.ended(now, status, Status::Exited);
            // A stop that has just started it has still to be reported.
            if self.stop.is_none() {
                self.leave();
            }
        }
    }

    /// Writes down that the program has ended.
    fn ended(&mut self, now: Now, exit: ExitStatus, status: Status) {
        self.record.exit = Some(exit);
        self.record.finished = Some(now.wall);
        self.record.status = status;
        self.actions.push_back(Action::Save);
    }

    /// A restart that was due is not any more.
    fn forgo_restart(&mut self) {
        self.program = Program::Down;
        self.record.status = Status::Exited;
        self.actions.push_back(Action::Save);
    }

    fn leave(&mut self) {
        self.program = Program::Gone;
        self.actions.push_back(Action::Leave);
    }

    fn on_timer(&mut self, now: Now) {
        match self.program {
            Program::Due(at) if at <= now.monotonic => {
                self.record.restarts += 1;
                self.launch(now, Start::Policy);
            }
            Program::Launching { until, .. } if until <= now.monotonic => {
                self.actions.push_back(Action::Abandon);
                let message = format!("not started within {} s", LAUNCH_WITHIN.as_secs());
                self.on_not_started(now, USAGE, message);
            }
            Program::Due(_) | Program::Launching { .. } | Program::Down | Program::Up(_) | Program::Gone => {}
        }
        self.on_time_of_stop(now);
    }
}

// === what clients ask ===

impl Supervisor {
    fn on_asked(&mut self, now: Now, client: Option<Client>, ask: Ask) {
        let launching = matches!(self.program, Program::Launching { .. });
        match ask {
            Ask::Stop(_) if launching && self.stop.is_none() => self.deferred.push((client, ask)),
            // That one is as good as over.
            Ask::Stop(_) if self.stop.as_ref().is_some_and(Stop::is_aborted) => {
                self.deferred.push((client, ask));
            }
            Ask::Signal(_) if launching => self.deferred.push((client, ask)),
            Ask::Stop(request) => self.on_stop(now, &request, client),
            Ask::Signal(signal) => self.on_signal(signal, client),
            Ask::Abort => self.on_abort(now, client),
            Ask::Wait => self.waiting.extend(client.map(|client| (client, Awaited::Exit))),
        }
    }

    fn on_stop(&mut self, now: Now, request: &Request, client: Option<Client>) {
        if matches!(self.program, Program::Gone) {
            return self.answer(client, Answer::NotRunning);
        }
        if let Some(stop) = &mut self.stop {
            if request.then == Then::Stay && stop.has_restarted() {
                // It only ends the waiting. What was started is stopped by a stop of its own, when this one is over.
                self.deferred.push((client, Ask::Stop(request.clone())));
            } else {
                for progress in stop.listen(client) {
                    self.answer(client, Answer::Progress(progress));
                }
            }
            self.further_request(now, request, client);
        } else {
            if matches!(self.program, Program::Due(_)) {
                // There is nobody to signal; whoever conducts it is told.
                self.forgo_restart();
            }
            self.begin_stop(now, request, client);
        }
        self.stopped_on_purpose |= request.then == Then::Stay;
    }

    fn on_signal(&mut self, signal: Signal, client: Option<Client>) {
        let stop_signal = self.record.settings().signal.map_or(Signal::TERM, |signal| signal.value);
        let to_end_it = signal == Signal::KILL || signal == stop_signal;
        match self.program {
            Program::Up(_) => {
                self.stopped_on_purpose |= to_end_it;
                if signal == Signal::KILL {
                    self.waiting.extend(client.map(|client| (client, Awaited::This(Answer::Done))));
                }
                self.actions.push_back(Action::Send(signal, client));
            }
            // There is nobody to signal, but what was asked for comes true.
            Program::Due(_) if to_end_it => {
                self.forgo_restart();
                self.waiting.extend(client.map(|client| (client, Awaited::This(Answer::Done))));
                self.leave();
            }
            Program::Due(_) | Program::Launching { .. } | Program::Down | Program::Gone => {
                self.answer(client, Answer::NotRunning);
            }
        }
    }

    fn answer(&mut self, client: Option<Client>, answer: Answer) {
        self.actions.extend(client.map(|client| Action::Answer(client, answer)));
    }

    /// Answers everybody who waits until the container is not running.
    fn release_waiting(&mut self) {
        let code = self.exit_code();
        for (client, awaited) in core::mem::take(&mut self.waiting) {
            let answer = match awaited {
                Awaited::Exit => Answer::Exited(code),
                Awaited::This(answer) => answer,
            };
            self.answer(Some(client), answer);
        }
    }

    fn exit_code(&self) -> i64 {
        self.record.exit.and_then(ExitStatus::code).map_or(UNKNOWN, i64::from)
    }
}
