//! The life of a container by hand; [`search`] lets everything happen in every order.

extern crate std;

use alloc::string::ToString;
use alloc::vec;

use gracefully_core::diagnosis::Code;
use gracefully_core::plan::GIVE_UP;
use gracefully_core::policy::{Care, Timeout};
use gracefully_core::report::{Reason, Report, Verdict};

use super::*;
use crate::protocol::raw;
use crate::record::Restart;
use crate::record::tests::record;

mod search;

const MAIN: Main = Main { pid: 42, start_ticks: 4711 };

fn at(ms: u64) -> Now {
    let monotonic = Duration::from_millis(1_000_000 + ms);
    Now { monotonic, wall: Timestamp::since_1970(monotonic) }
}

/// A supervisor at work, and what it has asked for since one last looked.
#[derive(Clone)]
struct Desk {
    supervisor: Supervisor,
}

impl Desk {
    /// Its program runs.
    fn with(restart: Restart) -> Self {
        let mut record = record("a1");
        record.status = Status::Created;
        record.exit = None;
        record.spec.restart = restart;
        record.spec.stop_signal = None;
        record.spec.stop_timeout = None;
        let mut desk = Self { supervisor: Supervisor::new(record) };
        desk.supervisor.begin(at(0));
        assert_eq!(desk.asks(), ["launch"]);
        assert_eq!(desk.tell(0, Event::Created(MAIN)), ["run"]);
        assert_eq!(desk.tell(0, Event::Started), ["starter Started"]);
        desk
    }

    fn tell(&mut self, ms: u64, event: Event) -> Vec<String> {
        self.supervisor.handle(at(ms), event);
        self.asks()
    }

    fn asks(&mut self) -> Vec<String> {
        core::iter::from_fn(|| self.supervisor.next_action()).map(|action| word(&action)).collect()
    }

    fn deadline(&self) -> Option<u64> {
        let deadline = self.supervisor.deadline()?.checked_sub(at(0).monotonic)?;
        u64::try_from(deadline.as_millis()).ok()
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Save => "save".into(),
        Action::Launch => "launch".into(),
        Action::Run => "run".into(),
        Action::Abandon => "abandon".into(),
        Action::Terminate(signal) => format!("terminate {signal}"),
        Action::Send(signal, client) => format!("send {signal} {client:?}"),
        Action::Conduct(job) => {
            format!(
                "conduct {} after {} ms, main {:?}",
                job.policy.timeout.value,
                job.elapsed.as_millis(),
                job.main
            )
        }
        Action::Tell(news) => format!("tell {news:?}"),
        Action::Dismiss => "dismiss".into(),
        Action::Answer(client, Answer::Report(_)) => format!("answer {client} report"),
        Action::Answer(client, Answer::Progress(progress)) => format!("answer {client} {progress}"),
        Action::Answer(client, answer) => format!("answer {client} {answer:?}"),
        Action::Report(report) => match serde_json::from_str::<Report>(report.get()) {
            Ok(report) => format!("report {} {:?}", report.verdict, report.reason),
            Err(_) => format!("report {report}"),
        },
        Action::Starter(said) => format!("starter {said:?}"),
        Action::Leave => "leave".into(),
        Action::Quit => "quit".into(),
    }
}

fn stop(seconds: Option<i64>, then: Then) -> Ask {
    Ask::Stop(Request { timeout: seconds.map(Timeout::from_seconds), then, ..Request::default() })
}

fn exited(code: u8) -> Event {
    Event::Exited { status: ExitStatus::Code(code), lost: None }
}

fn killed() -> Event {
    Event::Exited { status: ExitStatus::Signal(Signal::KILL), lost: None }
}

fn terminate(kill_after_ms: u64) -> Event {
    Event::Ordered(Order::Terminate { kill_after_ms: Some(kill_after_ms) })
}

/// A conductor's report; what is in it is its own affair.
fn reported() -> Event {
    Event::Ordered(Order::Report(raw(&"its report")))
}

const NOTHING: [&str; 0] = [];

// === the program ===

