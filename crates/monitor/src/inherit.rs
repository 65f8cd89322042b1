//! What a new monitor gets from whoever starts it, and what it gives up.

use gracefully_linux::{Errno, standard};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::setsid;

/// What a monitor is given: see `spawn` in the engine.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The container's lock, as standard input. It is held as long as this is open.
    pub(crate) lock: OwnedFd,
    /// Where the starter waits to hear how it went, as standard output.
    pub(crate) starter: OwnedFd,
    /// The program that makes containers and conducts stops: an open file, which may have been replaced or removed
    /// under its name by the time that it is needed.
    pub(crate) gracefully: OwnedFd,
}

impl Inherited {
    /// Takes over what we were given, and cuts every other tie to the starter: the session with its terminal, and files
    /// that the starter itself had inherited. To be called first.
    pub(crate) fn take_over(gracefully: i32) -> Result<Self, Errno> {
        // It fails for the leader of a process group, which leads a session already or was started by hand.
        let _ = setsid();
        standard::close_all_but(&[gracefully])?;
        let gracefully = standard::inherited(gracefully)?;
        let lock = fcntl_dupfd_cloexec(standard::input(), 3)?;
        let starter = fcntl_dupfd_cloexec(standard::output(), 3)?;
        let null = null()?;
        standard::set_input(&null)?;
        standard::set_output(&null)?;
        Ok(Self { lock, starter, gracefully })
    }
}

/// A file that takes everything and has nothing.
pub(crate) fn null() -> Result<OwnedFd, Errno> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}
