//! Starting the monitor of a container.
//!
//! The monitor is the program [`PROGRAM`] beside this one, if it is there and of the same build, else this program. It
//! gets the container's lock as its standard input, so that the lock passes from the client to the monitor without ever
//! being free; a pipe as its standard output, into which it writes a line when the program runs and one when it has
//! ended; and one more descriptor: this program, open, which it will execute to make the container and to have it
//! stopped, also if the file has been replaced or removed by then. Everything else it does by itself (`setsid`, closing
//! what it inherited).

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gracefully_core::exit::USAGE;
use gracefully_monitor::protocol::Launched;
use gracefully_monitor::{BUILD, OTHER_BUILD, PROGRAM};
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::BufReader;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::error::{Error, Result};

use super::home::{Home, Lock};
use super::lines;
use super::run::Ended;

/// This program, also if its file has been replaced or removed meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// A little longer than the monitor gives its launcher.
const PATIENCE: Duration = Duration::from_secs(35);

/// The pipe in which a monitor says how its container ended.
#[derive(Debug)]
pub(super) struct End(BufReader<pipe::Receiver>);

impl End {
    /// Waits for it. `None`: the monitor was killed.
    pub(super) async fn wait(mut self) -> Option<Ended> {
        match lines::read(&mut self.0).await? {
            Launched::Ended { code, lost } => Some(Ended { code, lost }),
            Launched::Created(_) | Launched::Started | Launched::Failed { .. } => None,
        }
    }
}

/// Starts the container of `home` under a new monitor, which takes over the lock. Returns when the program is executed.
///
/// Fails with [`Error::Start`].
pub(super) async fn monitor(home: &Home, lock: Lock) -> Result<End> {
    // Not close-on-exec: it is for the monitor. What else we may be starting at this moment can do nothing with it.
    let gracefully = open(OURSELVES, OFlags::PATH, Mode::empty()).map_err(|errno| system(errno.into()))?;
    let number = gracefully.as_raw_fd().to_string();
    let words = [BUILD.into(), home.path().as_os_str().to_owned(), number.into()];
    for command in programs(&words) {
        let Some((child, said)) = execute(command, home, &lock)? else { continue };
        if let Some(begun) = listen(child, said).await {
            return begun;
        }
    }
    Err(Error::Start { code: USAGE, message: "this program is not the one that was started".to_owned() })
}

/// What can be a monitor, the better first.
fn programs(words: &[OsString; 3]) -> impl Iterator<Item = Command> + use<> {
    let beside = std::env::current_exe().ok().and_then(|ours| Some(ours.parent()?.join(PROGRAM)));
    let small = beside.map(|program| {
        let mut small = Command::new(program);
        small.arg0(PROGRAM).args(words);
        small
    });
    let mut ourselves = Command::new(OURSELVES);
    ourselves.arg0("gracefully").arg("monitor").args(words);
    small.into_iter().chain([ourselves])
}

/// Starts a monitor and returns what it will say. `None`: there is no such program, or it cannot be executed.
///
/// The command is gone afterwards, and with it our end of the pipe, which ends when the monitor does.
fn execute(mut command: Command, home: &Home, lock: &Lock) -> Result<Option<(Child, OwnedFd)>> {
    let (said, says) =
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|errno| system(errno.into()))?;
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(lock.try_clone().map_err(system)?))
        .stdout(Stdio::from(says))
        .stderr(Stdio::from(errors(home).map_err(system)?));
    match command.spawn() {
        Ok(child) => Ok(Some((child, said))),
        Err(_) if command.get_program() != OURSELVES => Ok(None),
        Err(error) => Err(system(error)),
    }
}

/// Where a monitor says what went wrong.
fn errors(home: &Home) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(home.path().join("monitor.err"))
}

/// Waits for a monitor's first word. `None`: it is of another build.
async fn listen(mut child: Child, said: OwnedFd) -> Option<Result<End>> {
    let said = match pipe::Receiver::from_owned_fd(said) {
        Ok(said) => said,
        Err(error) => return Some(Err(system(error))),
    };
    let mut said = BufReader::with_capacity(512, said);
    Some(match timeout(PATIENCE, lines::read(&mut said)).await {
        Ok(Some(Launched::Started)) => Ok(End(said)),
        Ok(Some(Launched::Failed { code, message })) => {
            // It has nothing left to do. Until it is gone the container is not free.
            let _ = child.wait();
            Err(Error::Start { code, message })
        }
        Ok(said) => {
            let status = child.wait();
            if said.is_none() && status.as_ref().is_ok_and(|status| status.code() == Some(OTHER_BUILD.into()))
            {
                return None;
            }
            let how = status.map(|status| status.to_string()).unwrap_or_default();
            let what = said.map_or_else(|| "without a word".to_owned(), |said| format!("saying {said:?}"));
            Err(Error::Start { code: USAGE, message: format!("the monitor ended {what} ({how})") })
        }
        Err(_) => Err(Error::Timeout { who: "the monitor".to_owned(), after: PATIENCE }),
    })
}

fn system(source: io::Error) -> Error {
    Error::System { what: "starting the monitor".to_owned(), source }
}
