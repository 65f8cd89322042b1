//! The record of one stop. Every stop leaves one; it is JSON with a version and a checked-in schema
//! (`docs/report.schema.json`).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnosis::Finding;
use crate::event::ExitStatus;
use crate::phase::{Step, millis};
use crate::policy::{Policy, Sourced, Then, Timeout};
use crate::signal::Signal;

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
            findings,
        }
    }
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
