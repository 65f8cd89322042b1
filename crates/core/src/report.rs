//! The record of one stop. Every stop leaves one; it is JSON with a version and a checked-in schema
//! (`docs/report.schema.json`).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnosis::Finding;
use crate::event::ExitStatus;
use crate::phase::{Outcome, Phase, Step, millis};
use crate::policy::{Policy, Sourced, Then, Timeout};
use crate::signal::Signal;
use crate::traffic::Connections;

/// The version of [`Report`]'s JSON. It grows when a field changes its meaning or goes away; a new field does
/// not change it.
pub const VERSION: u32 = 1;

/// What happened in one stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Report {
    /// [`VERSION`]
    pub version: u32,
    /// Who was stopped.
    pub target: Target,
    /// When the stop was requested: UTC, RFC 3339.
    pub requested_at: String,
    /// The stop signal, and where the choice came from.
    pub signal: Sourced<Signal>,
    /// The budget of the whole stop, and where it came from.
    pub budget: Sourced<Timeout>,
    /// Whether the program was to be started again.
    pub then: Then,
    /// The judgement in one word.
    pub verdict: Verdict,
    /// What the judgement rests on.
    pub reason: Reason,
    /// How the main process ended, if it did.
    pub exit: Option<ExitStatus>,
    /// From the request to the end, in milliseconds.
    #[serde(rename = "took_ms", with = "millis")]
    #[cfg_attr(any(feature = "schema", test), schemars(with = "f64"))]
    pub took: Duration,
    /// The phases, in the order in which they ended.
    pub steps: Vec<Step>,
    /// What became of the connections, if they were looked at.
    #[serde(default)]
    pub connections: Option<Connections>,
    /// What was done in the phases by name, where that is known: the hooks and tasks of a service.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// What was noticed, with what to do about it.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report of a stop that ended like `conclusion`.
    pub fn new(
        target: Target,
        requested_at: String,
        policy: &Policy,
        conclusion: Conclusion,
        findings: Vec<Finding>,
    ) -> Self {
        Self {
            version: VERSION,
            target,
            requested_at,
            signal: policy.signal,
            budget: policy.timeout,
            then: policy.then,
            verdict: conclusion.verdict,
            reason: conclusion.reason,
            exit: conclusion.exit,
            took: conclusion.took,
            steps: conclusion.steps,
            connections: None,
            parts: Vec::new(),
            findings,
        }
    }

    /// The same with what became of the connections.
    #[must_use]
    pub fn with_connections(self, connections: Option<Connections>) -> Self {
        Self { connections, ..self }
    }
}

/// One thing that was done, or waited for, in a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Part {
    /// In which phase.
    pub phase: Phase,
    /// Its name.
    pub name: String,
    /// How long it took, or how long it had been going on, in milliseconds.
    #[serde(rename = "took_ms", with = "millis")]
    #[cfg_attr(any(feature = "schema", test), schemars(with = "f64"))]
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// Who was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Target {
    /// `docker`, `podman`, `local` or `process`.
    pub engine: String,
    /// The engine's identifier: 64 hexadecimal digits, or a PID.
    pub id: String,
    /// The name as its owner knows it.
    pub name: String,
}

/// The judgement of a stop in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It exited by itself and nothing was cut.
    Graceful,
    /// It was killed, or a connection was cut.
    Forced,
    /// It was not stopped, or not started again.
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Graceful => "graceful",
            Self::Forced => "forced",
            Self::Failed => "failed",
        })
    }
}

/// What a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(tag = "is", content = "detail", rename_all = "snake_case")]
pub enum Reason {
    /// All processes exited after the stop signal.
    Exited,
    /// SIGKILL ended it: ours, the engine's at its deadline, or somebody else's.
    Killed,
    /// This many connections were in flight when the program ended.
    Cut(u32),
    /// The caller aborted before the stop signal was sent; the program goes on.
    Aborted,
    /// It ended unasked, and not with exit code 0.
    Crashed,
    /// It was stopped, but did not come up again.
    NotStarted(String),
    /// The engine stopped answering; what became of the program is unknown.
    EngineLost(String),
    /// It survived SIGKILL, as a process in uninterruptible sleep does.
    NotKillable,
}

