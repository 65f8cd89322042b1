//! A report as the lines that people read:
//!
//! ```text
//! web  deregistered 12 ms · traffic stopped 310 ms · drained 842 ms · SIGTERM → exit 0 96 ms
//!      graceful: stopped in 1.26 s of 10 s
//! ```

use gracefully_core::diagnosis::Code;
use gracefully_core::event::ExitStatus;
use gracefully_core::phase::{Outcome, Phase, Step};
use gracefully_core::policy::{Then, Timeout};
use gracefully_core::report::{Reason, Report, Verdict};
use gracefully_core::traffic::{Connections, Gate};

use super::time::{seconds, short};

/// The lines of a verdict; `name` as the user typed it.
pub(crate) fn verdict(name: &str, report: &Report) -> Vec<String> {
    let indent = " ".repeat(name.chars().count().min(10) + 2);
    let steps: Vec<_> = report.steps.iter().filter_map(|step| in_words(step, report)).collect();
    let mut lines = vec![format!("{name}  {}", steps.join(" · ")).trim_end().to_owned()];
    lines.push(format!("{indent}{}: {}", report.verdict, judgement(report)));
    lines.extend(report.connections.iter().flat_map(connections).map(|line| format!("{indent}{line}")));
    let told = report.findings.iter().filter(|finding| match finding.code {
        // Something was lost, or was not done as asked, however well the stop itself went.
        Code::Discovery | Code::Engine | Code::Storage | Code::Traffic => true,
        _ => report.verdict != Verdict::Graceful,
    });
    lines.extend(told.map(|finding| format!("{indent}{finding}")));
    lines
}

/// Why a stop failed, for the error at the end.
pub(crate) fn why_failed(report: &Report) -> String {
    match &report.reason {
        Reason::EngineLost(why) => why.clone(),
        reason if reason.is_not_ready() => "restarted, but not ready in time".into(),
        Reason::NotStarted(why) => format!("stopped, but not started again: {why}"),
        Reason::NotKillable => "still alive after SIGKILL".into(),
        Reason::Aborted => "aborted before the stop signal was sent; it goes on".into(),
        Reason::Crashed => format!("ended by itself: {}", exit(report)),
        Reason::Exited | Reason::Killed | Reason::Cut(_) => exit(report),
    }
}

fn judgement(report: &Report) -> String {
    let took = seconds(report.took);
    let done = match report.then {
        Then::Stay => "stopped",
        Then::Start => "restarted",
    };
    let of = match report.budget.value {
        Timeout::After(_) => format!(" of {}", report.budget.value),
        Timeout::Never => ", without a limit".into(),
    };
    match &report.reason {
        Reason::Exited => format!("{done} in {took}{of}"),
        Reason::Killed => format!("SIGKILL after {took}{of}"),
        Reason::Cut(1) => format!("1 connection cut, {done} in {took}{of}"),
        Reason::Cut(n) => format!("{n} connections cut, {done} in {took}{of}"),
        Reason::Aborted
        | Reason::Crashed
        | Reason::NotStarted(_)
        | Reason::EngineLost(_)
        | Reason::NotKillable => why_failed(report),
    }
}

/// What became of the connections, where there is something to say.
fn connections(connections: &Connections) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(Gate::Held { method, held: held @ 1.., longest, overflowed }) = connections.gate {
        parts.push(format!("{held} held for up to {} ({method})", seconds(longest)));
        if overflowed > 0 {
            parts.push(format!("{overflowed} let through, too many were waiting"));
        }
    }
    if connections.closed_idle > 0 {
        parts.push(format!("{} idle closed", connections.closed_idle));
    }
    if connections.raced > 0 {
        parts.push(format!("{} closed before the next request was read", connections.raced));
    }
    let mut lines = Vec::new();
    if !parts.is_empty() {
        lines.push(format!("connections: {}", parts.join(", ")));
    }
    lines.extend(
        connections
            .cut
            .iter()
            .take(CUT_SHOWN)
            .map(|cut| format!("cut: {} after {}: {}", cut.peer, seconds(cut.age), cut.why)),
    );
    if let more @ 1.. = connections.cut.len().saturating_sub(CUT_SHOWN) {
        lines.push(format!("cut: {more} more"));
    }
    lines
}

/// How many cut connections are named one by one; the report has them all.
const CUT_SHOWN: usize = 5;

/// One phase; nothing for those that did not run or had nothing to do.
fn in_words(step: &Step, report: &Report) -> Option<String> {
    let took = short(step.took);
    let signal = report.signal.value;
    let text = match (step.phase, &step.outcome) {
        (_, Outcome::Skipped(_)) => return None,
        (Phase::Deregister, Outcome::Done) => format!("deregistered {took}"),
        (Phase::Deregister, Outcome::Late) => format!("not deregistered within {took}"),
        (Phase::Settle, Outcome::Done) => format!("traffic stopped {took}"),
        (Phase::Settle, Outcome::Late) => format!("traffic still coming after {took}"),
        (Phase::Drain, Outcome::Done) => drained(report, &took)?,
        (Phase::Drain, Outcome::Late) => format!("not drained within {took}"),
        (Phase::Terminate, Outcome::Done | Outcome::Hurried) => format!("{signal} → {} {took}", exit(report)),
        (Phase::Terminate, Outcome::Late) => format!("{signal} → no exit {took}"),
        // Most programs leave nothing to flush.
        (Phase::Flush, Outcome::Done) if step.took.as_millis() == 0 => return None,
        (Phase::Flush, Outcome::Done) => format!("flushed {took}"),
        (Phase::Flush, Outcome::Late) => format!("not flushed within {took}"),
        (Phase::Terminate, Outcome::Unheard) => format!("{signal} → heard by nobody"),
        (Phase::Kill, Outcome::Done | Outcome::Hurried) => format!("SIGKILL → {} {took}", exit(report)),
        (Phase::Kill, Outcome::Late) => format!("SIGKILL → no exit {took}"),
        (phase, Outcome::Hurried | Outcome::Unheard) => format!("{phase} cut short {took}"),
        (phase, Outcome::Failed(why)) => format!("{phase} failed: {why}"),
    };
    Some(text)
}

