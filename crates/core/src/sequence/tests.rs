//! Every event in every state as one table; and a search over all orders of events, to a depth, for what must hold in
//! each of them.

use alloc::collections::BTreeMap;
use alloc::vec;
use std::collections::HashSet;
use std::println;

use super::*;
use crate::plan::{Settle, Work};
use crate::policy::{Policy, Request, Settings};

extern crate std;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn plan(budget: Timeout, then: Then, work: Work) -> Plan {
    let request = Request { timeout: Some(budget), then, ..Request::default() };
    Plan::new(Policy::resolve(&request, &Settings::default()), work)
}

/// Every phase, a family to sweep, and a restart: nothing is skipped.
fn everything() -> Plan {
    let settle = Settle { quiet: ms(200), at_most: ms(1_000) };
    plan(
        Timeout::from_seconds(10),
        Then::Start,
        Work {
            deregister: true,
            settle: Some(settle),
            drain: Some(NewConnections::Hold),
            flush: ms(1_000),
            reach: Reach::Family,
            ready: ms(3_000),
            kill_unheard: true,
            ..Work::default()
        },
    )
}

/// What `docker stop` does.
fn dockers(budget: Timeout) -> Plan {
    plan(budget, Then::Stay, Work::default())
}

const REQUEST: Event = Event::StopRequested { budget: None, then: Then::Start, again: false };
const AGAIN: Event = Event::StopRequested { budget: None, then: Then::Start, again: true };
const QUIET: Event = Event::ConnectionsObserved(Traffic { in_flight: 0, new: 0 });
const BUSY: Event = Event::ConnectionsObserved(Traffic { in_flight: 2, new: 1 });
const EXIT_0: Event = Event::MainExited(ExitStatus::Code(0));

/// Tells `events`, each as (milliseconds, event), and returns the actions asked for.
fn tell(stop: &mut Sequence, events: &[(u64, Event)]) -> Vec<Action> {
    let mut actions = Vec::new();
    for (at, event) in events {
        stop.handle(ms(*at), event.clone());
        actions.extend(core::iter::from_fn(|| stop.next_action()));
    }
    actions
}

/// The states of [`everything`]'s life, each by a way to get there. All are reached by 9,000 ms.
fn states() -> Vec<(&'static str, Sequence)> {
    let to_terminate =
        [(0, REQUEST), (10, Event::Deregistered(Ok(()))), (210, QUIET), (220, QUIET), (230, EXIT_0)];
    let reach = |events: &[(u64, Event)]| {
        let mut stop = Sequence::new(everything());
        tell(&mut stop, events);
        stop
    };
    let after_timeout = |more: &[(u64, Event)]| {
        let mut stop = reach(&to_terminate[..4]);
        tell(&mut stop, &[(8_500, Event::Timer)]);
        tell(&mut stop, more);
        stop
    };
    let all_gone = [&to_terminate[..], &[(240, Event::AllExited)]].concat();
    let flushed = [&all_gone[..], &[(250, Event::Flushed(Ok(())))]].concat();
    let started = [&flushed[..], &[(260, Event::Started(Ok(())))]].concat();
    vec![
        ("running", reach(&[])),
        ("deregister", reach(&to_terminate[..1])),
        ("settle", reach(&to_terminate[..2])),
        ("drain", reach(&to_terminate[..3])),
        ("terminate", reach(&to_terminate[..4])),
        ("sweep", reach(&to_terminate[..5])),
        ("flush", reach(&all_gone)),
        ("flush-alive", after_timeout(&[])),
        ("kill", after_timeout(&[(8_510, Event::Flushed(Ok(())))])),
        ("killed", after_timeout(&[(8_510, Event::Flushed(Ok(()))), (9_500, Event::Timer)])),
        ("starting", reach(&flushed)),
        ("done", reach(&started)),
    ]
}

/// The name in [`states`] of the state that `stop` is in.
fn name(stop: &Sequence) -> &'static str {
    match stop.state {
        State::Running => "running",
        State::Deregister => "deregister",
        State::Settle { .. } => "settle",
        State::Drain => "drain",
        State::Terminate { .. } if stop.main_exit.is_some() => "sweep",
        State::Terminate { .. } => "terminate",
        State::Flush { .. } if stop.all_exited => "flush",
        State::Flush { .. } => "flush-alive",
        State::Kill { sent: false, .. } => "kill",
        State::Kill { sent: true, .. } => "killed",
        State::Starting { .. } => "starting",
        State::Done => "done",
    }
}

