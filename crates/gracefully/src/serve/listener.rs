//! Who accepts connections.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::tasks::Token;

/// What the kernel has accepted is seen by the runtime within this time.
const AT_ONCE: Duration = Duration::from_millis(2);

/// And is accepted within this time.
const BACKLOG: Duration = Duration::from_millis(100);

/// A listening socket: `TcpListener`, `UnixListener`, or one of your own, with TLS for example.
pub trait Listener: Send + Sync + 'static {
    /// The connections.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and who is at the other end, for the report. May be dropped while it waits, without losing a connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, String)>> + Send;
}

impl Listener for tokio::net::TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Io, String)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are written whole; waiting for more to send with them only makes them late.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer.to_string()))
    }
}

impl Listener for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<(Self::Io, String)> {
        let (stream, _) = Self::accept(self).await?;
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        Ok((stream, pid.map_or_else(|| "unix".into(), |pid| format!("pid {pid}"))))
    }
}

/// A listener that accepts until drain begins, and then what the kernel has accepted by then.
pub(super) struct Accepting<L> {
    listener: L,
    token: Token,
    /// When drain began.
    drain: Option<Instant>,
}

impl<L: Listener> Accepting<L> {
    pub(super) fn new(listener: L, token: Token) -> Self {
        Self { listener, token, drain: None }
    }

    /// The next connection; `None`: there is none any more.
    pub(super) async fn next(&mut self) -> Option<io::Result<(L::Io, String)>> {
        if self.drain.is_none() {
            tokio::select! {
                accepted = self.listener.accept() => return Some(accepted),
                () = self.token.requested() => {}
            }
        }
        // The kernel has accepted more than we have, and their clients may have sent a request. None of them is to be refused;
        // whoever comes from now on is, however quickly they follow each other.
        let began = *self.drain.get_or_insert_with(Instant::now);
        if began.elapsed() >= BACKLOG {
            return None;
        }
        timeout_at(began + AT_ONCE, self.listener.accept()).await.ok()
    }
}
