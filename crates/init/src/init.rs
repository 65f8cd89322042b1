//! The init at work: what comes in is a signal or a moment, what goes out are signals, and in the end an exit code.
//!
//! Until a stop or a crash there is nothing to decide: signals go to main, children are reaped. Then a sequence ([`stop`]) is begun
//! and decides; this module tells it what happens and does what it asks for.

mod start;
mod stop;

use core::time::Duration;

use gracefully_core::event::{Event, ExitStatus};
use gracefully_core::phase::Phase;
use gracefully_core::policy::Then;
use gracefully_core::signal::Signal;
use gracefully_linux::Errno;
use gracefully_linux::signals::{self, Arrival};
use gracefully_linux::spawn::{Change, Child, next_change, stop_ourselves};

use self::stop::Stop;
use crate::account::ReportFile;
use crate::arguments::Options;
use crate::chores::{Chores, Ended};
use crate::clock::now;
use crate::program::Inheritance;
use crate::relatives::Relatives;
use crate::say::say;
use crate::status::Board;
use crate::terminal::Terminal;
use crate::traffic::{Watch, listens};

/// How often children are looked after even if other signals keep coming: they have lower numbers than SIGCHLD, and come first.
const SIGNALS_IN_A_ROW: u32 = 64;

/// How many children are reaped before signals and deadlines have their turn again.
const REAPED_IN_A_ROW: u32 = 64;

/// How long after a death it is looked whether it has left orphans that were never told: one look for many deaths.
const LOOK_FOR_ORPHANS: Duration = Duration::from_millis(20);

/// How often we look whether main listens, while sidecars wait for that.
const LOOK_FOR_LISTENER: Duration = Duration::from_millis(50);

const TSTP: u8 = 20;
const TTIN: u8 = 21;
const TTOU: u8 = 22;

/// An init whose main runs.
#[derive(Debug)]
pub(crate) struct Init<'a> {
    options: &'a Options,
    inheritance: Inheritance<'a>,
    us: u32,
    main: Child,
    /// How main has ended.
    ended: Option<ExitStatus>,
    terminal: Terminal,
    relatives: Relatives,
    chores: Chores<'a>,
    report: Option<ReportFile>,
    board: Board,
    stop: Option<Stop>,
    /// The signals that were passed on, a bit each.
    passed_on: u64,
    /// It was said that main cannot be signalled.
    said_refused: bool,
    /// When to look whether main hears its stop signal.
    check_at: Option<Duration>,
    /// When to look whether main listens.
    listener_at: Option<Duration>,
    /// There may be more children to reap.
    unreaped: bool,
}

