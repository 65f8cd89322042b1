//! Real programs for the tests.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::string::String;
use std::time::{Duration, Instant};
use std::vec::Vec;

use gracefully_core::diagnosis::State;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;

use crate::process::{Stat, stat};
use crate::procfs::{ProcessDir, SMALL};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child that is killed and reaped at the end of the test. What it reads never comes; what it prints is ours.
pub(crate) struct Program {
    child: Child,
    _stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Returns when the program has been executed.
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        Self::spawn(Command::new(program).args(args))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start the program");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let stdin = child.stdin.take().expect("its input");
        let program = Self { child, _stdin: stdin, stdout };
        // spawn() returns in the middle of execve(2), before the command line is in place.
        let executed =
            |stat: Stat| stat.state == State::Zombie || command_line(program.pid()) != Some(Vec::new());
        eventually("it is executed", || stat(program.pid()).is_some_and(executed));
        program
    }

    /// A shell script that prints a line as soon as it is where the test wants it.
    pub(crate) fn shell(script: &str) -> (Self, String) {
        let mut shell = Self::start("sh", &["-c", script]);
        let line = shell.line();
        (shell, line)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        String::from(line.trim_end())
    }

    /// Ends it and reaps it.
    pub(crate) fn end(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("reap");
    }

    /// Reaps it, once it has ended by itself.
    pub(crate) fn reap(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("reap")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command_line(pid: u32) -> Option<Vec<u8>> {
    ProcessDir::open(pid).ok()?.read("cmdline", SMALL).ok()
}

/// Looks again until `fact` holds; a test that waits in vain fails.
pub(crate) fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "never: {what}");
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
    }
}

/// Waits until a pidfd says that its process has ended.
pub(crate) fn ended(pidfd: impl AsFd) {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&limit)), Ok(1), "it has not ended");
}

/// Is the program installed? If not, says visibly that the test is skipped.
pub(crate) fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$1\" >/dev/null", "sh", program]).status();
    let found = found.expect("a shell").success();
    if !found {
        std::eprintln!("SKIPPED: {program} is not installed");
    }
    found
}
