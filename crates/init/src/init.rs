//! The init at work: what comes in is a signal or a moment, what goes out are signals, and in the end an exit code.
//!
//! Until a stop or a crash there is nothing to decide: signals go to main, children are reaped. Then a [`Sequence`] is begun
//! and decides; this module tells it what happens and does what it asks for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;
use core::time::Duration;

use gracefully_core::diagnosis;
use gracefully_core::event::{Action, Event, ExitStatus};
use gracefully_core::exit::SIGNAL_BASE;
use gracefully_core::phase::Phase;
use gracefully_core::plan::{NewConnections, Plan, Reach, Work};
use gracefully_core::policy::{Care, Policy, Request, Settings, Source, Sourced, Then, Within};
use gracefully_core::sequence::Sequence;
use gracefully_core::signal::Signal;
use gracefully_linux::errno::Described;
use gracefully_linux::family::family;
use gracefully_linux::signals::{self, Arrival, Mask};
use gracefully_linux::spawn::{Change, Child, next_change, signal_on_parents_death, stop_ourselves};
use gracefully_linux::{Errno, standard};
use rustix::fd::{AsFd, AsRawFd};
use rustix::process::{chdir, getpid, set_child_subreaper};

use crate::FAILURE;
use crate::account::{self, Facts, ReportFile};
use crate::arguments::Options;
use crate::chores::{Chores, Ended};
use crate::clock::{now, since_1970};
use crate::program::{Inheritance, NotStarted, start_main};
use crate::relatives::Relatives;
use crate::say::say;
use crate::status::{Board, State, Status};
use crate::terminal::Terminal;
use crate::traffic::{Watch, listens};

/// When main has had time to install its handlers, and it is worth a line if it has none.
const HAD_TIME: Duration = Duration::from_secs(5);

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

/// A stop, or what comes after a crash.
#[derive(Debug)]
struct Stop {
    sequence: Sequence,
    /// Somebody has asked for it, and not main has ended by itself.
    asked: bool,
    /// Somebody has asked again.
    urged: bool,
    /// When it began; since 1970.
    at: Duration,
    watch: Option<Watch>,
    /// When the others are told, if main is a shell that waits for one of them; and later, when new orphans are.
    tell_at: Option<Duration>,
    /// The others have been told.
    others_told: bool,
    /// Who was left when the rest was killed.
    killed: Vec<String>,
    killing: bool,
    /// It was said who is left, and that nobody is killed.
    said_spared: bool,
    /// What was last shown: whether it was asked for, and the phase.
    shown: Option<(bool, Option<Phase>)>,
    done: bool,
}

/// Why there is no main.
#[derive(Debug)]
pub(crate) enum Failure {
    NotStarted(NotStarted),
    /// Something that was asked for cannot be done.
    Option(String),
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotStarted(failure) => failure.code(),
            Self::Option(_) => FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(failure) => failure.fmt(f),
            Self::Option(why) => f.write_str(why),
        }
    }
}

// === the start ===

impl<'a> Init<'a> {
    /// Starts main. All signals are blocked; `mask` is what was blocked before.
    pub(crate) fn start(
        options: &'a Options,
        environment: &'a [&'static CStr],
        mask: Mask,
    ) -> Result<Self, Failure> {
        let system = |what: &str, errno| Failure::Option(format!("{what}: {}", Described(errno)));
        standard::hold_places();
        if let Some(signal) = options.on_parents_death {
            signal_on_parents_death(signal).map_err(|errno| system("-p", errno))?;
        }
        // Whoever is not PID 1 gets no orphans unless it asks for them. There is nothing to do if it may not.
        let _ = set_child_subreaper(Some(getpid()));
        let inheritance = Inheritance::take(environment, mask).map_err(|errno| system("SIGCHLD", errno))?;
        let mut chores = Chores::new(options);
        chores.check(&inheritance).map_err(Failure::Option)?;
        let report = options.report.as_ref().map(|path| {
            ReportFile::open(path)
                .map_err(|errno| system(&format!("--report {}", path.to_string_lossy()), errno))
        });
        let report = report.transpose()?;

        let terminal = Terminal::find();
        let main = start_main(&options.command, &inheritance, &terminal).map_err(Failure::NotStarted)?;
        // A directory that we are in cannot be unmounted, and what we have open is never at its end.
        let _ = chdir("/");
        close_inherited(report.as_ref(), &terminal);

        let us = getpid().as_raw_nonzero().get().cast_unsigned();
        let board = Board::new();
        board.show(&Status::new(State::Running, main.pid(), &[]));
        let waits = options.sidecars_wait && !options.sidecars.is_empty();
        if !waits {
            chores.start_sidecars(&inheritance).iter().for_each(|why| say(format_args!("{why}")));
        }
        Ok(Self {
            options,
            inheritance,
            us,
            main,
            ended: None,
            terminal,
            relatives: Relatives::new(us),
            chores,
            report,
            board,
            stop: None,
            passed_on: 0,
            said_refused: false,
            check_at: Some(now() + HAD_TIME),
            listener_at: waits.then(now),
            unreaped: false,
        })
    }
}