/// One row per state, one column per event, told 1 ms after the state was reached; `.` means that it stays.
const TABLE: &str = "
            request    again      aborted deregistered no-more-conns conns hidden    unheard     main-exit all-exited killed flushed  started engine-lost timer
running     deregister deregister .       .            .             .     .         .           sweep     flush      .      .        .       .           .
deregister  .          .          done    settle       .             .     .         .           .         .          .      .        .       done        .
settle      .          terminate  done    .            .             .     terminate .           sweep     flush      .      .        .       done        .
drain       .          terminate  done    .            terminate     .     terminate .           sweep     flush      .      .        .       done        .
terminate   .          .          .       .            .             .     .         flush-alive sweep     flush      .      .        .       done        .
sweep       .          .          .       .            .             .     .         .           .         flush      .      .        .       done        .
flush       .          .          .       .            .             .     .         .           .         .          .      starting .       done        .
flush-alive .          .          .       .            .             .     .         .           .         flush      .      kill     .       done        .
kill        .          .          .       .            .             .     .         .           .         starting   .      .        .       done        .
killed      .          .          .       .            .             .     .         .           .         starting   .      .        .       done        .
starting    .          .          .       .            .             .     .         .           .         .          .      .        done    done        .
done        .          .          .       .            .             .     .         .           .         .          .      .        .       .           .
";

#[test]
fn every_event_in_every_state() {
    let events: BTreeMap<&str, Event> = [
        ("request", REQUEST),
        ("again", AGAIN),
        ("aborted", Event::Aborted),
        ("deregistered", Event::Deregistered(Ok(()))),
        ("no-more-conns", QUIET),
        ("conns", BUSY),
        ("hidden", Event::ConnectionsHidden),
        ("unheard", Event::Unheard),
        ("main-exit", EXIT_0),
        ("all-exited", Event::AllExited),
        ("killed", Event::Killed),
        ("flushed", Event::Flushed(Ok(()))),
        ("started", Event::Started(Ok(()))),
        ("engine-lost", Event::EngineLost("gone".to_string())),
        ("timer", Event::Timer),
    ]
    .into();
    let states: BTreeMap<_, _> = states().into_iter().collect();

    let mut rows = TABLE.trim_start_matches('\n').lines().map(str::split_whitespace);
    let columns: Vec<_> = rows.next().into_iter().flatten().collect();
    assert_eq!(columns.len(), events.len());
    let mut seen = 0;
    for mut row in rows {
        let from = row.next().expect("a row begins with its state");
        for (column, expected) in columns.iter().zip(row) {
            let mut stop = states[from].clone();
            assert_eq!(name(&stop), from);
            stop.handle(stop.entered + ms(1), events[column].clone());
            let expected = if expected == "." { from } else { expected };
            // Main may end while the registries are asked: the state is the same, the next one differs.
            assert_eq!(name(&stop), expected, "{column} in {from}");
            seen += 1;
        }
    }
    assert_eq!(seen, states.len() * events.len());
}

#[test]
fn a_plain_docker_stop_asks_for_signal_flush_and_nothing_else() {
    let mut stop = Sequence::new(dockers(Timeout::DEFAULT));
    let actions =
        tell(&mut stop, &[(0, REQUEST), (80, EXIT_0), (81, Event::AllExited), (82, Event::Flushed(Ok(())))]);
    let ten = Some(ms(10_000));
    assert_eq!(
        actions,
        [Action::Signal { signal: Signal::TERM, kill_at: ten }, Action::Flush { until: ten }, Action::Done]
    );
    let conclusion = stop.conclusion().expect("done");
    assert_eq!((conclusion.verdict, conclusion.reason), (Verdict::Graceful, Reason::Exited));
    assert_eq!(conclusion.took, ms(82));
    let outcomes: Vec<_> = conclusion.steps.iter().map(|s| (s.phase, s.outcome.clone())).collect();
    let skipped = |why| Outcome::Skipped(why);
    assert_eq!(
        outcomes,
        [
            (Phase::Deregister, skipped(Skip::NotPlanned)),
            (Phase::Settle, skipped(Skip::NotPlanned)),
            (Phase::Drain, skipped(Skip::NotPlanned)),
            (Phase::Terminate, Outcome::Done),
            (Phase::Flush, Outcome::Done),
            (Phase::Kill, skipped(Skip::AlreadyGone)),
        ]
    );
}

