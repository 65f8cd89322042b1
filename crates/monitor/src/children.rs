//! The launcher and the conductor: children of the monitor that come and go.
//!
//! libcontainer forks and clones, so it may only be called by a process without threads, and it leaves half a megabyte
//! of heap and some megabytes of touched code behind. Therefore the monitor never calls it. It executes `gracefully` as
//! a **launcher**, which makes the container and exits:
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
//!
//! A **conductor** is `gracefully`, too, with a socket as its standard input: see `protocol`.

use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;

use gracefully_core::signal::Signal;
use gracefully_linux::family::descendants;
use gracefully_linux::spawn::{Streams, spawn};
use gracefully_linux::{Errno, PidFd, process};
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{ioctl_fionbio, read};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::getpid;

use crate::files::write;
use crate::protocol::Lines;

/// A child, and the socket that is its standard input.
#[derive(Debug)]
pub(crate) struct Child {
    process: PidFd,
    socket: OwnedFd,
    lines: Lines,
    /// It has closed its end.
    silent: bool,
}

impl Child {
    /// Executes `program` with these arguments.
    pub(crate) fn start(
        program: impl AsFd,
        arguments: &[CString],
        output: impl AsFd,
        error: Option<&OwnedFd>,
    ) -> Result<Self, Errno> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        ioctl_fionbio(&ours, true)?;
        let arguments: Vec<_> = arguments.iter().map(CString::as_c_str).collect();
        let streams =
            Streams { input: theirs.as_fd(), output: output.as_fd(), error: error.map(AsFd::as_fd) };
        let pid = spawn(program, &arguments, streams)?;
        // Nobody else can have the PID before we have reaped it.
        let process = PidFd::open(pid).map_err(|_| Errno::SRCH)?;
        Ok(Self { process, socket: ours, lines: Lines::default(), silent: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What to wait for, as long as something may come.
    pub(crate) fn socket(&self) -> Option<&OwnedFd> {
        (!self.silent).then_some(&self.socket)
    }

    /// Has it closed its end?
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// The next line that it has said; `None`: there is none now.
    pub(crate) fn heard(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = self.lines.pop() {
                return Some(line);
            }
            match read(&self.socket, spare_capacity(self.lines.room())) {
                Ok(1..) if !self.lines.overflow() => {}
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Ok(_) | Err(_) => {
                    self.silent = true;
                    return None;
                }
            }
        }
    }

    /// Tells it something. It may be gone, which is noticed otherwise; and it reads, so that there is room.
    pub(crate) fn tell(&self, line: &[u8]) {
        let _ = write(&self.socket, line);
    }

    pub(crate) fn kill(&self) {
        // It may have ended already.
        let _ = self.process.send(Signal::KILL);
    }
}

/// Ends what a failed launcher has left: it may wait for an order to start that does not come any more. Our children
/// are nothing else, but for the conductor, and none of their PIDs can be given to another process before we reap it.
pub(crate) fn kill_all_but(conductor: Option<&Child>) {
    let us = getpid().as_raw_nonzero().get().cast_unsigned();
    for pid in descendants(us) {
        let is_child = process::stat(pid).is_some_and(|stat| stat.parent == us);
        if is_child
            && conductor.is_none_or(|conductor| conductor.pid() != pid)
            && let Ok(child) = PidFd::open(pid)
        {
            // It may have ended by itself.
            let _ = child.send(Signal::KILL);
        }
    }
}

/// The command line of a child; the first word after the name is its role.
pub(crate) fn arguments(role: &str, words: &[&CString]) -> Vec<CString> {
    let ours = [c"gracefully".into(), CString::new(role).unwrap_or_default()];
    ours.into_iter().chain(words.iter().map(|&word| word.clone())).collect()
}

/// A number as a word of a command line.
pub(crate) fn number(number: impl core::fmt::Display) -> CString {
    CString::new(format!("{number}")).unwrap_or_default()
}
