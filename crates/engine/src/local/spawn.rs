//! Starting the monitor of a container.
//!
//! The monitor is this program, executed anew. It gets the container's lock as its standard input, so that the lock
//! passes from the client to the monitor without ever being free, and a pipe as its standard output, into which it
//! writes a line when the program runs and one when it has ended. Everything else it does by itself (`setsid`, closing
//! what it inherited).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use gracefully_core::exit::USAGE;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::BufReader;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::error::{Error, Result};

use super::home::{Home, Lock};
use super::launch::OURSELVES;
use super::protocol::{self, Launched};

/// A little longer than the monitor gives its launcher.
const PATIENCE: Duration = Duration::from_secs(35);

/// The pipe in which a monitor says how its container ended.
#[derive(Debug)]
pub(super) struct End(BufReader<pipe::Receiver>);

impl End {
    /// Waits for it. `None`: the monitor was killed.
    pub(super) async fn wait(mut self) -> Option<i64> {
        match protocol::read(&mut self.0).await? {
            Launched::Ended(code) => Some(code),
            Launched::Created(_) | Launched::Started | Launched::Failed { .. } => None,
        }
    }
}

/// Starts the container of `home` under a new monitor, which takes over the lock. Returns when the program is executed.
///
/// Fails with [`Error::Start`].
pub(super) async fn monitor(home: &Home, lock: Lock) -> Result<End> {
    let system = |source: io::Error| Error::System { what: "starting the monitor".to_owned(), source };
    let (said, says) =
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|errno| system(errno.into()))?;
    // Where a panic's message goes.
    let errors = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(home.path().join("monitor.err"))
        .map_err(system)?;
    let mut monitor = Command::new(OURSELVES);
    monitor
        .arg0("gracefully")
        .arg("monitor")
        .arg(home.path())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(lock.try_clone().map_err(system)?))
        .stdout(Stdio::from(says))
        .stderr(Stdio::from(errors));
    let mut child = monitor.spawn().map_err(system)?;
    // Our ends of both: the lock is the monitor's now, and the pipe ends when it does.
    drop((monitor, lock));

    let mut said = BufReader::with_capacity(512, pipe::Receiver::from_owned_fd(said).map_err(system)?);
    match timeout(PATIENCE, protocol::read(&mut said)).await {
        Ok(Some(Launched::Started)) => Ok(End(said)),
        Ok(Some(Launched::Failed { code, message })) => {
            // It has nothing left to do. Until it is gone the container is not free.
            let _ = child.wait();
            Err(Error::Start { code, message })
        }
        Ok(said) => {
            let how = child.wait().map(|status| status.to_string()).unwrap_or_default();
            let what = said.map_or_else(|| "without a word".to_owned(), |said| format!("saying {said:?}"));
            Err(Error::Start { code: USAGE, message: format!("the monitor ended {what} ({how})") })
        }
        Err(_) => Err(Error::Timeout { who: "the monitor".to_owned(), after: PATIENCE }),
    }
}
