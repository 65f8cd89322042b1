//! Stopping a container whose monitor is dead: the caller does it, on the pidfd of its PID 1.
//!
//! Nobody restarts it afterwards, and nobody wrote a log since the monitor died. What it was and how it ended is
//! written down by the next command that looks at it.

use async_trait::async_trait;
use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};
use crate::{Instance, Running, Terminate};

use super::Local;
use super::settle::settle;

/// A container without a monitor.
#[derive(Debug)]
pub(super) struct Orphan {
    engine: Local,
    id: String,
    main: PidFd,
}

impl Orphan {
    pub(super) fn new(engine: Local, id: String, main: PidFd) -> Self {
        Self { engine, id, main }
    }
}

#[async_trait]
impl Instance for Orphan {
    fn main_pid(&self) -> Option<u32> {
        Some(self.main.pid())
    }

    fn kills_by_itself(&self) -> bool {
        false
    }

    async fn terminate(&self, order: &Terminate) -> Result<()> {
        send(&self.main, &self.id, order.policy.signal.value)?;
        wake(&self.main);
        Ok(())
    }

    async fn exited(&self) -> Result<ExitStatus> {
        ended(&self.main).await?;
        Ok(self.main.exit_status().unwrap_or(ExitStatus::Unknown))
    }

    async fn kill(&self) -> Result<()> {
        send(&self.main, &self.id, Signal::KILL)
    }

    async fn start(&self) -> Result<()> {
        self.engine.start_id(&self.id).await
    }

    /// What was started has a monitor again, and another PID than the process that we hold.
    async fn running(&self) -> Result<Option<Running>> {
        let record = settle(&self.engine.root, &self.engine.root.home(&self.id))?.record;
        Ok(record.main().map(|main| Running { main: Some(main.pid), ..Running::default() }))
    }
}

/// Sends a signal to a PID 1.
///
/// Fails with [`Error::NotRunning`].
pub(super) fn send(main: &PidFd, id: &str, signal: Signal) -> Result<()> {
    main.send(signal).map_err(|errno| match errno {
        gracefully_linux::Errno::SRCH => Error::NotRunning { id: id.to_owned() },
        errno => Error::System { what: format!("sending {signal}"), source: errno.into() },
    })
}

/// A program that has stopped itself takes no signal but SIGKILL until it is continued.
fn wake(main: &PidFd) {
    use gracefully_core::diagnosis::State;
    let stopped =
        gracefully_linux::process::stat(main.pid()).is_some_and(|stat| stat.state == State::Stopped);
    if stopped {
        // If it is gone it needs no waking.
        let _ = main.send(Signal::CONT);
    }
}

/// Waits until the process has ended.
#[expect(
    deprecated,
    reason = "its successor is unsafe; a borrowed pidfd stays the same file, which is what it asks for"
)]
pub(super) async fn ended(main: &PidFd) -> Result<()> {
    let system = |source| Error::System { what: "waiting for the container".to_owned(), source };
    let fd = AsyncFd::with_interest(std::os::fd::AsFd::as_fd(main), Interest::READABLE).map_err(system)?;
    fd.readable().await.map(|mut ready| ready.retain_ready()).map_err(system)
}
