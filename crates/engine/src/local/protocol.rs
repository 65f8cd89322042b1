//! What a client and a monitor say to each other over `control.sock`: one JSON value a line.
//!
//! A client asks one thing and reads until the answer; a stop is told in [`Answer::Progress`] first. Only the owner
//! and root can reach the socket (mode 0700 above it), and the monitor checks that again (`SO_PEERCRED`, unix(7)).

use gracefully_core::event::Progress;
use gracefully_core::policy::Request;
use gracefully_core::report::Report;
use gracefully_core::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Nothing real is longer: a report with some findings has a few kilobytes.
const LIMIT: u64 = 1024 * 1024;

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", content = "value", rename_all = "snake_case")]
pub enum Ask {
    /// Stop, or restart, the program. During a stop: a further request, which may only shorten it.
    Stop(Request),
    /// Send one signal; after SIGKILL the answer comes when the container has stopped.
    Signal(Signal),
    /// Answer when the container is not running any more.
    Wait,
}

/// What the monitor answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "snake_case")]
pub enum Answer {
    /// How the stop goes on.
    Progress(Progress),
    /// How the stop ended.
    Report(Box<Report>),
    /// The container has stopped, with this exit code.
    Exited(i64),
    /// The signal was sent.
    Done,
    /// There is nobody to send it to.
    NotRunning,
    /// It could not be done.
    Failed(String),
}

/// What a launcher tells its monitor, and a monitor the client that has started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "launch", content = "value", rename_all = "snake_case")]
pub enum Launched {
    /// PID 1 exists and waits for a line from the monitor. Only a launcher says this.
    Created(u32),
    /// The program has been executed.
    Started,
    /// The container has ended for good, with this exit code. Only a monitor says this.
    Ended(i64),
    /// It was not.
    Failed {
        /// 125, 126 or 127.
        code: u8,
        /// What failed.
        message: String,
    },
}

/// Reads one line; `None` at the end, or if it is not one of ours.
pub async fn read<T: for<'de> Deserialize<'de>>(from: &mut (impl AsyncBufRead + Unpin)) -> Option<T> {
    let mut line = Vec::new();
    from.take(LIMIT).read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

/// Writes one line.
pub async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), value: &T) -> std::io::Result<()> {
    to.write_all(&line(value)).await
}

/// A value as it is written.
pub(super) fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("a value without maps");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_as_documented() {
        let ask = Ask::Signal(Signal::HUP);
        assert_eq!(line(&ask), b"{\"ask\":\"signal\",\"value\":\"SIGHUP\"}\n");
        assert_eq!(serde_json::from_slice::<Ask>(&line(&ask)).unwrap(), ask);
        let failed = Launched::Failed { code: 127, message: "no \"x\"\n".into() };
        assert_eq!(line(&failed).split(|&b| b == b'\n').count(), 2);
        assert_eq!(serde_json::from_slice::<Launched>(&line(&failed)).unwrap(), failed);
    }

    #[tokio::test]
    async fn what_is_not_ours_ends_the_conversation() {
        for text in [&b""[..], b"\n", b"{}\n", b"\xff\xff\n", b"{\"ask\":\"wait\"", b"[1,2"] {
            let got: Option<Ask> = read(&mut &text[..]).await;
            assert_eq!(got, None, "{text:?}");
        }
        let got: Option<Ask> = read(&mut &b"{\"ask\":\"wait\"}\nrest"[..]).await;
        assert_eq!(got, Some(Ask::Wait));
    }
}
