//! The pipes into which the program writes.

use alloc::vec::Vec;

use gracefully_linux::Errno;
use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::io::{ioctl_fionbio, read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::log::LogStream;

/// A pipe holds 64 KiB unless the program has enlarged it, up to a mebibyte (`/proc/sys/fs/pipe-max-size`).
const REST: usize = 1024 * 1024;

/// Our ends.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// `None` when the program has closed it.
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Pipes {
    /// Two pipes, and the program's ends of them.
    pub(crate) fn new() -> Result<(Self, OwnedFd, OwnedFd), Errno> {
        let (stdout, program_stdout) = pipe()?;
        let (stderr, program_stderr) = pipe()?;
        Ok((Self { stdout: Some(stdout), stderr: Some(stderr) }, program_stdout, program_stderr))
    }

    /// Those that are open.
    pub(crate) fn open(&self) -> impl Iterator<Item = (LogStream, &OwnedFd)> {
        let stdout = self.stdout.iter().map(|pipe| (LogStream::Stdout, pipe));
        stdout.chain(self.stderr.iter().map(|pipe| (LogStream::Stderr, pipe)))
    }

    /// Puts what is there now into the buffer, at most as much as it has room for.
    pub(crate) fn read(&mut self, stream: LogStream, buffer: &mut Vec<u8>) {
        buffer.clear();
        let pipe = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        let Some(open) = pipe else { return };
        match read(open, spare_capacity(buffer)) {
            Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => *pipe = None,
        }
    }

    /// Hands on what is still in the pipes. Nobody in the container writes any more, and whoever got a pipe from there
    /// by other ways is not waited for.
    pub(crate) fn rest(&self, buffer: &mut Vec<u8>, mut log: impl FnMut(LogStream, &[u8])) {
        for (stream, pipe) in self.open() {
            let mut left = REST;
            buffer.clear();
            while left > 0
                && let Ok(read @ 1..) = retry_on_intr(|| read(pipe, spare_capacity(buffer)))
            {
                log(stream, buffer);
                buffer.clear();
                left = left.saturating_sub(read);
            }
        }
    }
}

/// Our end does not block, the program's does.
fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, programs) = pipe_with(PipeFlags::CLOEXEC)?;
    ioctl_fionbio(&ours, true)?;
    Ok((ours, programs))
}
