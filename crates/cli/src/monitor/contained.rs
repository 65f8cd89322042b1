//! The container as the executor of stops sees it.

use std::sync::Arc;

use async_trait::async_trait;
use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;
use gracefully_engine::{Error, Instance, Result, Terminate, local};
use gracefully_linux::PidFd;
use tokio::sync::{mpsc, oneshot, watch};

/// Is the program running?
#[derive(Clone, Debug)]
pub(super) enum Life {
    Up(Arc<PidFd>),
    Down(ExitStatus),
}

/// The supervisor is to start the program, and to say how that went.
pub(super) type StartOrder = oneshot::Sender<Result<()>>;

/// Signals go to PID 1 directly. The supervisor, which reaps it, tells when it has ended, and starts it again.
#[derive(Debug)]
pub(super) struct Contained {
    pub(super) id: String,
    pub(super) life: watch::Receiver<Life>,
    pub(super) starts: mpsc::UnboundedSender<StartOrder>,
}

impl Contained {
    fn main(&self) -> Option<Arc<PidFd>> {
        match &*self.life.borrow() {
            Life::Up(main) => Some(Arc::clone(main)),
            Life::Down(_) => None,
        }
    }

    fn send(&self, signal: Signal) -> Result<Arc<PidFd>> {
        let main = self.main().ok_or_else(|| Error::NotRunning { id: self.id.clone() })?;
        local::send(&main, &self.id, signal)?;
        Ok(main)
    }
}

#[async_trait]
impl Instance for Contained {
    fn main_pid(&self) -> Option<u32> {
        self.main().map(|main| main.pid())
    }

    fn kills_by_itself(&self) -> bool {
        false
    }

    async fn terminate(&self, order: &Terminate) -> Result<()> {
        local::wake(&*self.send(order.policy.signal.value)?);
        Ok(())
    }

    async fn exited(&self) -> Result<ExitStatus> {
        let mut life = self.life.clone();
        let ended = life.wait_for(|life| matches!(life, Life::Down(_))).await;
        match ended.as_deref() {
            Ok(Life::Down(status)) => Ok(*status),
            // The supervisor lives as long as its stops.
            Ok(Life::Up(_)) | Err(_) => Ok(ExitStatus::Unknown),
        }
    }

    /// The kernel ends the whole PID namespace with its PID 1 (`pid_namespaces(7)`).
    async fn kill(&self) -> Result<()> {
        self.send(Signal::KILL).map(drop)
    }

    async fn start(&self) -> Result<()> {
        let (order, done) = oneshot::channel();
        let _ = self.starts.send(order);
        done.await.unwrap_or_else(|_| Err(Error::NotRunning { id: self.id.clone() }))
    }
}
