//! Programs that are run, under strace(1) for the most part.

#[path = "../../../../xtask/skip.rs"]
mod counted;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use tempfile::TempDir;

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says that the test of this thread cannot run here, and counts it.
pub(crate) fn skip(why: &str) {
    counted::skip(std::thread::current().name().unwrap_or_default(), why);
}

/// Whether strace is there and may trace; if not, says so and counts the test as skipped.
pub(crate) fn can_trace() -> bool {
    let why = match Command::new("strace").args(["-o", "/dev/null", "true"]).output() {
        Ok(output) if output.status.success() => return true,
        Ok(_) => "strace may not trace here",
        Err(_) => "strace is not installed",
    };
    skip(why);
    false
}

/// A directory by the name that the kernel has for it.
pub(crate) fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    (directory, path)
}

/// Runs a program under strace, which writes down the calls of this set.
///
/// `-xx` writes every string in hexadecimal digits, so that nothing in it looks like something else.
pub(crate) fn strace(into: &Path, calls: &str, options: &[&str], program: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-xx", "-s", "1000000", "-e", "signal=none", "-e"]);
    strace.arg(format!("trace={calls}")).args(options).arg("-o").arg(into);
    strace.arg("--").arg(program.get_program()).args(program.get_args());
    strace
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    said: Receiver<String>,
    complained: Receiver<String>,
}

/// What it has left.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What was not taken before.
    pub(crate) said: Vec<String>,
    pub(crate) complained: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("GRACEFULLY_GRACE")
            // cargo sets it, and everything is looked for in each of its directories.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = lines(child.stdout.take().unwrap());
        let complained = lines(child.stderr.take().unwrap());
        Self { child, said, complained }
    }

    /// The next line on standard output.
    pub(crate) fn line(&self) -> String {
        self.said.recv_timeout(PATIENCE).unwrap()
    }

    /// The next line on standard error.
    pub(crate) fn complaint(&self) -> String {
        self.complained.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn end(mut self) -> Ended {
        let all = |from: &Receiver<String>| {
            let mut all = Vec::new();
            while let Ok(line) = from.recv_timeout(PATIENCE) {
                all.push(line);
            }
            all
        };
        let (said, complained) = (all(&self.said), all(&self.complained));
        Ended { status: self.child.wait().unwrap(), said, complained }
    }
}

/// strace lets a program go on when it is ended itself, so that is ended first.
impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let strace = self.child.id();
        let traced = std::fs::read_to_string(format!("/proc/{strace}/task/{strace}/children"));
        for pid in traced.unwrap_or_default().split_whitespace() {
            if let Ok(program) = PidFd::open(pid.parse().unwrap()) {
                let _ = program.send(Signal::KILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every line as it comes.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    told
}

/// Sends a signal to the process that has written this line of a journal.
pub(crate) fn send_writer(record: &str, signal: Signal) {
    let pid = record.split(' ').next().unwrap().parse().unwrap();
    PidFd::open(pid).unwrap().send(signal).unwrap();
}

/// A shell with mounts of its own, which go away with it, however it ends.
pub(crate) struct Mounts {
    shell: Child,
    answers: Receiver<String>,
}

impl Mounts {
    /// With what these commands mount in a directory. If they cannot, says so and counts the test as skipped.
    pub(crate) fn of(directory: &Path, commands: &[&str]) -> Option<Self> {
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh"]).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let answers = lines(shell.stdout.take().unwrap());
        let mut mounts = Self { shell, answers };
        if mounts.run(commands) {
            return Some(mounts);
        }
        skip("nothing can be mounted here: it takes root, and a loop device for a disk");
        None
    }

    /// Runs commands among the mounts; did they succeed?
    pub(crate) fn run(&mut self, commands: &[&str]) -> bool {
        let stdin = self.shell.stdin.as_mut().unwrap();
        // A shell that has ended does not answer either.
        let _ =
            writeln!(stdin, "if {{ {}; }} >&2; then echo done; else echo failed; fi", commands.join(" && "));
        self.answers.recv_timeout(PATIENCE).is_ok_and(|answer| answer == "done")
    }

    /// Where a file of theirs is for those who do not have them.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.shell.id())).join(path.strip_prefix("/").unwrap())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
