//! One process, held so that nothing meant for it can reach another one.
//!
//! A PID is only a number: when its process is gone and reaped, the kernel gives it to another one. A pidfd
//! (`pidfd_open(2)`, Linux 5.3) is a reference to the process itself. A signal sent through it reaches this process or
//! fails with ESRCH, and it becomes readable when the process ends, also if that is not our child.
//!
//! **Look-up.** `pidfd_open` itself takes a PID, so between reading about a process and opening it the number may
//! change hands. Therefore the pidfd is opened first and the facts are read afterwards; that the number still
//! belonged to the pidfd's process after the reading is asked from the pidfd: `Pid:` in its `/proc/self/fdinfo/FD` is
//! -1 as soon as the process is reaped, and not before that can the number be given away. The number there is one
//! of the PID namespace that /proc shows, so it also tells when /proc belongs to another namespace than ours.
//!
//! **Exit status.** Only the parent gets it from wait(2). Linux 6.15 and later also keep it for every pidfd that is
//! open when the process is reaped: ioctl `PIDFD_GET_INFO` with `PIDFD_INFO_EXIT` (`include/uapi/linux/pidfd.h`). In
//! the moment between the end and the reaping, on every kernel, it is in `/proc/PID/stat`, for those who may trace
//! the process.

#[expect(unsafe_code, reason = "an ioctl and real-time signals, for which rustix has no safe call")]
mod sys;

pub(crate) use sys::signal as number_of;

use alloc::format;
use core::fmt;

use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal, test_kill_process};

use crate::process::{StartTime, read_stat};
use crate::procfs::{ProcessDir, SMALL, number, read_file, value};

/// A reference to one process. It is closed when the process is executed anew (`O_CLOEXEC`).
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    pid: u32,
    start_time: StartTime,
}

impl PidFd {
    /// Takes hold of the process that has this PID now. A zombie is a process; a thread is none.
    pub fn open(pid: u32) -> Result<Self, OpenError> {
        let none = OpenError::NoSuchProcess { pid };
        let raw = i32::try_from(pid).ok().filter(|&raw| raw > 0).and_then(Pid::from_raw).ok_or(none)?;
        let fd = pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| match errno {
            // EINVAL, or ENOENT since Linux 6.15: the number of a thread.
            Errno::SRCH | Errno::INVAL | Errno::NOENT => none,
            Errno::NOSYS => OpenError::NoPidfd,
            errno => OpenError::System { pid, errno },
        })?;
        let stat = ProcessDir::open(pid).ok().and_then(|dir| read_stat(&dir));
        match (current_pid(&fd)?, stat) {
            (Some(current), Some(stat)) if current == pid => {
                Ok(Self { fd, pid, start_time: stat.start_time })
            }
            (Some(current), _) if current != pid => Err(OpenError::ForeignProc),
            // Reaped meanwhile, or hidden from us.
            _ => Err(none),
        }
    }

    /// Takes hold of the process that has this PID and was started at this time.
    pub fn open_expecting(pid: u32, start_time: StartTime) -> Result<Self, OpenError> {
        let opened = Self::open(pid)?;
        if opened.start_time == start_time { Ok(opened) } else { Err(OpenError::Recycled { pid }) }
    }

    /// Its PID. It may belong to another process once this one is gone.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it was started.
    pub fn start_time(&self) -> StartTime {
        self.start_time
    }

    /// Sends a signal to the process, not to its threads or children.
    ///
    /// Fails with `ESRCH` if it is gone and with `EPERM` if it belongs to another user. A zombie takes every signal
    /// without effect.
    pub fn send(&self, signal: Signal) -> Result<(), Errno> {
        pidfd_send_signal(&self.fd, sys::signal(signal))
    }

    /// Fails as [`send`](Self::send) would, without sending anything. What the kernel allows for one signal it allows for
    /// all, but for SIGCONT within a session (kill(2)).
    pub fn may_send(&self) -> Result<(), Errno> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Err(Errno::SRCH) };
        let may = test_kill_process(pid);
        // As long as it has not ended, the number is its own.
        if self.has_exited() { Err(Errno::SRCH) } else { may }
    }

    /// Has it ended? It may still be a zombie.
    pub fn has_exited(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        // Polling an open pidfd for no time cannot fail but by an interruption.
        retry_on_intr(|| poll(&mut fds, Some(&Timespec::default()))).is_ok_and(|ready| ready > 0)
    }

    /// How it ended; `None` as long as it has not. [`ExitStatus::Unknown`] if it was reaped before Linux 6.15, or
    /// if it is a zombie that we may not trace.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        if !self.has_exited() {
            return None;
        }
        // It may be reaped between the first and the second look.
        let status = sys::exit_status(&self.fd)
            .or_else(|| self.zombie_status())
            .or_else(|| sys::exit_status(&self.fd));
        Some(status.unwrap_or(ExitStatus::Unknown))
    }

    fn zombie_status(&self) -> Option<ExitStatus> {
        let dir = ProcessDir::open(self.pid).ok()?;
        let stat = read_stat(&dir).filter(|stat| stat.start_time == self.start_time)?;
        // Who may not trace the process is shown a zero. This link, which zombies have too, asks for the same right.
        let may_trace = || dir.link("ns/user").is_ok();
        stat.ended.filter(|&status| status != ExitStatus::Code(0) || may_trace())
    }
}

impl AsFd for PidFd {
    /// Readable when the process has ended (poll(2), epoll(7)).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The PID of a pidfd's process in the namespace that /proc shows: zero if it is not there, `None` if it is reaped.
fn current_pid(fd: &OwnedFd) -> Result<Option<u32>, OpenError> {
    let info = read_file(CWD, &format!("/proc/self/fdinfo/{}", fd.as_raw_fd()), SMALL);
    match info.ok().and_then(|info| value(&info, "Pid:").and_then(number::<i64>)) {
        Some(pid) => Ok(u32::try_from(pid).ok()),
        None => Err(OpenError::ForeignProc),
    }
}

/// Why a process cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none with this PID, or it is hidden from us (`hidepid`).
    NoSuchProcess {
        /// The PID asked for.
        pid: u32,
    },
    /// The PID belongs to another process than the one that was meant, which is gone.
    Recycled {
        /// The PID asked for.
        pid: u32,
    },
    /// The kernel has no pidfds: it is older than Linux 5.3, or a sandbox forbids them.
    NoPidfd,
    /// /proc is missing, or shows the processes of another PID namespace.
    ForeignProc,
    /// The kernel refused.
    System {
        /// The PID asked for.
        pid: u32,
        /// Its reason.
        errno: Errno,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProcess { pid } => write!(f, "no process has pid {pid}"),
            Self::Recycled { pid } => {
                write!(f, "pid {pid} belongs to another process by now; the one that was meant is gone")
            }
            Self::NoPidfd => f.write_str("this kernel has no pidfd_open(2): Linux 5.3 or later is needed"),
            Self::ForeignProc => {
                f.write_str("/proc does not show the processes of this PID namespace: mount it anew")
            }
            Self::System { pid, errno } => write!(f, "cannot open a pidfd for pid {pid}: {errno}"),
        }
    }
}

impl core::error::Error for OpenError {}

#[cfg(test)]
mod tests;