#[test]
fn zero_means_signal_flush_and_kill_at_once() {
    let mut stop = Sequence::new(dockers(Timeout::After(Duration::ZERO)));
    let actions = tell(&mut stop, &[(0, REQUEST), (1, Event::Flushed(Ok(())))]);
    assert_eq!(
        actions,
        [
            Action::Signal { signal: Signal::TERM, kill_at: Some(ms(0)) },
            Action::Flush { until: Some(AT_LEAST) },
            Action::Kill
        ]
    );
    tell(&mut stop, &[(3, Event::MainExited(ExitStatus::Signal(Signal::KILL))), (3, Event::AllExited)]);
    assert_eq!(stop.conclusion().expect("done").verdict, Verdict::Forced);
}

#[test]
fn without_a_deadline_only_who_asks_a_third_time_kills() {
    let mut stop = Sequence::new(dockers(Timeout::Never));
    let day = 86_400_000;
    let actions = tell(&mut stop, &[(0, REQUEST), (day, Event::Timer), (day + 1, AGAIN)]);
    assert_eq!(actions, [Action::Signal { signal: Signal::TERM, kill_at: None }]);
    let actions = tell(&mut stop, &[(day + 2, AGAIN), (day + 3, Event::Flushed(Ok(())))]);
    assert_eq!(actions, [Action::Flush { until: Some(ms(day + 102)) }, Action::Kill]);
}

#[test]
fn others_who_ask_shorten_by_their_own_budget_and_hurry_nothing() {
    let other = |seconds| Event::StopRequested {
        budget: Some(Timeout::from_seconds(seconds)),
        then: Then::Stay,
        again: false,
    };
    let mut stop = Sequence::new(dockers(Timeout::DEFAULT));
    tell(&mut stop, &[(0, REQUEST), (1_000, other(60))]);
    assert_eq!(stop.deadline(), Some(ms(10_000)), "nothing is prolonged");
    tell(&mut stop, &[(2_000, other(8)), (2_001, other(8)), (2_002, REQUEST)]);
    assert_eq!(stop.deadline(), Some(ms(10_000)), "nor is anything hurried");
    tell(&mut stop, &[(3_000, other(2))]);
    assert_eq!(stop.deadline(), Some(ms(5_000)));

    let mut stop = Sequence::new(everything());
    tell(&mut stop, &[(0, REQUEST), (10, Event::Deregistered(Ok(()))), (20, REQUEST), (30, other(9))]);
    assert_eq!(name(&stop), "settle");
}

/// Where there is no more time than it takes to see that nobody comes, nobody has come if nobody was seen.
#[test]
fn traffic_that_was_quiet_all_the_time_has_stopped() {
    let settled = |seen: Event| {
        let settle = Settle { quiet: ms(200), at_most: ms(200) };
        let work = Work { settle: Some(settle), ..everything().work };
        let mut stop = Sequence::new(plan(Timeout::from_seconds(10), Then::Stay, work));
        let events = [(0, REQUEST), (10, Event::Deregistered(Ok(()))), (100, seen), (210, Event::Timer)];
        tell(&mut stop, &events);
        stop.steps().iter().find(|step| step.phase == Phase::Settle).map(|step| step.outcome.clone())
    };
    assert_eq!(settled(QUIET), Some(Outcome::Done));
    assert_eq!(settled(BUSY), Some(Outcome::Late));
}

#[test]
fn what_is_in_flight_when_the_program_ends_was_cut() {
    let mut stop = Sequence::new(everything());
    tell(&mut stop, &[(0, REQUEST), (10, Event::Deregistered(Ok(()))), (210, QUIET), (220, BUSY)]);
    tell(
        &mut stop,
        &[
            (300, EXIT_0),
            (301, Event::AllExited),
            (302, Event::Flushed(Ok(()))),
            (400, Event::Started(Ok(()))),
        ],
    );
    let conclusion = stop.conclusion().expect("done");
    assert_eq!((conclusion.verdict, conclusion.reason), (Verdict::Forced, Reason::Cut(2)));
}

