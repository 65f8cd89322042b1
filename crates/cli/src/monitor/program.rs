//! The running program: its PID 1 and the pipes into which it writes.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use gracefully_engine::{LogStream, Result, local};
use gracefully_linux::PidFd;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

/// How much is read at once.
pub(super) const BUFFER: usize = 16 * 1024;

/// A pipe holds 64 KiB unless the program has enlarged it, up to a mebibyte (`/proc/sys/fs/pipe-max-size`).
const REST: usize = 1024 * 1024;

/// A program that has been executed.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) main: Arc<PidFd>,
    pub(super) started: Instant,
    /// `None` when the program has closed it.
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
}

impl Program {
    /// Has the container made. `created` is told its PID 1 before the program is executed.
    pub(super) async fn launch(
        home: &local::Home,
        created: impl FnOnce(&PidFd) -> Result<()>,
    ) -> Result<Self> {
        let (stdout, program_stdout) = pipe()?;
        let (stderr, program_stderr) = pipe()?;
        let main = local::launch(home, program_stdout, program_stderr, created).await?;
        Ok(Self { main: Arc::new(main), started: Instant::now(), stdout: Some(stdout), stderr: Some(stderr) })
    }

    /// Waits for output, and says how much of the buffer it fills.
    pub(super) async fn output(&mut self, buffer: &mut [u8]) -> (LogStream, usize) {
        loop {
            let stream = tokio::select! {
                () = readable(self.stdout.as_ref()) => LogStream::Stdout,
                () = readable(self.stderr.as_ref()) => LogStream::Stderr,
            };
            if let Some(read) = self.read(stream, buffer) {
                return (stream, read);
            }
        }
    }

    /// Hands on what is still in the pipes. Nobody in the container writes any more, and whoever got a pipe from there
    /// by other ways is not waited for.
    pub(super) fn rest(&self, buffer: &mut [u8], mut log: impl FnMut(LogStream, &[u8])) {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let Some(pipe) = self.pipe(stream) else { continue };
            let mut left = REST;
            // From the kernel itself: the runtime may not have been told yet that there is something. The pipe does not
            // block.
            while left > 0
                && let Ok(read @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(&*pipe, &mut *buffer))
            {
                log(stream, &buffer[..read]);
                left = left.saturating_sub(read);
            }
        }
    }

    fn pipe(&self, stream: LogStream) -> Option<&Receiver> {
        match stream {
            LogStream::Stdout => self.stdout.as_ref(),
            LogStream::Stderr => self.stderr.as_ref(),
        }
    }

    /// What is there now, if anything is.
    fn read(&mut self, stream: LogStream, buffer: &mut [u8]) -> Option<usize> {
        let pipe = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        match pipe.as_ref()?.try_read(buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => return Some(read),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => *pipe = None,
        }
        None
    }
}

async fn readable(pipe: Option<&Receiver>) {
    match pipe {
        // An error shows when it is read.
        Some(pipe) => drop(pipe.readable().await),
        None => pending().await,
    }
}

fn pipe() -> Result<(Receiver, OwnedFd)> {
    let failed = |source| gracefully_engine::Error::System { what: "pipe".to_owned(), source };
    let (ours, programs) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    Ok((Receiver::from_owned_fd(ours).map_err(failed)?, programs))
}