#[test]
fn a_program_that_ends_is_written_down_and_left() {
    let mut desk = Desk::with(Restart::No);
    assert_eq!(desk.deadline(), None, "nothing wakes it up");
    assert_eq!(desk.tell(10, Event::Asked(Some(1), Ask::Wait)), NOTHING);
    assert_eq!(desk.tell(20, exited(7)), ["save", "leave"]);
    assert_eq!(desk.supervisor.record().exit, Some(ExitStatus::Code(7)));
    assert_eq!(desk.supervisor.record().status, Status::Exited);
    // Somebody has connected meanwhile.
    assert_eq!(desk.tell(30, Event::Asked(Some(2), Ask::Wait)), NOTHING);
    assert_eq!(desk.tell(30, Event::Asked(Some(3), stop(None, Then::Stay))), ["answer 3 NotRunning"]);
    desk.supervisor.last_words();
    assert_eq!(
        desk.asks(),
        ["answer 1 Exited(7)", "answer 2 Exited(7)", "starter Ended { code: 7, lost: None }"]
    );
}

#[test]
fn the_restart_policy_starts_it_again_after_a_pause() {
    let mut desk = Desk::with(Restart::OnFailure(Some(1)));
    assert_eq!(desk.tell(10, exited(1)), ["save"]);
    assert_eq!(desk.supervisor.record().status, Status::Restarting);
    assert_eq!(desk.deadline(), Some(110));
    assert_eq!(desk.tell(50, Event::Timer), NOTHING, "it is not due yet");
    assert_eq!(desk.tell(110, Event::Timer), ["launch"]);
    desk.tell(120, Event::Created(MAIN));
    assert_eq!(desk.tell(130, Event::Started), NOTHING);
    assert_eq!(desk.supervisor.record().restarts, 1);
    assert_eq!(desk.tell(140, exited(1)), ["save", "leave"], "once was agreed");
}

#[test]
fn what_cannot_be_started_says_so() {
    let mut supervisor = Supervisor::new(record("a1"));
    supervisor.begin(at(0));
    let mut desk = Desk { supervisor };
    desk.asks();
    let failed = Event::NotStarted { code: 127, message: "not found".into() };
    let said = r#"starter Failed { code: 127, message: "not found" }"#;
    assert_eq!(desk.tell(5, failed), ["save", said, "quit"]);
    assert_eq!(desk.supervisor.record().error.as_deref(), Some("not found"));
}

#[test]
fn a_launch_that_takes_too_long_is_given_up() {
    let mut desk = Desk::with(Restart::Always);
    desk.tell(10, exited(1));
    desk.tell(110, Event::Timer);
    assert_eq!(desk.tell(110 + 30_000, Event::Timer), ["abandon", "save"]);
    assert_eq!(desk.supervisor.record().error.as_deref(), Some("not started within 30 s"));
    assert!(desk.deadline().is_some(), "it is tried again");
}

#[test]
fn what_is_asked_while_it_is_made_is_done_when_it_runs() {
    let mut desk = Desk::with(Restart::Always);
    desk.tell(10, exited(1));
    desk.tell(110, Event::Timer);
    assert_eq!(desk.tell(115, Event::Asked(Some(1), stop(None, Then::Stay))), NOTHING);
    desk.tell(120, Event::Created(MAIN));
    assert_eq!(desk.tell(130, Event::Started), ["conduct 10 s after 0 ms, main Some(42)"]);
    assert!(desk.supervisor.stopped_on_purpose);
}

#[test]
fn signals_that_mean_the_end_keep_the_policy_from_starting_it_again() {
    let mut desk = Desk::with(Restart::Always);
    assert_eq!(desk.tell(1, Event::Asked(Some(1), Ask::Signal(Signal::HUP))), ["send SIGHUP Some(1)"]);
    assert!(!desk.supervisor.stopped_on_purpose);
    assert_eq!(desk.tell(2, Event::Asked(Some(2), Ask::Signal(Signal::KILL))), ["send SIGKILL Some(2)"]);
    assert_eq!(desk.tell(3, killed()), ["save", "leave"]);
    desk.supervisor.last_words();
    assert_eq!(desk.asks(), ["answer 2 Done", "starter Ended { code: 137, lost: None }"]);
}

