//! What is told of a stop: one line, and a report.
//!
//! The line is for whoever reads the container's log, the report for programs: the JSON of every other stop (`core::report`),
//! in a file that the user has named. Kubernetes shows such a file, `/dev/termination-log`, as the reason for the end of a
//! container, and reads 4096 bytes of it; so a report that is longer loses its findings, and then its steps.

use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;

use gracefully_core::event::ExitStatus;
use gracefully_core::phase::{Outcome, Phase};
use gracefully_core::plan::Plan;
use gracefully_core::report::{Conclusion, Reason, Report, Target, Verdict};
use gracefully_core::time::Timestamp;
use gracefully_linux::Errno;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ftruncate, open};
use rustix::io::{pwrite, retry_on_intr};

/// As much as Kubernetes reads (`MaxContainerTerminationMessageLength`).
const LIMIT: usize = 4096;

/// The file for the report, which was opened at the start: a path that does not work is found out then, and a program that
/// changes the root or fills the disk changes nothing.
#[derive(Debug)]
pub struct ReportFile(OwnedFd);

impl ReportFile {
    /// Opens or makes it.
    pub fn open(path: &CString) -> Result<Self, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
        open(path, flags, Mode::from_raw_mode(0o644)).map(Self)
    }

    /// Writes the report over what was there.
    pub fn write(&self, report: Report) -> Result<(), Errno> {
        let json = short(report);
        // A pipe or a terminal cannot be cut.
        let _ = ftruncate(&self.0, 0);
        let mut rest = json.as_bytes();
        let mut at = 0;
        while !rest.is_empty() {
            let n = retry_on_intr(|| pwrite(&self.0, rest, at)).or_else(|errno| match errno {
                Errno::SPIPE => retry_on_intr(|| rustix::io::write(&self.0, rest)),
                errno => Err(errno),
            })?;
            rest = &rest[n..];
            at += n as u64;
        }
        Ok(())
    }
}

impl AsFd for ReportFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The report as JSON of at most [`LIMIT`] bytes.
fn short(mut report: Report) -> String {
    loop {
        let json = serde_json::to_string(&report).unwrap_or_default() + "\n";
        if json.len() <= LIMIT || (report.findings.is_empty() && report.steps.is_empty()) {
            return json;
        }
        // The last finding is the least, and the steps are for who wants to know precisely.
        if report.findings.pop().is_none() {
            report.steps.clear();
        }
    }
}

/// What the stop was about.
#[derive(Debug)]
pub struct Facts<'a> {
    /// When somebody asked for it, or main ended; since 1970.
    pub at: Duration,
    /// Did somebody ask for it?
    pub asked: bool,
    /// The program, for people.
    pub command: String,
    /// Its PID.
    pub main: u32,
    /// How many others were told to end.
    pub told: usize,
    /// Who was still there when the rest was killed.
    pub killed: &'a [String],
}

/// The report of a stop.
pub fn report(plan: &Plan, conclusion: Conclusion, facts: &Facts<'_>) -> Report {
    let target = Target { engine: "init".into(), id: facts.main.to_string(), name: facts.command.clone() };
    let at = Timestamp::since_1970(facts.at).to_millis();
    Report::new(target, at, &plan.policy, conclusion, Vec::new())
}

/// The line: how it ended, after how long, and what was not as it should be.
pub fn line(plan: &Plan, conclusion: &Conclusion, facts: &Facts<'_>) -> String {
    let exit = conclusion.exit.map_or_else(|| String::from("main did not end"), |exit| exit.to_string());
    let took = seconds(conclusion.took);
    let mut line = if facts.asked {
        let signal = plan.policy.signal.value;
        format!("{}: {signal} → {exit} after {took} s of {}", conclusion.verdict, plan.policy.timeout.value)
    } else {
        format!("main ended by itself ({exit}); everybody had ended after {took} s")
    };
    // Writing to a string cannot fail.
    let _ = match facts.told {
        0 => Ok(()),
        1 => write!(line, ", 1 other process was told to end"),
        n => write!(line, ", {n} other processes were told to end"),
    };
    if !facts.killed.is_empty() {
        let _ = write!(line, "; killed: {}", facts.killed.join(", "));
    }
    for step in &conclusion.steps {
        let _ = match (&step.outcome, step.phase) {
            (Outcome::Failed(why), phase) => write!(line, "; {phase}: {why}"),
            (Outcome::Late, Phase::Deregister | Phase::Settle | Phase::Drain | Phase::Flush) => {
                write!(line, "; {}: not done in time", step.phase)
            }
            _ => Ok(()),
        };
    }
    match &conclusion.reason {
        Reason::Cut(1) => line.push_str("; 1 request was under way when main ended"),
        Reason::Cut(n) => {
            let _ = write!(line, "; {n} requests were under way when main ended");
        }
        Reason::NotKillable => line.push_str("; somebody survived SIGKILL"),
        _ => {}
    }
    line
}

/// Whether there is anything to tell: main ended by itself, and nobody was left, is no news.
pub fn is_news(conclusion: &Conclusion, facts: &Facts<'_>) -> bool {
    let smooth = matches!(conclusion.exit, Some(ExitStatus::Code(_) | ExitStatus::Signal(_)))
        && facts.told == 0
        && facts.killed.is_empty()
        && !conclusion.steps.iter().any(|step| matches!(step.outcome, Outcome::Failed(_)))
        && conclusion.verdict != Verdict::Forced;
    facts.asked || !smooth
}

fn seconds(time: Duration) -> String {
    format!("{}.{:02}", time.as_secs(), time.subsec_millis() / 10)
}

#[cfg(test)]
mod tests;
