//! A container's main process, if it is one of this machine's.
//!
//! The daemon may run elsewhere behind a local socket: in a virtual machine, in another PID namespace. So its word for
//! the PID counts only if the process with that number is in a control group that bears the container's 64 digits,
//! as both Docker's and Podman's are (`…/docker/ID`, `docker-ID.scope`, `libpod-ID`).

use std::fs;
use std::io;
use std::os::fd::AsFd;

use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;
use gracefully_linux::{Errno, PidFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::{Error, Result};

/// The main process of a container, held so that a signal reaches it or nobody.
#[derive(Debug)]
pub(super) struct HostProcess(PidFd);

impl HostProcess {
    /// Takes hold of the container's main process; `None` if it is not to be seen from here.
    pub(super) fn of_container(id: &str, pid: u32) -> Option<Self> {
        // First held, then looked at: what is read belongs to the process that is held, unless that has ended.
        let process = PidFd::open(pid).ok()?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let ours = !id.is_empty() && groups.contains(id) && !process.has_exited();
        ours.then_some(Self(process))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// SIGKILL. The first process of a PID namespace takes all others with it.
    pub(super) fn kill(&self) -> Result<()> {
        match self.0.send(Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => {
                Err(Error::System { what: format!("killing pid {}", self.pid()), source: errno.into() })
            }
        }
    }

    /// How it ended, if it has and the kernel tells.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        self.0.exit_status().filter(|status| *status != ExitStatus::Unknown)
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) -> Result<ExitStatus> {
        let failed =
            |source: io::Error| Error::System { what: format!("waiting for pid {}", self.pid()), source };
        #[expect(
            deprecated,
            reason = "the successor is unsafe; this descriptor is held open by the borrowed PidFd"
        )]
        let watched = AsyncFd::with_interest(self.0.as_fd(), Interest::READABLE).map_err(failed)?;
        watched.readable().await.map_err(failed)?.retain_ready();
        Ok(self.exit_status().unwrap_or(ExitStatus::Unknown))
    }
}