#[test]
fn a_kill_between_two_runs_ends_it() {
    for to_end_it in [Signal::KILL, Signal::TERM] {
        let mut desk = Desk::with(Restart::Always);
        desk.tell(10, exited(1));
        assert_eq!(desk.tell(20, Event::Asked(Some(1), Ask::Signal(Signal::HUP))), ["answer 1 NotRunning"]);
        assert_eq!(desk.tell(30, Event::Asked(Some(2), Ask::Signal(to_end_it))), ["save", "leave"]);
        assert_eq!(desk.supervisor.record().status, Status::Exited);
        desk.supervisor.last_words();
        assert_eq!(desk.asks(), ["answer 2 Done", "starter Ended { code: 1, lost: None }"]);
    }
}

// === a stop with its conductor ===

#[test]
fn a_stop_is_conducted_and_everybody_is_told() {
    let mut desk = Desk::with(Restart::Always);
    let asked = Event::Asked(Some(1), stop(None, Then::Stay));
    assert_eq!(desk.tell(0, asked), ["conduct 10 s after 0 ms, main Some(42)"]);
    let progress = Event::Ordered(Order::Progress(raw(&"so far")));
    assert_eq!(desk.tell(1, progress), ["answer 1 \"so far\""]);
    assert_eq!(desk.tell(2, terminate(9_998)), ["terminate SIGTERM"]);
    let further = "tell Stop { budget: Some(After(5s)), then: Stay, again: false }";
    let asked = Event::Asked(Some(2), stop(Some(5), Then::Stay));
    assert_eq!(desk.tell(100, asked), ["answer 2 \"so far\"", further], "who joins late hears it all");
    let ended = "tell Ended { exit: Code(0), findings: [] }";
    assert_eq!(desk.tell(200, exited(0)), ["save", ended]);
    assert_eq!(desk.tell(201, reported()), ["report \"its report\"", "leave"]);
    desk.supervisor.last_words();
    assert_eq!(desk.asks(), ["answer 1 report", "answer 2 report", "starter Ended { code: 0, lost: None }"]);
}

#[test]
fn the_monitor_kills_at_the_deadline_by_itself_and_once() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), stop(None, Then::Stay)));
    desk.tell(0, terminate(10_000));
    assert_eq!(desk.tell(1, terminate(20_000)), NOTHING, "one stop signal, and nothing is prolonged");
    assert_eq!(desk.deadline(), Some(10_000));
    assert_eq!(desk.tell(10_000, Event::Timer), ["send SIGKILL None"]);
    assert_eq!(desk.tell(10_001, Event::Ordered(Order::Kill)), NOTHING);
    let hangs = Duration::from_millis(10_000) + GIVE_UP + Duration::from_secs(5);
    assert_eq!(desk.deadline(), u64::try_from(hangs.as_millis()).ok());
}

#[test]
fn a_restart_answers_who_waited_for_the_end_and_goes_on() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), Ask::Wait));
    desk.tell(0, Event::Asked(Some(2), stop(None, Then::Start)));
    desk.tell(0, terminate(10_000));
    desk.tell(100, exited(3));
    assert_eq!(desk.tell(101, Event::Ordered(Order::Start)), ["answer 1 Exited(3)", "launch"]);
    desk.tell(102, Event::Created(MAIN));
    assert_eq!(desk.tell(103, Event::Started), ["tell Started(Some(42))"]);
    assert_eq!(desk.tell(104, reported()), ["report \"its report\"", "answer 2 report"]);
    assert_eq!(desk.deadline(), None);
}

#[test]
fn a_program_that_crashes_right_after_a_restart_is_the_policys() {
    let mut desk = Desk::with(Restart::OnFailure(Some(1)));
    desk.tell(0, Event::Asked(Some(1), stop(None, Then::Start)));
    desk.tell(0, terminate(10_000));
    desk.tell(100, exited(0));
    desk.tell(101, Event::Ordered(Order::Start));
    desk.tell(102, Event::Created(MAIN));
    desk.tell(103, Event::Started);
    assert_eq!(desk.tell(104, exited(1)), ["tell Started(None)", "save"], "it did not come up");
    assert_eq!(desk.tell(105, reported()), ["report \"its report\"", "answer 1 report"]);
    assert_eq!(desk.tell(204, Event::Timer), ["launch"]);
}