#[test]
fn a_drained_program_that_cannot_hear_the_signal_is_killed_at_once() {
    let work = Work { drain: Some(NewConnections::Refuse), kill_unheard: true, ..Work::default() };
    let told = |work: Work, traffic: Event, at: u64| {
        let mut stop = Sequence::new(plan(Timeout::DEFAULT, Then::Stay, work));
        let actions = tell(&mut stop, &[(0, REQUEST), (at, traffic), (at, Event::Unheard)]);
        (stop, actions)
    };
    let (mut stop, actions) = told(work.clone(), QUIET, 50);
    assert_eq!(actions.last(), Some(&Action::Flush { until: Some(ms(50) + AT_LEAST) }));
    assert_eq!(tell(&mut stop, &[(51, Event::Flushed(Ok(())))]), [Action::Kill]);
    tell(&mut stop, &[(53, Event::MainExited(ExitStatus::Signal(Signal::KILL))), (53, Event::AllExited)]);
    let conclusion = stop.conclusion().expect("done");
    assert_eq!((conclusion.verdict, conclusion.took), (Verdict::Forced, ms(53)));
    assert!(conclusion.steps.iter().any(|step| step.outcome == Outcome::Unheard));

    // Not if something was still in flight, and not if the caller wants docker's wait.
    let (stop, _) = told(work.clone(), BUSY, 7_000);
    assert_eq!((name(&stop), stop.kill_at()), ("terminate", Some(ms(10_000))));
    let (stop, _) = told(Work { kill_unheard: false, ..work }, QUIET, 50);
    assert_eq!((name(&stop), stop.kill_at()), ("terminate", Some(ms(10_000))));
}

#[test]
fn a_restart_holds_new_connections_also_when_it_drains_nothing() {
    let hold = Work { drain: Some(NewConnections::Hold), ..Work::default() };
    let mut stop = Sequence::new(plan(Timeout::After(Duration::ZERO), Then::Start, hold));
    let actions = tell(&mut stop, &[(0, REQUEST)]);
    assert_eq!(actions[0], Action::Hold);
    assert!(matches!(actions[1], Action::Signal { .. }), "{actions:?}");
}

#[test]
fn an_abort_releases_what_was_held_and_registers_again() {
    let mut stop = Sequence::new(everything());
    tell(&mut stop, &[(0, REQUEST), (10, Event::Deregistered(Ok(()))), (210, QUIET), (220, BUSY)]);
    let actions = tell(&mut stop, &[(230, Event::Aborted)]);
    assert_eq!(actions, [Action::Reregister, Action::Release, Action::Done]);
    assert_eq!(stop.conclusion().expect("done").reason, Reason::Aborted);
}

/// Whoever has left discovery and serves on, or again, comes back; and nobody else does.
#[test]
fn whoever_serves_is_found_again() {
    let comes_back = |from: &str, event: Event| {
        let states: BTreeMap<_, _> = states().into_iter().collect();
        let mut stop = states[from].clone();
        tell(&mut stop, &[(9_000, event)]).contains(&Action::Reregister)
    };
    let lost = || Event::EngineLost("gone".to_string());
    assert!(comes_back("starting", Event::Started(Ok(()))));
    assert!(!comes_back("starting", Event::Started(Err("crashed".to_string()))));
    for before in ["deregister", "settle", "drain"] {
        assert!(comes_back(before, lost()) && comes_back(before, Event::Aborted), "{before}");
    }
    for after in ["terminate", "sweep", "flush", "kill", "killed", "starting"] {
        assert!(!comes_back(after, lost()) && !comes_back(after, Event::Aborted), "{after}");
    }
}

#[test]
fn a_crash_deregisters_at_once_and_sweeps_the_rest() {
    let mut stop = Sequence::new(everything());
    let actions = tell(&mut stop, &[(5_000, Event::MainExited(ExitStatus::Code(3)))]);
    assert_eq!(actions, [Action::Deregister, Action::Sweep(Signal::TERM)]);
    let actions = tell(&mut stop, &[(5_010, Event::AllExited), (5_020, Event::Flushed(Ok(())))]);
    assert_eq!(actions, [Action::Flush { until: Some(ms(14_500)) }, Action::Done]);
    let conclusion = stop.conclusion().expect("done");
    assert_eq!((conclusion.reason, conclusion.took), (Reason::Crashed, ms(20)));
}

// === the search ===

/// What the properties need to remember of a run, kept apart from the sequence that they judge.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Ghost {
    urged: u8,
    /// `B − K − F − T` and `B − K` of the strictest request so far, by the arithmetic of `Ends`.
    traffic_end: Option<Duration>,
    kill_end: Option<Duration>,
    unheard: bool,
    in_flight: u32,
    drained: bool,
    hidden: bool,
    signals: u8,
    kills: u8,
    flushes: u8,
    held: bool,
    crashed: bool,
    excused_from_flush: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Node {
    stop: Sequence,
    ghost: Ghost,
    now: Duration,
}