/// Nothing, if there was nothing to drain.
fn drained(report: &Report, took: &str) -> Option<String> {
    match &report.connections {
        Some(connections) if connections.open == 0 && connections.drained == 0 => None,
        Some(connections) if connections.in_flight > 0 => {
            Some(format!("drained {}→0 {took}", connections.in_flight))
        }
        Some(_) | None => Some(format!("drained {took}")),
    }
}

fn exit(report: &Report) -> String {
    report.exit.unwrap_or(ExitStatus::Unknown).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gracefully_core::diagnosis::Finding;
    use gracefully_core::phase::Skip;
    use gracefully_core::policy::{Policy, Request, Settings};
    use gracefully_core::report::{Conclusion, Target};
    use gracefully_core::signal::Signal;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn step(phase: Phase, took: u64, outcome: Outcome) -> Step {
        Step { phase, began: ms(0), took: ms(took), outcome }
    }

    fn report(verdict: Verdict, reason: Reason, exit: Option<ExitStatus>, steps: Vec<Step>) -> Report {
        let target = Target { engine: "local".into(), id: "0".into(), name: "web".into() };
        let policy = Policy::resolve(&Request::default(), &Settings::default());
        let took = steps.iter().map(|step| step.took).sum();
        let conclusion = Conclusion { verdict, reason, exit, took, steps };
        Report::new(target, String::new(), &policy, conclusion, vec![])
    }

    #[test]
    fn a_plain_graceful_stop_has_two_lines() {
        let steps = vec![
            step(Phase::Drain, 0, Outcome::Skipped(Skip::NotPlanned)),
            step(Phase::Terminate, 96, Outcome::Done),
            step(Phase::Flush, 0, Outcome::Done),
            step(Phase::Kill, 0, Outcome::Skipped(Skip::AlreadyGone)),
        ];
        let report = report(Verdict::Graceful, Reason::Exited, Some(ExitStatus::Code(0)), steps);
        assert_eq!(
            verdict("web", &report),
            ["web  SIGTERM → exit 0 96 ms", "     graceful: stopped in 0.10 s of 10 s"]
        );
    }

    #[test]
    fn every_phase_is_named_in_its_order() {
        let steps = vec![
            step(Phase::Deregister, 12, Outcome::Done),
            step(Phase::Settle, 310, Outcome::Late),
            step(Phase::Drain, 842, Outcome::Hurried),
            step(Phase::Terminate, 96, Outcome::Done),
            step(Phase::Flush, 3, Outcome::Failed("disk full".into())),
        ];
        let report = report(Verdict::Forced, Reason::Cut(1), Some(ExitStatus::Code(3)), steps);
        assert_eq!(
            verdict("web", &report),
            [
                "web  deregistered 12 ms · traffic still coming after 310 ms · drain cut short 842 ms · \
                 SIGTERM → exit 3 96 ms · flush failed: disk full",
                "     forced: 1 connection cut, stopped in 1.26 s of 10 s"
            ]
        );
    }

    #[test]
    fn a_forced_stop_says_why_and_what_to_change() {
        let steps = vec![step(Phase::Terminate, 10_000, Outcome::Late), step(Phase::Kill, 5, Outcome::Done)];
        let exit = Some(ExitStatus::Signal(Signal::KILL));
        let mut report = report(Verdict::Forced, Reason::Killed, exit, steps);
        report.findings =
            vec![Finding::new(Code::ShellIsMain, "PID 1 is a shell.").hint("Use the exec form.")];
        assert_eq!(
            verdict("web", &report),
            [
                "web  SIGTERM → no exit 10.00 s · SIGKILL → ended by SIGKILL 5 ms",
                "     forced: SIGKILL after 10.01 s of 10 s",
                "     PID 1 is a shell. Use the exec form.",
            ]
        );
    }

    #[test]
    fn a_failed_stop_names_its_reason() {
        for (reason, expected) in [
            (Reason::NotKillable, "failed: still alive after SIGKILL"),
            (Reason::NotStarted("no".into()), "failed: stopped, but not started again: no"),
            (Reason::not_ready(), "failed: restarted, but not ready in time"),
            (Reason::EngineLost("gone".into()), "failed: gone"),
            (Reason::Aborted, "failed: aborted before the stop signal was sent; it goes on"),
            (Reason::Crashed, "failed: ended by itself: exit status unknown"),
        ] {
            let lines = verdict("web", &report(Verdict::Failed, reason, None, vec![]));
            assert_eq!(lines, ["web".to_owned(), format!("     {expected}")]);
        }
    }

    #[test]
    fn a_long_name_does_not_push_the_verdict_off_the_screen() {
        let report = report(Verdict::Graceful, Reason::Exited, None, vec![]);
        assert!(verdict(&"f".repeat(64), &report)[1].starts_with("            graceful"));
    }
}
