//! Being asked to leave: SIGINT, SIGTERM, or the docker CLI that started us as its plugin.
//!
//! Without a terminal, docker swallows SIGTERM and SIGINT and tells its plugins by closing a socket, whose name is in
//! `DOCKER_CLI_PLUGIN_SOCKET`. So a plugin connects when it starts, and the end of the file means SIGTERM.

use std::os::unix::net::UnixStream as StdUnixStream;

use gracefully_core::exit;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// After this many requests we leave at once, as docker does.
pub(crate) const FORCED_AFTER: u32 = 3;

/// What docker says then.
pub(crate) const FORCED: &str = "\ngot 3 SIGTERM/SIGINTs, forcefully exiting";

/// Who asks us to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// SIGINT
    Int,
    /// SIGTERM, or docker closed the plugin's socket.
    Term,
}

impl Interrupt {
    /// The exit code of a program that this ended.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Int => exit::INTERRUPTED,
            Self::Term => exit::TERMINATED,
        }
    }
}

/// From its creation on, SIGINT and SIGTERM end us no more; they are told here.
#[derive(Debug)]
pub(crate) struct Interrupts {
    int: Signal,
    term: Signal,
    docker: Option<UnixStream>,
}

impl Interrupts {
    /// Must be called within a runtime.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            docker: docker_socket(),
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Interrupt {
        let closed = async {
            match &mut self.docker {
                Some(socket) => while matches!(socket.read(&mut [0; 16]).await, Ok(1..)) {},
                None => std::future::pending().await,
            }
        };
        let interrupt = tokio::select! {
            biased;
            _ = self.int.recv() => Interrupt::Int,
            _ = self.term.recv() => Interrupt::Term,
            () = closed => Interrupt::Term,
        };
        if interrupt == Interrupt::Term {
            // A closed socket stays closed: it counts once.
            self.docker = None;
        }
        interrupt
    }

    /// Does `work` unless we are asked to leave first.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            interrupt = self.next() => Err(interrupt),
            done = work => Ok(done),
        }
    }
}

/// Connects to the socket by which docker tells its plugins to leave, if we are one.
fn docker_socket() -> Option<UnixStream> {
    let name = std::env::var("DOCKER_CLI_PLUGIN_SOCKET").ok()?;
    let stream = connect(&name).ok()?;
    stream.set_nonblocking(true).ok()?;
    UnixStream::from_std(stream).ok()
}

/// A name with an at sign in front is in the abstract namespace (unix(7)): it has no file.
fn connect(name: &str) -> std::io::Result<StdUnixStream> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;

    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    StdUnixStream::connect_addr(&address)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use super::*;

    #[tokio::test]
    async fn docker_closing_its_abstract_socket_is_a_sigterm() {
        let name = format!("gracefully_test_{}", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let stream = connect(&format!("@{name}")).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut interrupts = Interrupts::new().unwrap();
        interrupts.docker = Some(UnixStream::from_std(stream).unwrap());

        assert_eq!(interrupts.or(tokio::task::yield_now()).await, Ok(()));
        let (docker, _) = listener.accept().unwrap();
        drop(docker);
        assert_eq!(interrupts.next().await, Interrupt::Term);
        assert_eq!(interrupts.or(tokio::task::yield_now()).await, Ok(()), "it counts once");
    }
}