impl Node {
    /// Tells `event` at time `at` and checks everything that must hold. Steps are forgotten: they only grow.
    fn after(&self, at: Duration, event: &Event) -> Self {
        let mut next = self.clone();
        next.now = at;
        let plan = self.stop.plan().clone();
        let work = &plan.work;
        let ghost = &mut next.ghost;
        let running = self.stop.state == State::Running;
        match event {
            Event::StopRequested { budget, again, .. } => {
                ghost.urged += u8::from(*again && !running);
                let budget = if running { Some(plan.policy.timeout.value) } else { *budget };
                if let Some(budget) = budget {
                    let ends = Ends::new(budget, work).after(at);
                    ghost.traffic_end = earlier(ghost.traffic_end, ends.traffic);
                    ghost.kill_end = earlier(ghost.kill_end, ends.kill);
                }
                if ghost.urged >= 2 {
                    ghost.kill_end = earlier(ghost.kill_end, Some(at));
                }
            }
            Event::MainExited(_) | Event::AllExited if running => {
                ghost.crashed = true;
                ghost.kill_end = plan.ends.after(at).kill;
            }
            Event::ConnectionsObserved(Traffic { in_flight, .. }) => {
                ghost.in_flight = *in_flight;
                ghost.drained |= self.stop.state == State::Drain && *in_flight == 0;
            }
            Event::Unheard => ghost.unheard = true,
            Event::ConnectionsHidden => ghost.hidden = true,
            Event::Aborted | Event::EngineLost(_) => {
                // Excused only if the stop ended by it; a flush that was asked for before is not undone.
                ghost.excused_from_flush |= !running && self.stop.state != State::Done;
            }
            _ => {}
        }

        let waits = matches!(self.stop.state, State::Terminate { .. }) && self.stop.main_exit.is_none();
        let tells = matches!(event, Event::Unheard | Event::ConnectionsObserved(_));
        let nobody_hears = ghost.unheard && ghost.drained && ghost.in_flight == 0;
        if waits && tells && nobody_hears && work.kill_unheard {
            ghost.kill_end = earlier(ghost.kill_end, Some(at));
        }

        let ends_before = self.stop.ends;
        next.stop.handle(at, event.clone());
        while let Some(action) = next.stop.next_action() {
            next.check(action, at);
        }
        if !running {
            assert_eq!(ends_before.earlier(next.stop.ends), next.stop.ends, "a request prolonged the stop");
        }
        assert!(
            next.stop.deadline().is_none_or(|deadline| deadline > at),
            "a deadline in the past: {:?}",
            next.stop
        );
        next.stop.steps.clear();
        next
    }

    fn check(&mut self, action: Action, at: Duration) {
        let Self { stop, ghost, .. } = self;
        match action {
            Action::Signal { kill_at, .. } => {
                ghost.signals += 1;
                assert_eq!(ghost.signals, 1, "a second stop signal");
                assert!(!ghost.crashed, "a stop signal to a program that has ended");
                let over = ghost.traffic_end.is_some_and(|end| end <= at);
                let waited = ghost.drained || ghost.hidden || ghost.urged >= 1 || over;
                let may = stop.plan.work.drain.is_none() || waited;
                assert!(may, "the stop signal before Drain ended or its cap");
                assert_eq!(kill_at, ghost.kill_end);
            }
            Action::Kill => {
                ghost.kills += 1;
                assert_eq!(ghost.kills, 1, "a second SIGKILL");
                assert!(ghost.kill_end.is_some_and(|end| end <= at), "SIGKILL before the deadline");
                assert_eq!(ghost.flushes, 1, "SIGKILL before the flush");
            }
            Action::Flush { until } => {
                ghost.flushes += 1;
                assert_eq!(ghost.flushes, 1, "a second flush");
                assert!(until.is_none_or(|until| until > at), "a flush without time");
            }
            Action::Hold | Action::Refuse => {
                assert!(!ghost.held);
                ghost.held = true;
            }
            Action::Release => {
                assert!(ghost.held);
                ghost.held = false;
            }
            Action::Done => {
                assert!(ghost.flushes == 1 || ghost.excused_from_flush, "no flush");
                assert!(!ghost.held, "still held");
                assert!(stop.conclusion().is_some());
            }
            Action::Start => assert!(!ghost.crashed, "an engine's restart policy is not ours"),
            Action::Deregister | Action::Reregister | Action::Observe | Action::Sweep(_) => {}
        }
    }

