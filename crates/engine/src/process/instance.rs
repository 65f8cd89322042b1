//! A process during its stop.

use async_trait::async_trait;
use gracefully_core::diagnosis::State;
use gracefully_core::event::ExitStatus;
use gracefully_core::policy::{Policy, Then};
use gracefully_core::signal::Signal;
use gracefully_linux::{PidFd, process};

use crate::{Error, Instance, Result, Terminate};

/// One process, held from before the first signal until after the last.
#[derive(Debug)]
pub(super) struct Held(PidFd);

impl Held {
    pub(super) fn new(pidfd: PidFd) -> Self {
        Self(pidfd)
    }

    fn cannot_start(&self) -> Error {
        super::cannot_start(&self.0.pid().to_string())
    }

    /// A stopped process keeps its signals until it is continued (signal(7)). It would sit out the whole budget and
    /// then be killed, although it handles the signal.
    fn is_stopped(&self) -> bool {
        process::stat(self.0.pid())
            .is_some_and(|stat| stat.start_time == self.0.start_time() && stat.state == State::Stopped)
    }
}

#[async_trait]
impl Instance for Held {
    fn main_pid(&self) -> Option<u32> {
        Some(self.0.pid())
    }

    fn kills_by_itself(&self) -> bool {
        false
    }

    /// Refused before the drain, not after the program is gone.
    fn check(&self, policy: &Policy) -> Result<()> {
        match policy.then {
            Then::Start => Err(self.cannot_start()),
            Then::Stay => super::may_send(&self.0, policy.signal.value),
        }
    }

    async fn terminate(&self, order: &Terminate) -> Result<()> {
        self.check(&order.policy)?;
        let signal = order.policy.signal.value;
        super::send(&self.0, signal)?;
        if signal != Signal::STOP && self.is_stopped() {
            super::send(&self.0, Signal::CONT)?;
        }
        Ok(())
    }

    async fn exited(&self) -> Result<ExitStatus> {
        super::exited(&self.0).await
    }

    async fn kill(&self) -> Result<()> {
        super::send(&self.0, Signal::KILL)
    }

    async fn start(&self) -> Result<()> {
        Err(self.cannot_start())
    }
}
