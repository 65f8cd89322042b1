//! The life of a registration.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use gracefully_core::event::ExitStatus;
use gracefully_core::exit;
use gracefully_core::plan::{NewConnections, Plan, Work};
use gracefully_core::policy::{Care, Policy, Request, Settings as Configured, Timeout, Within};
use gracefully_core::report::Target;
use gracefully_core::signal::Signal;
use gracefully_registry::Deadline;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc::unbounded_channel;

use super::places::Places;
use super::program::Program;
use super::{Spec, check, settle};
use crate::discovery::Members;
use crate::display::{Console, verdict};
use crate::drive::{self, Requested};

/// How long leaving the registries may take when the program has crashed, is not ready any more, or nobody has said how long.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// What the thread that waits may hear.
#[derive(Debug)]
pub(super) enum News {
    /// The check has passed, or has failed so often that the program is not ready any more.
    Ready(bool),
    Signal(Signal),
    /// A registry has answered, or has not: the one with this number.
    Entered(usize),
    /// The program has ended.
    Ended(ExitStatus),
}

/// Those that ask us to end; the others are passed on.
const STOPS: [Signal; 2] = [Signal::TERM, Signal::INT];
const OTHERS: [i32; 5] = [SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// Keeps the instance registered until somebody asks us to end, or the program ends. Returns the exit code.
pub(super) fn run(console: &Console, spec: &Spec) -> anyhow::Result<u8> {
    // What is wrong with a URL or a secret is said before anything is started.
    let places = Places::new(&spec.urls, spec.instance())?;
    let plan = plan(spec.budget, spec.settle, &places, Signal::TERM);
    let has_program = !spec.command.is_empty();
    warn_of_a_short_budget(console, &places, &plan, spec.settle, spec.budget.is_some() || has_program);

    let (tell, news) = channel();
    watch_signals(&tell, has_program)?;
    let program = match Program::start(&spec.command, &tell) {
        Ok(program) => program,
        Err(refusal) => {
            console.error(&refusal.why);
            return Ok(refusal.code);
        }
    };
    check::begin(spec.check.clone(), places.instance(), places.pause(), &tell);
    let mut agent = Agent { console, places, program, news, tell };
    let signal = match agent.until_asked() {
        Asked::Stop(signal) => {
            agent.places.pause().for_good();
            signal
        }
        Asked::Ended(status) => {
            agent.leave(&format!("{status}, by itself"));
            return Ok(status.code().unwrap_or(exit::FAILURE));
        }
    };
    if agent.program.is_some() {
        let budget = spec.budget.unwrap_or(Timeout::DEFAULT);
        let plan = self::plan(Some(budget), spec.settle, &agent.places, signal);
        return agent.stop_program(plan);
    }
    let hint = plan.work.settle.map_or(Duration::ZERO, |settle| settle.at_most);
    // Whoever has said what the whole stop may take ends us when that is over.
    let limit = spec.budget.and(plan.ends.traffic).unwrap_or(Duration::MAX);
    Ok(agent.step_aside(hint.min(limit), spec.port))
}

/// What a stop does: leave, and settle for as long as the slowest registry asks for, unless somebody has said how long.
fn plan(budget: Option<Timeout>, settle: Within, places: &Places, signal: Signal) -> Plan {
    let settle = match settle {
        Within::Budget => Within::AtMost(places.hints().settle),
        said @ Within::AtMost(_) => said,
    };
    let care = Care { settle: Some(settle), new: Some(NewConnections::Serve), ..Care::default() };
    let request = Request { timeout: budget, signal: Some(signal), care, ..Request::default() };
    let policy = Policy::resolve(&request, &Configured::default());
    Plan::new(policy, Work { deregister: true, ..Work::of(care, request.then) })
}

/// Consumers may take longer to hear of it than there is time.
fn warn_of_a_short_budget(console: &Console, places: &Places, plan: &Plan, settle: Within, is_known: bool) {
    if is_known
        && settle == Within::Budget
        && let Some(why) = drive::short_of_time(plan, places.hints().settle)
    {
        console.note(&why);
    }
}

/// Tells of every signal. Those that would do nothing to a sidecar, or end it, are left to do that.
fn watch_signals(tell: &Sender<News>, has_program: bool) -> anyhow::Result<()> {
    let others = if has_program { &OTHERS[..] } else { &[] };
    let mut signals = Signals::new([SIGTERM, SIGINT].iter().chain(others))?;
    let tell = tell.clone();
    let watch = move || {
        for signal in signals.forever() {
            // Those that we asked for exist.
            let Ok(signal) = Signal::from_number(signal.into()) else { continue };
            if tell.send(News::Signal(signal)).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}

/// One instance, its registries and its program.
struct Agent<'a> {
    console: &'a Console,
    places: Places,
    program: Option<Program>,
    news: Receiver<News>,
    tell: Sender<News>,
}

/// Why it does not go on.
enum Asked {
    Stop(Signal),
    Ended(ExitStatus),
}

impl Agent<'_> {
    /// Keeps the instance registered while it is ready.
    fn until_asked(&mut self) -> Asked {
        let mut ready = false;
        loop {
            if ready {
                self.places.enter(&self.tell);
            }
            let news = match self.places.due().filter(|_| ready) {
                Some(due) => self.news.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => self.news.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match news {
                Ok(News::Ready(now)) => {
                    ready = now;
                    if !ready {
                        self.leave("not ready any more");
                    }
                }
                Ok(News::Entered(at)) => self.places.entered(at, self.console),
                Ok(News::Ended(status)) => return Asked::Ended(status),
                Ok(News::Signal(signal)) if STOPS.contains(&signal) => return Asked::Stop(signal),
                Ok(News::Signal(signal)) => {
                    if let Some(program) = &self.program {
                        program.signal(signal);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The thread that hears signals does not end before us.
                Err(RecvTimeoutError::Disconnected) => return Asked::Stop(Signal::TERM),
            }
        }
    }

    /// Takes the instance out, because of this.
    fn leave(&mut self, why: &str) {
        let members = self.places.take_members();
        if members.is_empty() {
            return;
        }
        let began = Instant::now();
        let done = match crate::discovery::leave(members, Deadline::within(LEAVE_WITHIN)) {
            Ok(()) => format!("deregistered {} ms", began.elapsed().as_millis()),
            Err(error) => format!("not deregistered: {error}"),
        };
        self.console.note(&format!("{}  {why} · {done}", self.places.id()));
    }

    /// The whole stop of our own program.
    fn stop_program(mut self, plan: Plan) -> anyhow::Result<u8> {
        let Some(program) = self.program.take() else { return Ok(exit::OK) };
        let id = self.places.id().to_owned();
        let mut members = self.places.take_members();
        // Without any time the program ends first, as when it crashes.
        let afterwards = match plan.policy.timeout.value {
            Timeout::After(Duration::ZERO) => std::mem::take(&mut members),
            _ => Vec::new(),
        };
        let plan = if members.is_empty() {
            // Nobody finds it, so there is nobody who has to hear of it.
            Plan::new(plan.policy, Work { deregister: false, settle: None, ..plan.work })
        } else {
            plan
        };
        let (discovery, then) = (Members::new(members), plan.policy.then);
        let target = Target { engine: "process".into(), id: program.pid().to_string(), name: id.clone() };
        let stop =
            drive::Stop { target, plan, requested: Requested::now(), discovery: Some(Arc::new(discovery)) };
        let (order, mut orders) = unbounded_channel();
        let (news, child) = (self.news, program.clone());
        let listen = move || {
            for news in news {
                match news {
                    // Asked again: nothing waits for traffic any more.
                    News::Signal(signal) if STOPS.contains(&signal) => {
                        let again = drive::Order::Stop { budget: None, then, again: true };
                        let _ = order.send(again);
                    }
                    News::Signal(signal) => child.signal(signal),
                    News::Ended(_) | News::Ready(_) | News::Entered(_) => {}
                }
            }
        };
        std::thread::Builder::new().name("orders".into()).spawn(listen)?;
        let mut line = self.console.watch(&id);
        crate::commands::wait_for(async {
            let mut onlooker = |progress| line.show(&progress);
            let report = drive::walk(&program, stop, &mut orders, &mut onlooker).await;
            self.console.note(&verdict(&id, &report).join("\n"));
            if let Err(why) = crate::discovery::leave(afterwards, Deadline::within(LEAVE_WITHIN)) {
                self.console.error(&format!("{id}  not deregistered: {why}"));
            }
            Ok(report.exit.and_then(ExitStatus::code).unwrap_or(exit::FAILURE))
        })
    }

    /// The stop of a sidecar: out, and until consumers have heard of it.
    fn step_aside(mut self, settle: Duration, port: u16) -> u8 {
        let members = self.places.take_members();
        if members.is_empty() {
            return exit::OK;
        }
        let began = Instant::now();
        let left = crate::discovery::leave(members, Deadline::within(LEAVE_WITHIN));
        let took = began.elapsed().as_millis();
        let asked_again = |within| {
            // Others may have something to tell, and then it is looked sooner.
            matches!(self.news.recv_timeout(within), Ok(News::Signal(_)))
        };
        let settled = settle::until_nobody_comes(port, settle, asked_again);
        let (left, code) = match left {
            Ok(()) => (format!("deregistered {took} ms"), exit::OK),
            Err(error) => (format!("not deregistered within {took} ms: {error}"), exit::FAILURE),
        };
        self.console.note(&format!("{}  {left} · {settled}", self.places.id()));
        code
    }
}