    /// From here on only time passes: it must end, and in time.
    fn check_that_it_ends(&self) {
        let started = self.stop.state != State::Running;
        let Some(kill_end) = self.ghost.kill_end.filter(|_| started) else { return };
        // What may come after the deadline: a last flush, the kernel's time to kill, the restarted program's to be ready.
        let last = kill_end.max(self.now) + 2 * AT_LEAST + GIVE_UP + self.stop.plan().work.ready;
        let mut node = self.clone();
        for _ in 0..12 {
            let Some(deadline) = node.stop.deadline() else { break };
            node = node.after(deadline, &Event::Timer);
        }
        assert_eq!(node.stop.state, State::Done, "it never ends from {:?}", self.stop);
        assert!(node.now <= last, "it ends at {:?}, not by {last:?}", node.now);
    }
}

fn alphabet() -> Vec<Event> {
    let request = |budget, again| Event::StopRequested {
        budget: Some(Timeout::After(budget)),
        then: Then::Stay,
        again,
    };
    vec![
        REQUEST,
        AGAIN,
        request(ms(0), false),
        request(ms(700), true),
        Event::StopRequested { budget: Some(Timeout::Never), then: Then::Stay, again: false },
        Event::Aborted,
        Event::Deregistered(Ok(())),
        Event::Deregistered(Err("refused".to_string())),
        QUIET,
        BUSY,
        EXIT_0,
        Event::MainExited(ExitStatus::Signal(Signal::KILL)),
        Event::AllExited,
        Event::ConnectionsHidden,
        Event::Unheard,
        Event::Killed,
        Event::Flushed(Ok(())),
        Event::Flushed(Err("no space".to_string())),
        Event::Started(Ok(())),
        Event::Started(Err("exit 1".to_string())),
        Event::EngineLost("gone".to_string()),
        Event::Timer,
    ]
}

/// Breadth first over every order of events, each told at once, just before the next deadline, or on it.
fn search(plan: Plan, depth: usize) -> usize {
    let alphabet = alphabet();
    let start = Node { stop: Sequence::new(plan), ghost: Ghost::default(), now: Duration::ZERO };
    let mut seen = HashSet::from([start.clone()]);
    let mut level = vec![start];
    for _ in 0..depth {
        let mut next_level = Vec::new();
        for node in level {
            let deadline = node.stop.deadline();
            let just_before = deadline.map(|d| d.saturating_sub(ms(1)).max(node.now));
            let mut times: Vec<_> = [Some(node.now), just_before, deadline].into_iter().flatten().collect();
            times.dedup();
            for at in times {
                for event in &alphabet {
                    let next = node.after(at, event);
                    if seen.insert(next.clone()) {
                        next.check_that_it_ends();
                        next_level.push(next);
                    }
                }
            }
        }
        level = next_level;
    }
    seen.len()
}

/// The depth to which every order is tried. Seven events lead through a whole stop with two requests too many.
const DEPTH: usize = 7;

#[test]
fn every_order_of_events_keeps_the_promises() {
    let drain_only = Work { drain: Some(NewConnections::Refuse), ready: ms(1_000), ..Work::default() };
    let ten = Timeout::from_seconds(10);
    for (what, plan) in [
        ("every phase, with a family and a restart", everything()),
        ("docker's stop", dockers(ten)),
        ("docker's stop without any time", dockers(Timeout::from_seconds(0))),
        ("docker's stop without a deadline", dockers(Timeout::Never)),
        ("a restart with a drain", plan(ten, Then::Start, drain_only)),
        ("an init with hardly any time", plan(Timeout::After(ms(1)), Then::Stay, everything().work)),
    ] {
        let nodes = search(plan, DEPTH);
        println!("{what}: {nodes} distinct situations within {DEPTH} events");
        assert!(nodes > 100, "{what}: only {nodes}: the search does not get anywhere");
    }
}

/// The search finds a broken promise: a negative control.
#[test]
#[should_panic(expected = "the stop signal before Drain ended")]
fn the_search_would_notice_a_signal_that_comes_too_early() {
    let mut node = Node { stop: Sequence::new(everything()), ghost: Ghost::default(), now: Duration::ZERO };
    node = node.after(ms(0), &REQUEST);
    node.check(Action::Signal { signal: Signal::TERM, kill_at: None }, ms(1));
}

#[test]
fn phases_are_recorded_in_their_order() {
    for (name, stop) in states() {
        let phases: Vec<_> = stop.steps.iter().map(|step| step.phase).collect();
        assert!(phases.is_sorted(), "{name}: {phases:?}");
    }
}