impl Reason {
    /// It runs again, but was not ready within the time that it had for that.
    pub fn not_ready() -> Self {
        Self::NotStarted(String::from(NOT_READY))
    }

    /// Is it this reason?
    pub fn is_not_ready(&self) -> bool {
        matches!(self, Self::NotStarted(why) if why == NOT_READY)
    }
}

/// In the report it is a way of not having come up.
const NOT_READY: &str = "not ready in time";

/// How a [`Sequence`](crate::sequence::Sequence) ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// The judgement.
    pub verdict: Verdict,
    /// What it rests on.
    pub reason: Reason,
    /// How the main process ended, if it did.
    pub exit: Option<ExitStatus>,
    /// From the request to the end.
    pub took: Duration,
    /// The phases, in the order in which they ended.
    pub steps: Vec<Step>,
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::diagnosis::Code;
    use crate::event::{Event, Progress};
    use crate::plan::{Plan, Work};
    use crate::policy::{Request, Settings};
    use crate::sequence::Sequence;
    use alloc::string::ToString;
    use alloc::vec;
    use serde_json::Value;

    const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/report.schema.json");

    /// A report with something in every field.
    fn report() -> Report {
        let policy = Policy::resolve(&Request::default(), &Settings::default());
        let mut stop = Sequence::new(Plan::new(policy, Work::default()));
        let us = Duration::from_micros;
        stop.handle(us(0), Event::StopRequested { budget: None, then: Then::Stay, again: false });
        stop.handle(us(10_000_000), Event::Timer);
        stop.handle(us(10_000_000), Event::Flushed(Err("no space left on device".to_string())));
        stop.handle(us(10_000_123), Event::MainExited(ExitStatus::Signal(Signal::KILL)));
        stop.handle(us(10_000_456), Event::AllExited);
        let target = Target { engine: "docker".into(), id: "0f".repeat(32), name: "web".into() };
        let finding = Finding::new(Code::ShellIsMain, "PID 1 is a shell.").hint("Use the exec form.");
        let conclusion = stop.conclusion().expect("everything has exited");
        Report::new(target, "2026-11-23T22:13:00.000Z".into(), &policy, conclusion, vec![finding])
    }

    #[test]
    fn a_report_survives_json() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report());
    }

    #[test]
    fn progress_survives_json() {
        let report = report();
        let policy = Policy::resolve(&Request::default(), &Settings::default());
        let mut all = vec![Progress::Planned(policy), Progress::Noticed(report.findings[0].clone())];
        all.extend(report.steps.into_iter().map(Progress::Ended));
        for progress in all {
            let json = serde_json::to_string(&progress).unwrap();
            assert_eq!(serde_json::from_str::<Progress>(&json).unwrap(), progress);
        }
    }

    #[test]
    fn people_and_programs_find_what_they_look_for() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["verdict"], "forced");
        assert_eq!(json["reason"]["is"], "killed");
        assert_eq!(json["signal"]["value"], "SIGTERM");
        assert_eq!(json["budget"]["value"]["ms"], 10_000.0);
        assert_eq!(json["took_ms"], 10_000.456);
        assert_eq!(json["exit"]["value"], "SIGKILL");
        assert_eq!(json["steps"][4]["outcome"]["why"], "no space left on device");
        assert_eq!(json["findings"][0]["code"], "shell_is_main");
    }

    /// `UPDATE_SCHEMA=1 cargo test -p gracefully-core` writes the file after a deliberate change.
    #[test]
    fn the_checked_in_schema_is_the_one_of_the_code() {
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Report)).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(SCHEMA, &schema).unwrap();
        }
        let checked_in = std::fs::read_to_string(SCHEMA).unwrap_or_default();
        assert!(schema == checked_in, "docs/report.schema.json is stale: see the comment of this test");
    }

    #[test]
    fn the_schema_describes_every_field_and_requires_them() {
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(SCHEMA).unwrap()).unwrap();
        let json = serde_json::to_value(report()).unwrap();
        for field in json.as_object().unwrap().keys() {
            let property = &schema["properties"][field];
            assert!(property["description"].is_string(), "{field} is not described");
            let optional = ["exit", "connections", "parts"].contains(&field.as_str());
            let required = schema["required"].as_array().unwrap().iter().any(|name| name == field);
            assert!(required != optional, "{field}: required {required}");
        }
    }
}
