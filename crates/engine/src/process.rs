//! `pid:N`: any process of this host, with everything that descends from it.
//!
//! The stop signal and SIGKILL go to the named process and to nobody else: what it started is its own to end, and the
//! report names whoever is left. The process is not our child, which shows in two places: nobody but its parent can
//! start it again, and its exit code is known only where the kernel keeps it (see [`gracefully_linux::pidfd`]).
//!
//! **Identity.** A PID alone may belong to another process a moment later. [`Engine::find`] hands out the start time
//! as [`Container::started`], counted from the boot time that was read once when the engine was made, so that the
//! kernel's exact number can be had back from it, also after the clock was set. Every order opens a pidfd and
//! compares both numbers before it does anything.

mod inspect;
mod instance;
mod refusal;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use gracefully_core::diagnosis::State as Doing;
use gracefully_core::event::ExitStatus;
use gracefully_core::policy::Settings;
use gracefully_core::signal::Signal;
use gracefully_linux::pidfd::OpenError;
use gracefully_linux::process::{self, StartTime};
use gracefully_linux::{Errno, PidFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use self::instance::Held;
use crate::{
    Conductor, Container, Engine, Error, Kind, ListOptions, LogChunk, LogOptions, Network, Removal, Result,
    State,
};

/// How long a process may take to disappear after SIGKILL: as long as docker gives it.
const KILL_TAKES_AT_MOST: Duration = Duration::from_secs(10);

/// The processes of this host as an engine.
#[derive(Debug)]
pub struct Processes {
    /// When the machine was started, as the wall clock said when the engine was made.
    booted: SystemTime,
}

impl Processes {
    /// The processes that /proc shows.
    pub fn new() -> Self {
        Self {
            booted: SystemTime::now().checked_sub(process::since_boot()).unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }

    fn wall_clock(&self, start: StartTime) -> SystemTime {
        self.booted + start.since_boot()
    }

    fn start_time(&self, container: &Container) -> Option<StartTime> {
        let since_boot = container.started?.duration_since(self.booted).ok()?;
        let ticks = since_boot.as_nanos() * u128::from(StartTime::TICKS_PER_SECOND) / 1_000_000_000;
        ticks.try_into().ok().map(StartTime::from_ticks)
    }

    /// Takes hold of the process that was found.
    fn hold(&self, container: &Container) -> Result<PidFd> {
        let gone = || Error::NotRunning { id: target(&container.id) };
        let pid = number(&container.id).ok_or_else(gone)?;
        let start = self.start_time(container).ok_or_else(gone)?;
        PidFd::open_expecting(pid, start).map_err(|error| match error {
            OpenError::NoSuchProcess { .. } | OpenError::Recycled { .. } => gone(),
            error => cannot_open(error),
        })
    }

    /// Takes hold of the process in order to signal it.
    fn hold_to_signal(&self, container: &Container) -> Result<PidFd> {
        let pidfd = self.hold(container)?;
        refusal::check(&pidfd)?;
        if pidfd.has_exited() { Err(Error::NotRunning { id: target(&container.id) }) } else { Ok(pidfd) }
    }
}

impl Default for Processes {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Engine for Processes {
    fn kind(&self) -> Kind {
        Kind::Process
    }

    async fn find(&self, name: &str) -> Result<Container> {
        let none = || Error::NotFound { name: target(name) };
        let pid = number(name).ok_or_else(none)?;
        let pidfd = PidFd::open(pid).map_err(|error| match error {
            OpenError::NoSuchProcess { .. } => none(),
            error => cannot_open(error),
        })?;
        let stat =
            process::stat(pid).filter(|stat| stat.start_time == pidfd.start_time()).ok_or_else(none)?;
        let command = process::read(pid).map(|process| process.command).unwrap_or_default();
        let image = process::executable(pid).unwrap_or(stat.name);
        let started = Some(self.wall_clock(pidfd.start_time()));
        let exited = stat.state == Doing::Zombie;
        Ok(Container {
            id: pid.to_string(),
            name: target(name),
            image,
            command,
            state: if exited { State::Exited } else { State::Running },
            health: None,
            created: started,
            started,
            finished: None,
            exit_code: pidfd.exit_status().and_then(ExitStatus::code).map(i64::from),
            pid: (!exited).then_some(pid),
            ports: String::new(),
            network: Network::default(),
            settings: Settings::default(),
            labels: std::collections::BTreeMap::new(),
            auto_remove: false,
            note: None,
        })
    }

    /// Nobody wants to see all processes of the host among their containers.
    async fn list(&self, _options: &ListOptions) -> Result<Vec<Container>> {
        Ok(Vec::new())
    }

    async fn inspect(&self, container: &Container) -> Result<serde_json::Value> {
        let pidfd = self.hold(container)?;
        inspect::describe(container, pidfd.pid())
            .ok_or_else(|| Error::NotFound { name: target(&container.id) })
    }

    async fn conductor(&self, container: &Container) -> Result<Conductor> {
        Ok(Conductor::Caller(Box::new(Held::new(self.hold_to_signal(container)?))))
    }

    async fn start(&self, container: &Container) -> Result<()> {
        Err(cannot_start(&container.id))
    }

    async fn signal(&self, container: &Container, signal: Signal) -> Result<()> {
        let pidfd = self.hold_to_signal(container)?;
        send(&pidfd, signal)?;
        if signal == Signal::KILL {
            let end = timeout(KILL_TAKES_AT_MOST, exited(&pidfd)).await;
            let late = || Error::Timeout { who: format!("pid {}", pidfd.pid()), after: KILL_TAKES_AT_MOST };
            end.map_err(|_| late())??;
        }
        Ok(())
    }

    async fn wait(&self, container: &Container) -> Result<i64> {
        let status = match self.hold(container) {
            Ok(pidfd) => exited(&pidfd).await?.code().map(i64::from),
            Err(Error::NotRunning { .. }) => container.exit_code,
            Err(error) => return Err(error),
        };
        status.ok_or_else(|| Error::Unsupported {
            what: format!(
                "pid {} has ended, but its exit code is unknown: only its parent is told, and this kernel keeps none \
                 for others (Linux 6.15 does, if the wait began before the end)",
                container.id
            ),
        })
    }

    /// A process leaves nothing behind that could be removed.
    async fn wait_removed(&self, container: &Container) -> Result<()> {
        match self.hold(container) {
            Ok(pidfd) => exited(&pidfd).await.map(drop),
            Err(Error::NotRunning { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn logs(
        &self,
        container: &Container,
        _options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let pid = &container.id;
        Err(Error::Unsupported {
            what: format!(
                "pid:{pid} has no log: gracefully did not start it; `ls -l /proc/{pid}/fd/1 /proc/{pid}/fd/2` shows \
                 where it writes"
            ),
        })
    }

    async fn remove(&self, container: &Container, _how: Removal) -> Result<()> {
        let pid = &container.id;
        Err(Error::Unsupported {
            what: format!("pid:{pid} is a process, not a container; end it with `gracefully stop pid:{pid}`"),
        })
    }
}

/// As the user names it.
fn target(pid: &str) -> String {
    format!("pid:{pid}")
}

/// A PID in the way everybody writes it. The kernel's first process is number 1.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&pid| digits && pid > 0)
}

/// Waits until the process has ended.
async fn exited(pidfd: &PidFd) -> Result<ExitStatus> {
    let failed = |source| Error::System { what: format!("waiting for pid {}", pidfd.pid()), source };
    #[expect(
        deprecated,
        reason = "its successor is unsafe, which this crate forbids; what that asks for, an open descriptor that stays \
                  the same, is what a `BorrowedFd` is"
    )]
    let watched = AsyncFd::with_interest(pidfd.as_fd(), Interest::READABLE).map_err(failed)?;
    loop {
        let mut ready = watched.readable().await.map_err(failed)?;
        match pidfd.exit_status() {
            Some(status) => return Ok(status),
            None => ready.clear_ready(),
        }
    }
}

/// Sends a signal; it is no error if the process has ended meanwhile.
fn send(pidfd: &PidFd, signal: Signal) -> Result<()> {
    sent(pidfd, signal, pidfd.send(signal))
}

/// Fails as [`send`] would.
fn may_send(pidfd: &PidFd, signal: Signal) -> Result<()> {
    sent(pidfd, signal, pidfd.may_send())
}

fn sent(pidfd: &PidFd, signal: Signal, sent: Result<(), Errno>) -> Result<()> {
    match sent {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(Errno::PERM) => Err(refusal::not_permitted(pidfd.pid(), signal)),
        Err(errno) => Err(Error::System {
            what: format!("sending {signal} to pid {}", pidfd.pid()),
            source: errno.into(),
        }),
    }
}

fn cannot_start(pid: &str) -> Error {
    Error::Unsupported {
        what: format!(
            "pid:{pid} cannot be started again: gracefully did not start it; `gracefully run` starts programs that \
             can be restarted"
        ),
    }
}

fn cannot_open(error: OpenError) -> Error {
    match error {
        OpenError::System { pid, errno } => {
            Error::System { what: format!("opening a pidfd for pid {pid}"), source: io::Error::from(errno) }
        }
        error => Error::Unsupported { what: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
