//! Commands under test: run to the end, or started, signalled and waited for.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::LONG;

/// How a command ended; printed whole when an assertion fails.
pub(crate) struct Outcome {
    command: String,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    /// As a shell would show it: 128 + N if signal N ended it.
    pub(crate) code: i32,
    pub(crate) took: Duration,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head: String = self.stdout().chars().take(4000).collect();
        let stderr: String = self.stderr.chars().take(4000).collect();
        writeln!(f, "{}\nexit code {} after {:?}", self.command, self.code, self.took)?;
        writeln!(f, "--- stdout\n{head}\n--- stderr\n{stderr}---")
    }
}

impl Outcome {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the exit code and standard output, byte for byte.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, stdout: &str) -> &Self {
        assert_eq!((self.code, &*self.stdout()), (code, stdout), "{self:#?}");
        self
    }

    /// Asserts that standard error contains this.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(self.stderr.contains(words), "nothing about {words:?}: {self:#?}");
        self
    }

    /// Asserts that it took less than the time at which something else would have ended it.
    #[track_caller]
    pub(crate) fn took_less_than(&self, limit: Duration) -> &Self {
        assert!(self.took < limit, "longer than {limit:?}: {self:#?}");
        self
    }

    /// The same, and at least this long.
    #[track_caller]
    pub(crate) fn took_between(&self, least: Duration, limit: Duration) -> &Self {
        assert!(self.took >= least, "shorter than {least:?}: {self:#?}");
        self.took_less_than(limit)
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Outcome {
    start(command).ended()
}

/// Starts a command with both outputs captured.
#[track_caller]
pub(crate) fn start(command: &mut Command) -> Running {
    use std::os::unix::process::ExitStatusExt;
    let words = format!("{command:?}");
    let began = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {words}: {error}"));
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd of our own child");
    let (sender, outcome) = channel();
    let command = words.clone();
    std::thread::spawn(move || {
        let output = child.wait_with_output().expect("wait for our own child");
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
        let _ = sender.send(Outcome {
            command,
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: code.expect("exited or killed"),
            took: began.elapsed(),
        });
    });
    Running { words, pidfd, outcome }
}

/// SIGKILL to a process that is not ours, as if it came from somebody else. That it has ended already is no error.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Any signal to such a process; says whether it was there.
pub(crate) fn signal(pid: u32, signal: Signal) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a PID")).expect("a PID");
    pidfd_open(pid, PidfdFlags::empty()).is_ok_and(|fd| pidfd_send_signal(fd, signal).is_ok())
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    words: String,
    pidfd: std::os::fd::OwnedFd,
    outcome: Receiver<Outcome>,
}

impl Running {
    /// Sends it a signal. That it has ended already is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its end; the test fails, and the command is killed, if that takes suspiciously long.
    #[track_caller]
    pub(crate) fn ended(self) -> Outcome {
        self.ended_within(LONG * 2)
    }

    /// The same with a limit of the caller's.
    #[track_caller]
    pub(crate) fn ended_within(self, limit: Duration) -> Outcome {
        self.outcome.recv_timeout(limit).unwrap_or_else(|_| {
            self.signal(Signal::KILL);
            panic!("{} still ran after {limit:?}", self.words)
        })
    }
}