#[test]
fn a_stop_between_two_runs_has_nobody_to_signal() {
    let mut desk = Desk::with(Restart::Always);
    desk.tell(10, exited(9));
    let asks = desk.tell(20, Event::Asked(Some(1), stop(None, Then::Stay)));
    let ended = "tell Ended { exit: Code(9), findings: [] }";
    assert_eq!(asks, ["save", "conduct 10 s after 0 ms, main None", ended]);
    assert_eq!(desk.tell(21, reported()), ["report \"its report\"", "leave"]);
}

// === a stop that is taken back ===

#[test]
fn who_alone_has_asked_may_take_it_back_before_the_signal() {
    let mut desk = Desk::with(Restart::Always);
    desk.tell(0, Event::Asked(Some(1), stop(None, Then::Stay)));
    assert_eq!(desk.tell(1, Event::Asked(Some(2), Ask::Abort)), NOTHING, "that is somebody else");
    assert_eq!(desk.tell(2, Event::Asked(Some(1), Ask::Abort)), ["tell Abort"]);
    assert_eq!(desk.tell(3, Event::Asked(Some(1), Ask::Abort)), NOTHING);
    assert_eq!(desk.tell(4, reported()), ["report \"its report\"", "answer 1 report"]);
    assert_eq!(desk.deadline(), None);
    // As if it had never been asked.
    assert_eq!(desk.tell(1_000, exited(1)), ["save"]);
    assert_eq!(desk.supervisor.record().status, Status::Restarting);
}

#[test]
fn a_stop_that_is_taken_back_and_loses_its_conductor_has_a_report() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), stop(None, Then::Stay)));
    desk.tell(1, Event::Asked(Some(1), Ask::Abort));
    assert_eq!(desk.tell(2, Event::ConductorLost), ["report failed Aborted", "answer 1 report"]);
    assert_eq!(desk.deadline(), None, "nobody is killed");
}

#[test]
fn what_others_want_too_goes_on() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), stop(None, Then::Stay)));
    desk.tell(1, Event::Asked(Some(2), stop(None, Then::Stay)));
    assert_eq!(desk.tell(2, Event::Asked(Some(1), Ask::Abort)), NOTHING);
    assert_eq!(desk.tell(2, Event::Asked(Some(2), Ask::Abort)), NOTHING, "the first wish stands");
    assert_eq!(desk.tell(3, terminate(9_000)), ["terminate SIGTERM"]);
}

#[test]
fn after_the_signal_it_is_too_late_to_take_it_back() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), stop(Some(1), Then::Stay)));
    // The conductor orders the signal before it hears of it.
    assert_eq!(desk.tell(1, Event::Asked(Some(1), Ask::Abort)), ["tell Abort"]);
    assert_eq!(desk.tell(2, terminate(998)), ["terminate SIGTERM"]);
    assert_eq!(desk.tell(3, Event::Asked(Some(1), Ask::Abort)), NOTHING);
    assert_eq!(desk.tell(4, Event::ConductorLost), NOTHING);
    assert_eq!(desk.tell(1_000, Event::Timer), ["send SIGKILL None"]);
    assert_eq!(desk.tell(1_001, killed()), ["save", "report forced Killed", "leave"]);
}

// === a stop whose conductor is lost ===

#[test]
fn before_the_signal_another_one_gets_what_is_left_of_the_budget() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), stop(None, Then::Start)));
    desk.tell(50, Event::Asked(Some(2), stop(Some(4), Then::Stay)));
    assert_eq!(
        desk.tell(100, Event::ConductorLost),
        [
            "conduct 10 s after 100 ms, main Some(42)",
            "tell Stop { budget: Some(After(3.95s)), then: Stay, again: false }"
        ]
    );
    desk.tell(200, Event::ConductorLost);
    // That was the third: the monitor does it, by the shorter of the two budgets.
    assert_eq!(desk.tell(300, Event::ConductorLost), ["terminate SIGTERM"]);
    assert_eq!(desk.deadline(), Some(4_050));
    assert_eq!(desk.tell(400, exited(0)), ["save", "report graceful Exited", "leave"]);
}