impl Init<'_> {
    /// Until the end; gives the exit code.
    pub(crate) fn run(mut self) -> u8 {
        let mut in_a_row = 0_u32;
        loop {
            self.carry_out();
            if self.stop.as_ref().is_some_and(|stop| stop.done) {
                return self.conclude();
            }
            self.show();
            let limit = if self.unreaped {
                Some(Duration::ZERO)
            } else {
                self.due().map(|due| due.saturating_sub(now()))
            };
            let arrival = signals::next(limit);
            in_a_row = if arrival.is_some() { in_a_row + 1 } else { 0 };
            if let Some(arrival) = arrival {
                self.on_signal(arrival);
            }
            if arrival.is_none() || in_a_row.is_multiple_of(SIGNALS_IN_A_ROW) {
                if self.unreaped || arrival.is_some() {
                    self.reap();
                }
                self.on_time(now());
            }
        }
    }

    /// When something is to be done even if no signal comes.
    fn due(&self) -> Option<Duration> {
        let (sequence, watch, tell) = match &self.stop {
            Some(stop) => (stop.sequence.deadline(), stop.watch.as_ref().map(Watch::due), stop.tell_at),
            None => (None, None, None),
        };
        [sequence, watch, tell, self.chores.due(), self.check_at, self.listener_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does whatever is due.
    fn on_time(&mut self, now: Duration) {
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_at = None;
            self.check_main();
        }
        if self.listener_at.is_some_and(|at| at <= now) {
            self.listener_at = Some(now + LOOK_FOR_LISTENER);
            if listens(self.us) {
                self.listener_at = None;
                self.chores.start_sidecars(&self.inheritance);
            }
        }
        self.chores.on_time(now);
        self.tell_first_done();
        self.on_chores_alone();
        if let Some(stop) = &mut self.stop {
            if stop.tell_at.is_some_and(|at| at <= now) {
                stop.tell_at = None;
                self.tell_others();
            }
            self.look(now);
        }
        self.tell(Event::Timer);
    }

    fn on_signal(&mut self, Arrival { signal, sender }: Arrival) {
        match signal.number() {
            _ if signal == Signal::CHLD => self.reap(),
            // A write of our own into a pipe that nobody reads. Theirs comes to them.
            _ if signal == Signal::PIPE && sender == Some(self.us) => {}
            _ if sender.is_none() && self.terminal.has_told_main(signal) => {}
            _ if self.is_stop_request(signal) => self.on_request(signal),
            TSTP | TTIN | TTOU if self.options.rewrites.of(signal) != Some(signal) => self.pass_on(signal),
            // PID 1 cannot be stopped, so nobody would continue main.
            TSTP | TTIN | TTOU if self.is_pid_1() => {}
            TSTP | TTIN | TTOU => {
                self.pass_on(signal);
                let _ = stop_ourselves();
            }
            _ if signal == Signal::CONT && self.terminal.resume(self.main) => {}
            _ => self.pass_on(signal),
        }
    }

    fn is_pid_1(&self) -> bool {
        self.us == 1
    }

    /// SIGTERM asks for the stop, and so does whatever main wants instead of it: an engine that knows that sends it to us.
    fn is_stop_request(&self, signal: Signal) -> bool {
        let asks = signal == Signal::TERM || Some(signal) == self.options.stop.first;
        asks && self.options.rewrites.of(signal).is_some()
    }

    /// What main gets when a stop is asked for by this signal.
    fn stop_signal(&self, request: Signal) -> Signal {
        self.options.stop.first.or_else(|| self.options.rewrites.of(request)).unwrap_or(Signal::TERM)
    }

    fn on_request(&mut self, signal: Signal) {
        let stop_signal = self.stop_signal(signal);
        let Some(stop) = &mut self.stop else {
            self.begin(stop_signal, true);
            self.tell(Event::StopRequested { budget: None, then: Then::Stay, again: false });
            // Its end alone was not the end (`--wait-all`).
            if let Some(status) = self.ended {
                self.tell(Event::MainExited(status));
            }
            return;
        };
        stop.asked = true;
        // The second ends the waiting for connections. More of them end nothing: whoever is in a hurry has SIGKILL.
        let again = !core::mem::replace(&mut stop.urged, true);
        if matches!(stop.sequence.phase(), Some(Phase::Deregister | Phase::Settle | Phase::Drain)) {
            self.tell(Event::StopRequested { budget: None, then: Then::Stay, again });
        } else {
            // Main has its signal; whoever sends another one wants main to have it, too.
            self.send(stop_signal);
        }
    }

    /// Passes a signal on to main.
    fn pass_on(&mut self, signal: Signal) {
        let Some(signal) = self.options.rewrites.of(signal) else { return };
        self.passed_on |= signal.mask();
        self.send(signal);
    }

    /// Sends main a signal. When main has ended its number may be somebody else's.
    fn send(&mut self, signal: Signal) {
        if self.ended.is_some() {
            return;
        }
        let sent = if self.options.group { self.main.send_to_group(signal) } else { self.main.send(signal) };
        if sent == Err(Errno::PERM) && !core::mem::replace(&mut self.said_refused, true) {
            say(format_args!(
                "main (pid {}) runs as another user and cannot be signalled without CAP_KILL: run gracefully-init as that \
                 user, or give it the capability (--cap-add KILL)",
                self.main.pid()
            ));
        }
    }

    /// Reaps children that have ended; some at a time.
    fn reap(&mut self) {
        self.unreaped = false;
        let mut reaped = 0;
        loop {
            match next_change() {
                Change::Ended(pid, status) if pid == self.main.pid() && self.ended.is_none() => {
                    self.on_main_ended(status);
                }
                Change::Ended(pid, status) => self.on_ended(pid, status),
                Change::Stopped(pid, signal) if pid == self.main.pid() => self.on_main_stopped(signal),
                Change::Stopped(..) => {}
                Change::Nothing => break,
                Change::NoChildren => {
                    self.on_alone();
                    break;
                }
            }
            reaped += 1;
            if reaped == REAPED_IN_A_ROW {
                self.unreaped = true;
                break;
            }
        }
        if let Some(stop) = &mut self.stop {
            if stop.killing {
                // Who was born while the others were killed.
                self.relatives.kill(None);
            } else if stop.others_told && reaped > 0 {
                stop.tell_at.get_or_insert_with(|| now() + LOOK_FOR_ORPHANS);
            }
        }
        self.tell_first_done();
        self.on_chores_alone();
    }

    /// When nobody is left but chores, nothing is waited for any more but what they have to do.
    fn on_chores_alone(&mut self) {
        let chores = self.chores.children();
        let Some(status) = self.ended.filter(|_| !chores.is_empty()) else { return };
        if !self.relatives.only(&chores) {
            return;
        }
        if self.stop.is_none() {
            self.end_unasked(status);
        } else {
            self.chores.give_up();
        }
    }

    fn on_main_ended(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        (self.check_at, self.listener_at) = (None, None);
        if self.stop.is_some() {
            self.tell(Event::MainExited(status));
            return;
        }
        if let ExitStatus::Signal(signal) = status {
            self.explain_death(signal);
        }
        if !self.options.waits_for_all {
            self.end_unasked(status);
        }
    }

    /// Main has ended by itself: the rest of a stop that nobody has asked for.
    fn end_unasked(&mut self, status: ExitStatus) {
        self.begin(self.stop_signal(Signal::TERM), false);
        self.tell(Event::MainExited(status));
    }

    /// As PID 1 it would not even have noticed.
    fn explain_death(&self, signal: Signal) {
        let harmless = signal == Signal::HUP || signal == Signal::USR1 || signal.number() == 12;
        if harmless && self.passed_on & signal.mask() != 0 {
            say(format_args!(
                "{signal} was passed on and ended main, which has no handler for it; -r {}:0 keeps it back",
                signal.number()
            ));
        }
    }

    fn on_ended(&mut self, pid: u32, status: ExitStatus) {
        match self.chores.ended(pid, status, &self.inheritance, now()) {
            Ended::SidecarLost(what) => say(format_args!("{what}")),
            Ended::Synced(result) => self.tell(Event::Flushed(result)),
            Ended::Other if self.options.warn_of_orphans => {
                say(format_args!("reaped pid {pid}, which nobody waited for: {status}"));
            }
            Ended::Chore | Ended::Other => {}
        }
    }

    /// There is not one child left.
    fn on_alone(&mut self) {
        let Some(status) = self.ended else { return };
        if self.stop.is_none() {
            self.end_unasked(status);
        }
        // What comes first may begin only now.
        self.carry_out();
        if self.chores.hook_runs() {
            return;
        }
        self.tell_first_done();
        self.tell(Event::AllExited);
    }

    /// The terminal, or somebody, has stopped main.
    fn on_main_stopped(&mut self, signal: Signal) {
        if !matches!(signal.number(), TSTP | TTIN | TTOU) {
            return;
        }
        if self.is_pid_1() {
            // Ctrl-Z: there is no shell that could ever continue it. A read from the background would only stop it again.
            if signal.number() == TSTP {
                let _ = self.main.send_to_group(Signal::CONT);
            }
        } else if self.terminal.take_back(self.main) {
            let _ = stop_ourselves();
            // Somebody has continued us; SIGCONT is pending, and continues main.
        }
    }
}
