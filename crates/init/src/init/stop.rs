//! The stop, and what comes after a crash: does what the sequence asks for, and tells it what has happened.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::diagnosis;
use gracefully_core::event::{Action, Event, ExitStatus};
use gracefully_core::exit::SIGNAL_BASE;
use gracefully_core::phase::Phase;
use gracefully_core::plan::{NewConnections, Plan, Reach, Work};
use gracefully_core::policy::{Care, Policy, Request, Settings, Source, Sourced, Then, Within};
use gracefully_core::sequence::Sequence;
use gracefully_core::signal::Signal;
use gracefully_linux::Errno;
use gracefully_linux::errno::Described;
use gracefully_linux::family::family;

use super::Init;
use crate::FAILURE;
use crate::account::{self, Facts};
use crate::arguments::Ports;
use crate::clock::{now, since_1970};
use crate::say::say;
use crate::status::{State, Status};
use crate::terminal::Terminal;
use crate::traffic::Watch;

/// A stop, or what comes after a crash.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) sequence: Sequence,
    /// Somebody has asked for it, and not main has ended by itself.
    pub(super) asked: bool,
    /// Somebody has asked again.
    pub(super) urged: bool,
    /// When it began; since 1970.
    at: Duration,
    pub(super) watch: Option<Watch>,
    /// When the others are told, if main is a shell that waits for one of them; and later, when new orphans are.
    pub(super) tell_at: Option<Duration>,
    /// The others have been told.
    pub(super) others_told: bool,
    /// Who was left when the rest was killed.
    killed: Vec<String>,
    pub(super) killing: bool,
    /// It was said who is left, and that nobody is killed.
    said_spared: bool,
    /// What was last shown: whether it was asked for, and the phase.
    shown: Option<(bool, Option<Phase>)>,
    pub(super) done: bool,
}

impl Init<'_> {
    pub(super) fn begin(&mut self, signal: Signal, asked: bool) {
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
            care: Care {
                settle: options.settle,
                drain: options.drain.as_ref().map(|_| Within::Budget),
                // Whoever comes is served: nothing else can be done from here.
                new: Some(NewConnections::Serve),
                ..Care::NONE
            },
            ..Request::default()
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
    pub(super) fn tell(&mut self, event: Event) {
        let Some(stop) = &mut self.stop else { return };
        stop.sequence.handle(now(), event);
        let too_late = stop.sequence.phase() == Some(Phase::Kill) && stop.sequence.plan().work.spare;
        if too_late && !core::mem::replace(&mut stop.said_spared, true) {
            self.say_who_is_spared();
        }
    }

    /// Tells the sequence, once, that what comes first is done.
    pub(super) fn tell_first_done(&mut self) {
        if let Some(result) = self.chores.first_done() {
            self.tell(Event::Deregistered(result));
        }
    }

    /// Shows what we are doing to whoever asks, if that has changed.
    pub(super) fn show(&mut self) {
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
    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.stop.as_mut().and_then(|stop| stop.sequence.next_action()) {
            match action {
                Action::Deregister => {
                    let within = self.stop.as_ref().and_then(|stop| stop.sequence.plan().ends.deregister);
                    let until = within.map(|within| now() + within);
                    self.chores.begin(until, &self.inheritance, now());
                    self.tell_first_done();
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
        let ports = self.options.drain.as_ref().unwrap_or(&Ports::Auto);
        match Watch::begin(ports, self.us) {
            Ok(watch) => {
                stop.watch = Some(watch);
                self.look(now());
            }
            Err(errno) => self.cannot_look(errno),
        }
    }

    /// Looks at the connections, if that is due.
    pub(super) fn look(&mut self, now: Duration) {
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
    pub(super) fn tell_others(&mut self) {
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
    pub(super) fn check_main(&self) {
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
    pub(super) fn conclude(self) -> u8 {
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