/// Closes what our parent has left open: main has it, and whoever is at the other end waits for main, not for us.
fn close_inherited(report: Option<&ReportFile>, terminal: &Terminal) {
    let kept = [report.map(AsFd::as_fd), terminal.as_fd()];
    let mut kept = kept.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd()));
    kept.sort_unstable();
    // Where the kernel is too old for it (before Linux 5.9) they stay open.
    let _ = standard::close_all_but(&kept);
}

// === the loop ===

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
                self.chores
                    .start_sidecars(&self.inheritance)
                    .iter()
                    .for_each(|why| say(format_args!("{why}")));
            }
        }
        self.chores.on_time(now);
        if let Some(result) = self.chores.first_done() {
            self.tell(Event::Deregistered(result));
        }
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
        if let Some(result) = self.chores.first_done() {
            self.tell(Event::Deregistered(result));
        }
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
            self.begin(self.stop_signal(Signal::TERM), false);
            self.tell(Event::MainExited(status));
        } else {
            self.chores.give_up();
        }
    }

    fn on_main_ended(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        (self.check_at, self.listener_at) = (None, None);
        if self.stop.is_none() {
            if let ExitStatus::Signal(signal) = status {
                self.explain_death(signal);
            }
            if self.options.waits_for_all {
                return;
            }
            self.begin(self.stop_signal(Signal::TERM), false);
        }
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
            self.begin(self.stop_signal(Signal::TERM), false);
            self.tell(Event::MainExited(status));
        }
        // What comes first may begin only now.
        self.carry_out();
        if self.chores.hook_runs() {
            return;
        }
        if let Some(result) = self.chores.first_done() {
            self.tell(Event::Deregistered(result));
        }
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

// === the stop ===

