use super::*;

use gracefully_core::diagnosis::{Code, Finding};
use gracefully_core::event::Event;
use gracefully_core::plan::{Reach, Work};
use gracefully_core::policy::{Policy, Request, Settings, Then};
use gracefully_core::sequence::Sequence;
use gracefully_core::signal::Signal;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn facts(asked: bool, told: usize, killed: &[String]) -> Facts<'_> {
    Facts { at: ms(0), asked, command: "app".into(), main: 7, told, killed }
}

fn plan() -> Plan {
    let policy = Policy::resolve(&Request::default(), &Settings::default());
    Plan::new(policy, Work { reach: Reach::Family, ..Work::default() })
}

/// How a stop ends in which these things happen.
fn ended(events: &[(u64, Event)]) -> Conclusion {
    let mut stop = Sequence::new(plan());
    for (at, event) in events {
        stop.handle(ms(*at), event.clone());
    }
    stop.conclusion().expect("it is done")
}

fn asked() -> Event {
    Event::StopRequested { budget: None, then: Then::Stay, again: false }
}

#[test]
fn a_graceful_stop_is_one_line() {
    let code = ExitStatus::Code(0);
    let end = ended(&[
        (0, asked()),
        (1_020, Event::MainExited(code)),
        (1_020, Event::AllExited),
        (1_020, Event::Flushed(Ok(()))),
    ]);
    assert_eq!(line(&plan(), &end, &facts(true, 0, &[])), "graceful: SIGTERM → exit 0 after 1.02 s of 10 s");
    assert!(line(&plan(), &end, &facts(true, 2, &[])).ends_with(", 2 other processes were told to end"));
}

#[test]
fn who_was_killed_is_named() {
    let end = ended(&[
        (0, asked()),
        (9_500, Event::Timer),
        (9_500, Event::Flushed(Err("no space left on device".into()))),
        (9_501, Event::MainExited(ExitStatus::Signal(Signal::KILL))),
        (9_501, Event::AllExited),
    ]);
    let killed = [String::from("python3 (pid 7)")];
    assert_eq!(
        line(&plan(), &end, &facts(true, 0, &killed)),
        "forced: SIGTERM → ended by SIGKILL after 9.50 s of 10 s; killed: python3 (pid 7); flush: no space left on device"
    );
}

#[test]
fn an_end_that_concerned_nobody_is_no_news() {
    let end = |code| {
        ended(&[
            (0, Event::MainExited(ExitStatus::Code(code))),
            (0, Event::AllExited),
            (0, Event::Flushed(Ok(()))),
        ])
    };
    assert!(!is_news(&end(0), &facts(false, 0, &[])));
    assert!(!is_news(&end(7), &facts(false, 0, &[])), "the exit code says it");
    assert!(is_news(&end(7), &facts(false, 1, &[])));
    assert!(is_news(&end(0), &facts(true, 0, &[])));
    assert_eq!(
        line(&plan(), &end(7), &facts(false, 1, &[])),
        "main ended by itself (exit 7); everybody had ended after 0.00 s, 1 other process was told to end"
    );
}

#[test]
fn a_report_fits_where_kubernetes_reads_it() {
    let end = ended(&[
        (0, asked()),
        (5, Event::MainExited(ExitStatus::Code(0))),
        (5, Event::AllExited),
        (5, Event::Flushed(Err("x".repeat(5_000)))),
    ]);
    let mut long = report(&plan(), end, &facts(true, 0, &[]));
    long.findings.push(Finding::new(Code::StillAlive, "y".repeat(5_000)));
    let json = short(long);
    assert!(json.len() <= LIMIT, "{}", json.len());
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!((read.verdict, read.target.id.as_str(), read.steps.len()), (Verdict::Graceful, "7", 0));
}
