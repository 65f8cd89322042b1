//! The program that `register -- COMMAND` starts.

use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use async_trait::async_trait;
use gracefully_core::event::ExitStatus;
use gracefully_core::exit;
use gracefully_core::signal::Signal;
use gracefully_engine::{Error, Instance, Result, Terminate};
use gracefully_linux::PidFd;
use tokio::sync::watch;

use super::SPEC;
use super::agent::News;

/// A child of ours.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pidfd: Arc<PidFd>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

/// It was not started.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: u8,
    pub(super) why: String,
}

impl Program {
    /// Starts it, if there is one to start, and tells of its end.
    ///
    /// It has a process group of its own, so that Ctrl-C on a terminal reaches only us, and it hears of a stop when it is its turn. One that
    /// reads from the terminal is stopped by that (SIGTTIN, signal(7)); services do not.
    pub(super) fn start(words: &[String], tell: &Sender<News>) -> std::result::Result<Option<Self>, Refusal> {
        let Some((name, arguments)) = words.split_first() else { return Ok(None) };
        let mut command = Command::new(name);
        command.args(arguments).env_remove(SPEC);
        command.process_group(0);
        let refuse = |error: &io::Error| Refusal {
            code: if error.kind() == io::ErrorKind::NotFound {
                exit::NOT_FOUND
            } else {
                exit::NOT_EXECUTABLE
            },
            why: format!("{name}: {error}"),
        };
        let mut child = command.spawn().map_err(|error| refuse(&error))?;
        // It is not waited for yet, so the number is still its own.
        let pidfd =
            PidFd::open(child.id()).map_err(|error| Refusal { code: exit::USAGE, why: error.to_string() })?;
        let (over, ended) = watch::channel(None);
        let tell = tell.clone();
        let wait = move || {
            let status =
                child.wait().map_or(ExitStatus::Unknown, |status| match (status.code(), status.signal()) {
                    (Some(code), _) => ExitStatus::Code(u8::try_from(code).unwrap_or(u8::MAX)),
                    (None, Some(number)) => {
                        Signal::from_number(number.into()).map_or(ExitStatus::Unknown, ExitStatus::Signal)
                    }
                    (None, None) => ExitStatus::Unknown,
                });
            over.send_replace(Some(status));
            let _ = tell.send(News::Ended(status));
        };
        let thread = std::thread::Builder::new().name("wait".into()).spawn(wait);
        thread.map_err(|error| Refusal {
            code: exit::USAGE,
            why: format!("there is no thread for it: {error}"),
        })?;
        Ok(Some(Self { pidfd: Arc::new(pidfd), ended }))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pidfd.pid()
    }

    /// One that has ended hears nothing.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = self.pidfd.send(signal);
    }
}

#[async_trait]
impl Instance for Program {
    fn main_pid(&self) -> Option<u32> {
        self.ended.borrow().is_none().then(|| self.pid())
    }

    fn kills_by_itself(&self) -> bool {
        false
    }

    async fn terminate(&self, order: &Terminate) -> Result<()> {
        self.signal(order.policy.signal.value);
        Ok(())
    }

    async fn exited(&self) -> Result<ExitStatus> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.map(|ended| *ended) {
            Ok(status) => Ok(status.unwrap_or(ExitStatus::Unknown)),
            // The thread that waits for it does not end before it has told.
            Err(_) => Ok(ExitStatus::Unknown),
        }
    }

    async fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL);
        Ok(())
    }

    async fn start(&self) -> Result<()> {
        Err(Error::Start { code: exit::USAGE, message: "it is started once".into() })
    }
}