impl Init<'_> {
    fn begin(&mut self, signal: Signal, asked: bool) {
        let plan = self.plan(signal);
        self.stop = Some(Stop {
            sequence: Sequence::new(plan),
            asked,
            urged: false,
            at: since_1970(),
            watch: None,
            tell_at: None,
            others_told: false,
            killed: Vec::new(),
            killing: false,
            said_spared: false,
            shown: None,
            done: false,
        });
    }

    fn plan(&self, signal: Signal) -> Plan {
        let options = self.options;
        let request = Request {
            timeout: None,
            signal: None,
            then: Then::Stay,
            care: Care {
                settle: options.settle,
                drain: options.drain.as_ref().map(|_| Within::Budget),
                // Whoever comes is served: nothing else can be done from here.
                new: Some(NewConnections::Serve),
                ..Care::NONE
            },
        };
        let hooks = options.hooks.iter().map(|hook| hook.limit.unwrap_or(Duration::MAX));
        let work = Work {
            deregister: !options.hooks.is_empty() || !options.sidecars.is_empty(),
            deregister_within: (!options.hooks.is_empty())
                .then(|| hooks.fold(Duration::ZERO, Duration::saturating_add)),
            flush: if options.sync.is_empty() { Duration::ZERO } else { Duration::MAX },
            reach: Reach::Family,
            spare: options.grace.is_none(),
            ..Work::of(request.care, Then::Stay)
        };
        let settings = Settings {
            timeout: options.grace.map(|grace| Sourced::new(grace, Source::Container)),
            signal: (signal != Signal::TERM).then(|| Sourced::new(signal, Source::Container)),
        };
        Plan::new(Policy::resolve(&request, &settings), work)
    }

    /// Tells the sequence what has happened.
    fn tell(&mut self, event: Event) {
        let Some(stop) = &mut self.stop else { return };
        stop.sequence.handle(now(), event);
        let too_late = stop.sequence.phase() == Some(Phase::Kill) && stop.sequence.plan().work.spare;
        if too_late && !core::mem::replace(&mut stop.said_spared, true) {
            self.say_who_is_spared();
        }
    }

    /// Shows what we are doing to whoever asks, if that has changed.
    fn show(&mut self) {
        let Some(stop) = &mut self.stop else { return };
        let showing = (stop.asked, stop.sequence.phase());
        if stop.shown == Some(showing) {
            return;
        }
        stop.shown = Some(showing);
        let policy = stop.sequence.plan().policy;
        let status = Status {
            phase: showing.1,
            signal: Some(policy.signal.value),
            budget_s: policy.timeout.value.limit().map(|budget| budget.as_secs_f64()),
            ..Status::new(
                if stop.asked { State::Stopping } else { State::Ending },
                self.main.pid(),
                stop.sequence.steps(),
            )
        };
        self.board.show(&status);
    }

    /// Does what the sequence asks for.
    fn carry_out(&mut self) {
        while let Some(action) = self.stop.as_mut().and_then(|stop| stop.sequence.next_action()) {
            match action {
                Action::Deregister => {
                    let within = self.stop.as_ref().and_then(|stop| stop.sequence.plan().ends.deregister);
                    let until = within.map(|within| now() + within);
                    self.chores.begin(until, &self.inheritance, now());
                    if let Some(result) = self.chores.first_done() {
                        self.tell(Event::Deregistered(result));
                    }
                }
                Action::Observe => self.observe(),
                Action::Signal { signal, .. } => self.terminate(signal),
                Action::Sweep(_) => self.sweep(),
                Action::Flush { .. } => {
                    if let Some(result) = self.chores.sync() {
                        self.tell(Event::Flushed(result));
                    }
                }
                Action::Kill => self.kill(),
                Action::Done => {
                    if let Some(stop) = &mut self.stop {
                        stop.done = true;
                    }
                }
                Action::Hold | Action::Refuse | Action::Release | Action::Reregister | Action::Start => {
                    unreachable!("{action:?} is in no plan that an init makes")
                }
            }
        }
    }

    fn observe(&mut self) {
        let Some(stop) = &mut self.stop else { return };
        let ports = self.options.drain.as_ref().unwrap_or(&crate::arguments::Ports::Auto);
        match Watch::begin(ports, self.us) {
            Ok(watch) => {
                stop.watch = Some(watch);
                self.look(now());
            }
            Err(errno) => self.cannot_look(errno),
        }
    }

    /// Looks at the connections, if that is due.
    fn look(&mut self, now: Duration) {
        let Some(stop) = &mut self.stop else { return };
        let Some(watch) = stop.watch.as_mut().filter(|watch| watch.due() <= now) else { return };
        match watch.look() {
            Ok(traffic) => self.tell(Event::ConnectionsObserved(traffic)),
            Err(errno) => self.cannot_look(errno),
        }
    }

    fn cannot_look(&mut self, errno: Errno) {
        say(format_args!("connections cannot be looked at, so nothing waits for them: {}", Described(errno)));
        if let Some(stop) = &mut self.stop {
            stop.watch = None;
        }
        self.tell(Event::ConnectionsHidden);
    }

    /// Sends main its stop signal.
    fn terminate(&mut self, signal: Signal) {
        self.check_at = None;
        self.relatives.was_told(self.main.pid());
        if self.options.group {
            self.relatives.group_was_told(self.main.pid());
        }
        // Before it has ended there is somebody to look at.
        let waits_for_child = self.main_is_a_shell_with_a_trap(signal);
        self.send(signal);
        // A stopped program does not notice anything else.
        self.send(Signal::CONT);
        let Some(stop) = &mut self.stop else { return };
        // Connections do not matter any more: they are the program's to finish.
        stop.watch = None;
        if waits_for_child {
            let at = now();
            let end = stop.sequence.deadline();
            stop.tell_at = end.map(|end| at + end.saturating_sub(at) / 2);
        }
    }

    /// A shell runs its trap when the command has ended for which it waits, and that command hears nothing from the shell. So
    /// half of the shell's time is the command's.
    fn main_is_a_shell_with_a_trap(&self, signal: Signal) -> bool {
        family(self.main.pid()).is_some_and(|family| diagnosis::is_shell_with_a_trap(signal, &family))
    }

    /// Main has ended, or its time is up: now the others.
    fn sweep(&mut self) {
        if let Some(then) = self.options.stop.then
            && self.ended.is_none()
        {
            self.send(then);
            self.send(Signal::CONT);
        }
        self.tell_others();
    }

    /// Tells everybody but main and the chores; and if that was done, those who were orphaned since.
    fn tell_others(&mut self) {
        let signal = self.options.stop.then.unwrap_or(Signal::TERM);
        let except = self.chores.children();
        if self.ended.is_none() {
            // It has its own signal, but its descendants have not.
            self.relatives.was_told(self.main.pid());
        }
        let Some(stop) = &mut self.stop else { return };
        if core::mem::replace(&mut stop.others_told, true) {
            self.relatives.tell_orphans(signal, &except);
        } else {
            self.relatives.tell(signal, self.main, &except);
        }
    }

    fn kill(&mut self) {
        let left = self.relatives.left();
        self.relatives.kill(self.ended.is_none().then_some(self.main));
        if let Some(stop) = &mut self.stop {
            (stop.killed, stop.killing) = (left, true);
        }
    }

    /// Looks whether main hears its stop signal, and says so if it does not. Whoever sits in front of a terminal has a shell that
    /// ignores it on purpose.
    fn check_main(&self) {
        let signal = self.stop_signal(Signal::TERM);
        if matches!(self.terminal, Terminal::Ours { .. }) || !self.is_stop_request(Signal::TERM) {
            return;
        }
        let Some(family) = family(self.main.pid()) else { return };
        if let Some(finding) = diagnosis::behind_an_init(signal, &family) {
            say(format_args!("{finding}"));
        }
    }

    fn say_who_is_spared(&self) {
        say(format_args!(
            "still there: {}. Whoever has asked for the stop decides how long it may take; with --grace TIME it is done here",
            self.relatives.left().join(", ")
        ));
    }

    /// Tells what happened; gives the exit code.
    fn conclude(self) -> u8 {
        let _ = self.terminal.take_back(self.main);
        let Some(stop) = &self.stop else { return FAILURE };
        let Some(conclusion) = stop.sequence.conclusion() else { return FAILURE };
        let plan = stop.sequence.plan();
        let command =
            self.options.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let facts = Facts {
            at: stop.at,
            asked: stop.asked,
            command,
            main: self.main.pid(),
            told: self.relatives.told(),
            killed: &stop.killed,
        };
        if account::is_news(&conclusion, &facts) {
            say(format_args!("{}", account::line(plan, &conclusion, &facts)));
        }
        if let Some(file) = &self.report
            && let Err(errno) = file.write(account::report(plan, conclusion, &facts))
        {
            say(format_args!("the report cannot be written: {}", Described(errno)));
        }
        let killed = ExitStatus::Code(SIGNAL_BASE + Signal::KILL.number());
        let main = self.ended.unwrap_or(killed);
        let by_signal = main.code().is_some_and(|code| {
            Signal::from_number(i64::from(code) - i64::from(SIGNAL_BASE))
                .is_ok_and(|signal| self.passed_on & signal.mask() != 0)
        });
        self.options.exits.code(main, stop.asked || by_signal)
    }
}
