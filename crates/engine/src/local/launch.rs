//! Making a container: what the monitor asks of a launcher.
//!
//! libcontainer forks and clones, so it may only be called by a process without threads, and it leaves half a megabyte
//! of heap and some megabytes of touched code behind. Therefore the monitor never calls it. It executes this program
//! anew as a **launcher**, which makes the container and exits:
//!
//! ```text
//! monitor ──fork, exec──► launcher ──clone(CLONE_PARENT)──► intermediate ──clone(CLONE_PARENT)──► PID 1
//!    ▲                                                                                             │
//!    └────────────────────────── is the parent of all three, and reaps them ◄──────────────────────┘
//! ```
//!
//! The two speak over a socket that is the launcher's standard input: `Created(pid)`, then a line from the monitor when
//! the PID is written down, then `Started` once the program is executed, or `Failed` at any time. The launcher's
//! standard output and error are the pipes that will be the program's.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use gracefully_core::event::ExitStatus;
use gracefully_core::exit::USAGE;
use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_linux::family::family;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::error::{Error, Result};

use super::home::Home;
use super::orphan::ended;
use super::protocol::{self, Launched};

/// The program itself, also if its file has been replaced or removed meanwhile.
pub(super) const OURSELVES: &str = "/proc/self/exe";

/// How long making a container may take. It takes milliseconds; a root file system on a dead server may take for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the container of `home`. `created` is told its PID 1, before the program is executed.
///
/// The program is the caller's child. Fails with [`Error::Start`].
pub async fn launch(
    home: &Home,
    stdout: OwnedFd,
    stderr: OwnedFd,
    created: impl FnOnce(&PidFd) -> Result<()>,
) -> Result<PidFd> {
    let (ours, theirs) = StdStream::pair().map_err(|source| system("socketpair", source))?;
    ours.set_nonblocking(true).map_err(|source| system("socketpair", source))?;
    let stream = UnixStream::from_std(ours).map_err(|source| system("socketpair", source))?;
    let mut child = Command::new(OURSELVES)
        .arg("launch")
        .arg(home.path())
        .arg(std::process::id().to_string())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .spawn()
        .map_err(|source| system("starting the launcher", source))?;

    let held = PidFd::open(child.id());
    let launched = tokio::select! {
        // A launcher says its last word before it ends.
        biased;
        launched = converse(stream, created) => launched,
        () = died(held.as_ref().ok()) => Err(failed(None)),
        () = sleep(PATIENCE) => {
            Err(Error::Start { code: USAGE, message: format!("not started within {} s", PATIENCE.as_secs()) })
        }
    };
    if launched.is_err() {
        // It may have exited already.
        let _ = child.kill();
    }
    let _ = child.wait();
    if launched.is_err() {
        kill_children();
    }
    launched
}

async fn converse(stream: UnixStream, created: impl FnOnce(&PidFd) -> Result<()>) -> Result<PidFd> {
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::with_capacity(512, from);
    let process = match protocol::read(&mut from).await {
        Some(Launched::Created(pid)) => {
            PidFd::open(pid).map_err(|error| system("pidfd_open", io::Error::other(error)))?
        }
        other => return Err(failed(other)),
    };
    created(&process)?;
    to.write_all(b"\n").await.map_err(|source| system("telling the launcher", source))?;
    match protocol::read(&mut from).await {
        Some(Launched::Started) => Ok(process),
        other => Err(failed(other)),
    }
}

/// A launcher that was killed. Its socket does not end with it: what it has forked holds it too.
async fn died(launcher: Option<&PidFd>) {
    match launcher {
        Some(launcher) if ended(launcher).await.is_ok() => {}
        Some(_) | None => pending().await,
    }
}

/// What a failed launcher has left may wait for an order to start that does not come any more. The children of a monitor
/// are nothing else, and none of their PIDs can be given to another process before we reap it.
fn kill_children() {
    let us = std::process::id();
    for process in family(us).into_iter().flat_map(|family| family.descendants) {
        let is_child = gracefully_linux::process::stat(process.pid).is_some_and(|stat| stat.parent == us);
        if is_child && let Ok(child) = PidFd::open(process.pid) {
            // It may have ended by itself.
            let _ = child.send(Signal::KILL);
        }
    }
}

fn failed(said: Option<Launched>) -> Error {
    match said {
        Some(Launched::Failed { code, message }) => Error::Start { code, message },
        Some(said) => Error::Start { code: USAGE, message: format!("the launcher said {said:?}") },
        None => Error::Start { code: USAGE, message: "the launcher ended without a word".to_owned() },
    }
}

/// Reaps every child that has ended, and says how the one with this PID did if it is among them.
pub fn reap(pid: Option<u32>) -> Option<ExitStatus> {
    let mut found = None;
    loop {
        let (child, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(child, code)) => (child, exited(code)),
            Ok(WaitStatus::Signaled(child, signal, _)) => (child, signaled(signal as i32)),
            Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) | Err(_) => return found,
        };
        if u32::try_from(child.as_raw()).ok() == pid {
            found = Some(status);
        }
    }
}

fn exited(code: i32) -> ExitStatus {
    u8::try_from(code).map_or(ExitStatus::Unknown, ExitStatus::Code)
}

fn signaled(number: i32) -> ExitStatus {
    Signal::from_number(i64::from(number)).map_or(ExitStatus::Unknown, ExitStatus::Signal)
}

fn system(what: &str, source: io::Error) -> Error {
    Error::System { what: what.to_owned(), source }
}