#[test]
fn after_the_signal_the_monitor_ends_it_and_says_so() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), stop(Some(2), Then::Stay)));
    desk.tell(1, terminate(1_999));
    assert_eq!(desk.tell(100, Event::ConductorLost), NOTHING, "it has its signal");
    assert_eq!(desk.deadline(), Some(2_000));
    assert_eq!(desk.tell(2_000, Event::Timer), ["send SIGKILL None"]);
    desk.supervisor.handle(at(2_010), killed());
    let actions: Vec<Action> = core::iter::from_fn(|| desk.supervisor.next_action()).collect();
    let [Action::Save, Action::Report(report), Action::Leave] = &actions[..] else { panic!("{actions:?}") };
    let report: Report = serde_json::from_str(report.get()).unwrap();
    assert_eq!((report.verdict, &report.reason), (Verdict::Forced, &Reason::Killed));
    assert_eq!(report.took, Duration::from_millis(2_010));
    assert_eq!(report.requested_at, at(0).wall.to_millis());
    assert_eq!(report.findings[0].code, Code::ConductorLost);
    assert_eq!(
        report.findings[0].to_string(),
        "The conductor of this stop was lost; the monitor ended it with the signal alone."
    );
}

#[test]
fn a_restart_is_completed_wherever_the_conductor_is_lost() {
    // How far it had come: nothing after the signal, exited, start ordered, started.
    for progress in 0..4 {
        let mut desk = Desk::with(Restart::No);
        let mut all = desk.tell(0, Event::Asked(Some(1), stop(None, Then::Start)));
        let mut events = vec![
            terminate(10_000),
            exited(0),
            Event::Ordered(Order::Start),
            Event::Created(MAIN),
            Event::Started,
        ];
        let conducted = [1, 2, 3, 5][progress];
        let alone = events.split_off(conducted);
        let mut ms = 0;
        let mut tell = |event| {
            ms += 1;
            desk.tell(ms, event)
        };
        all.extend(events.into_iter().flat_map(&mut tell));
        all.extend(tell(Event::ConductorLost));
        // The dead order nothing.
        let alone = alone.into_iter().filter(|event| !matches!(event, Event::Ordered(_)));
        all.extend(alone.flat_map(&mut tell));
        let count = |what: &str| all.iter().filter(|word| *word == what).count();
        assert_eq!(count("terminate SIGTERM"), 1, "{progress}: {all:?}");
        assert_eq!(count("launch"), 1, "{progress}: {all:?}");
        assert_eq!(count("report graceful Exited"), 1, "{progress}: {all:?}");
        assert_eq!(count("answer 1 report"), 1, "{progress}: {all:?}");
    }
}

#[test]
fn only_who_asks_a_third_time_kills_also_without_a_conductor() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), stop(Some(-1), Then::Stay)));
    desk.tell(1, Event::Ordered(Order::Terminate { kill_after_ms: None }));
    desk.tell(2, Event::ConductorLost);
    assert_eq!(desk.deadline(), None, "it has all the time");
    for other in 2..6 {
        assert_eq!(desk.tell(3, Event::Asked(Some(other), stop(None, Then::Stay))), NOTHING);
    }
    // By a signal: for the first time, again, and a third time.
    assert_eq!(desk.tell(4, Event::Asked(None, stop(None, Then::Stay))), NOTHING);
    assert_eq!(desk.tell(5, Event::Asked(None, stop(None, Then::Stay))), NOTHING);
    assert_eq!(desk.tell(6, Event::Asked(None, stop(None, Then::Stay))), ["send SIGKILL None"]);
}

#[test]
fn a_conductor_that_hangs_is_dismissed() {
    let mut desk = Desk::with(Restart::No);
    desk.tell(0, Event::Asked(Some(1), stop(Some(2), Then::Stay)));
    assert_eq!(desk.deadline(), Some(7_000));
    let asks = desk.tell(7_000, Event::Timer);
    assert_eq!(asks, ["dismiss", "terminate SIGTERM", "send SIGKILL None"], "its time is long over");
    assert_eq!(desk.tell(7_001, reported()), NOTHING, "nobody listens to it any more");
    assert_eq!(desk.tell(7_002, Event::ConductorLost), NOTHING);
    assert_eq!(desk.tell(7_010, killed()), ["save", "report forced Killed", "leave"]);
}
