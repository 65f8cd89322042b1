//! What is said over sockets and pipes: one JSON value a line.
//!
//! ```text
//! client ──Ask──► monitor ──Job, News──► conductor
//!        ◄Answer─         ◄────Order────
//!                monitor ◄──Launched── launcher
//! starter ◄──Launched── monitor
//! ```
//!
//! A client asks one thing and reads until the answer; a stop is told in [`Answer::Progress`] first, and whoever has asked
//! for it may take that back. Only the owner
//! and root can reach the socket (mode 0700 above it), and the monitor checks that again (`SO_PEERCRED`, unix(7)).
//!
//! Progress and report are the conductor's words for the client. The monitor hands them on as they are.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::diagnosis::Finding;
use gracefully_core::event::ExitStatus;
use gracefully_core::phase::millis;
use gracefully_core::policy::{Care, Policy, Request, Then, Timeout};
use gracefully_core::report::Target;
use gracefully_core::signal::Signal;
use gracefully_core::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Nothing real is longer: a report with some findings has a few kilobytes.
pub const LIMIT: usize = 1024 * 1024;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", content = "value", rename_all = "snake_case")]
pub enum Ask {
    /// Stop, or restart, the program. During a stop: a further request, which may only shorten it, by its own budget; if
    /// the same client has asked already, it hurries the stop (see [`StopRequested`](gracefully_core::event::Event)).
    Stop(Request),
    /// Send one signal; after SIGKILL the answer comes when the container has stopped.
    Signal(Signal),
    /// Answer when the container is not running any more.
    Wait,
    /// After [`Stop`](Self::Stop), by the same client: leave the program alone, if nobody else has asked for the stop and
    /// the signal has not been sent. Otherwise nothing changes. The answer is the report in any case.
    Abort,
}

/// What the monitor answers. All but [`Progress`](Self::Progress) end the conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "snake_case")]
pub enum Answer {
    /// How the stop goes on: a [`Progress`](gracefully_core::event::Progress).
    Progress(Box<RawValue>),
    /// How the stop ended: a [`Report`](gracefully_core::report::Report).
    Report(Box<RawValue>),
    /// The container has stopped, with this exit code.
    Exited(i64),
    /// The signal was sent.
    Done,
    /// There is nobody to send it to.
    NotRunning,
    /// It could not be done.
    Failed(String),
}

/// What a launcher tells its monitor, and a monitor whoever has started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "launch", content = "value", rename_all = "snake_case")]
pub enum Launched {
    /// PID 1 exists and waits for a line from the monitor. Only a launcher says this.
    Created(u32),
    /// The program has been executed.
    Started,
    /// The container has ended for good. Only a monitor says this.
    Ended {
        /// Its exit code.
        code: i64,
        /// What its log lacks.
        lost: Option<Finding>,
    },
    /// It was not.
    Failed {
        /// 125, 126 or 127.
        code: u8,
        /// What failed.
        message: String,
    },
}

/// The stop that a conductor is to walk: the first line that it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Whom to stop.
    pub target: Target,
    /// How.
    pub policy: Policy,
    /// What is done for its connections.
    pub care: Care,
    /// Who is told of it before anything else.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// A conductor before this one was lost: what it has told them holds.
    #[serde(default)]
    pub is_resumed: bool,
    /// When the client asked for it.
    pub requested_at: Timestamp,
    /// How long ago that was. The budget is counted from there.
    #[serde(rename = "elapsed_ms", with = "millis")]
    pub elapsed: Duration,
    /// The PID of the main process; `None`: it has ended, and [`News::Ended`] comes next.
    pub main: Option<u32>,
}

/// What a conductor is told while the stop is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "news", content = "value", rename_all = "snake_case")]
pub enum News {
    /// A further request.
    Stop {
        /// Its budget, counted from now.
        budget: Option<Timeout>,
        /// Whether it wants the program started again.
        then: Then,
        /// Does it come from somebody who has asked already?
        again: bool,
    },
    /// Leave the program alone, if the stop signal has not been ordered yet.
    Abort,
    /// The main process has ended, and everything in the container with it.
    Ended {
        /// How.
        exit: ExitStatus,
        /// What the report should say about the container.
        findings: Vec<Finding>,
    },
    /// The program was started again; the PID of its main process, `None` if it has ended again.
    Started(Option<u32>),
    /// It could not be started again.
    NotStarted(String),
    /// An order could not be carried out.
    Failed(String),
}

