//! What a new monitor gets from the client that starts it, and what it gives up.

use std::fs::{self, File, OpenOptions};
use std::io;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::setsid;
use rustix::stdio::{dup2_stdin, dup2_stdout, stdin, stdout};

use super::home::Lock;

/// What a client gives to the monitor that it starts: see `spawn`.
#[derive(Debug)]
pub struct Inherited {
    /// The container's lock.
    pub lock: Lock,
    /// Where the client waits to hear how it went.
    pub client: File,
}

impl Inherited {
    /// Takes over standard input and output, and cuts every other tie to the client: the session with its terminal,
    /// and files that the client itself had inherited. To be called first.
    pub fn take_over() -> io::Result<Self> {
        // It fails for the leader of a process group, which leads a session already or was started by hand.
        let _ = setsid();
        close_others()?;
        let lock = File::from(fcntl_dupfd_cloexec(stdin(), 3)?);
        let client = File::from(fcntl_dupfd_cloexec(stdout(), 3)?);
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        Ok(Self { lock: Lock::inherited(lock), client })
    }
}

fn close_others() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2)
        .collect();
    for fd in open {
        // The directory that was read is among them, and closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}
