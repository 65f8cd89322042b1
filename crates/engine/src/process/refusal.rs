//! Processes that are not signalled, and what to do about it.

use gracefully_core::signal::Signal;
use gracefully_linux::{PidFd, family, process};

use crate::{Error, Result};

/// Refuses whatever would stop ourselves, or the whole machine, instead of a program.
pub(super) fn check(pidfd: &PidFd) -> Result<()> {
    let (pid, us) = (pidfd.pid(), std::process::id());
    let why = if pid == 1 {
        "pid 1 is the init of this host; stop the machine with its own commands"
    } else if pid == us {
        "this is gracefully itself"
    } else if family::ancestors(us).contains(&pid) {
        "gracefully runs below it and would be stopped with it; call it from somewhere else"
    } else if process::stat(pid).is_some_and(|stat| stat.kernel_thread) {
        "this is a part of the kernel and takes no signals"
    } else {
        return Ok(());
    };
    Err(Error::Refused { what: format!("cannot signal pid:{pid}: {why}") })
}

/// The kernel answered EPERM (kill(2)).
pub(super) fn not_permitted(pid: u32, signal: Signal) -> Error {
    let name = process::stat(pid).map_or(String::new(), |stat| format!(" ({})", stat.name));
    let owner = process::owner(pid).map_or("another user".to_owned(), |uid| format!("user {uid}"));
    Error::Refused {
        what: format!(
            "not permitted to send {signal} to pid {pid}{name}, which runs as {owner}: run gracefully as that user or as root"
        ),
    }
}