/// What a conductor asks of its monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", content = "value", rename_all = "snake_case")]
pub enum Order {
    /// Send the stop signal, once.
    Terminate {
        /// And SIGKILL this many milliseconds later, whatever has become of the conductor; `None`: never.
        kill_after_ms: Option<u64>,
    },
    /// Send SIGKILL now.
    Kill,
    /// Start the program again.
    Start,
    /// Tell everybody who listens.
    Progress(Box<RawValue>),
    /// The stop is over. Nothing comes after it.
    Report(Box<RawValue>),
}

/// A value as it is written.
#[expect(clippy::missing_panics_doc, reason = "nothing of ours has a map with keys that are not strings")]
pub fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("a value without maps");
    line.push(b'\n');
    line
}

/// The value of a line; `None` if it is not one of ours.
pub fn value<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

/// A part of a line that is handed on.
#[expect(clippy::missing_panics_doc, reason = "nothing of ours has a map with keys that are not strings")]
pub fn raw<T: Serialize>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("a value without maps")
}

/// Bytes that have been read, until they are lines.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    /// Where to read more into. Keeps some room, whatever is there.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.bytes.reserve(512);
        &mut self.bytes
    }

    /// The next whole line, without its line feed.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes.iter().position(|&b| b == b'\n')?;
        let rest = self.bytes.split_off(end + 1);
        let mut line = core::mem::replace(&mut self.bytes, rest);
        line.pop();
        Some(line)
    }

    /// Longer than any line that somebody of ours would write.
    pub fn overflow(&self) -> bool {
        self.bytes.len() > LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_as_documented() {
        let ask = Ask::Signal(Signal::HUP);
        assert_eq!(line(&ask), b"{\"ask\":\"signal\",\"value\":\"SIGHUP\"}\n");
        assert_eq!(value::<Ask>(&line(&ask)), Some(ask));
        let failed = Launched::Failed { code: 127, message: "no \"x\"\n".into() };
        assert_eq!(line(&failed).split(|&b| b == b'\n').count(), 2);
        assert_eq!(value::<Launched>(&line(&failed)), Some(failed));
        let terminate = line(&Order::Terminate { kill_after_ms: Some(9_500) });
        assert_eq!(terminate, b"{\"order\":\"terminate\",\"value\":{\"kill_after_ms\":9500}}\n");
    }

    #[test]
    fn what_is_handed_on_stays_as_it_was() {
        let said = br#"{"order":"progress","value":{"is":"began","value":"drain","later":[1.50,"x"]}}"#;
        let Some(Order::Progress(progress)) = value(said) else { panic!("progress") };
        assert_eq!(progress.get(), r#"{"is":"began","value":"drain","later":[1.50,"x"]}"#);
        let handed_on = line(&Answer::Progress(progress));
        assert_eq!(
            String::from_utf8(handed_on).unwrap(),
            "{\"answer\":\"progress\",\"value\":{\"is\":\"began\",\"value\":\"drain\",\"later\":[1.50,\"x\"]}}\n"
        );
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        for text in [&b""[..], b"{}", b"\xff\xff", b"{\"ask\":\"wait\"", b"[1,2", b"{\"ask\":\"wait\"}x"] {
            assert_eq!(value::<Ask>(text), None, "{text:?}");
        }
    }

    #[test]
    fn lines_come_in_pieces() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for piece in ["", "a", "b\n\nc", "d", "\n", "e"] {
            lines.room().extend_from_slice(piece.as_bytes());
            while let Some(line) = lines.pop() {
                got.push(String::from_utf8(line).unwrap());
            }
        }
        assert_eq!(got, ["ab", "", "cd"]);
        assert!(!lines.overflow());
        lines.room().resize(LIMIT + 1, b'x');
        assert!(lines.overflow());
    }
}
