//! Who accepts connections.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use crate::tasks::Token;

/// The next connection that the kernel has accepted is seen by the runtime within this time, and a handshake that has begun is
/// finished.
const AT_ONCE: Duration = Duration::from_millis(2);

/// And where new ones come all the time, all that had come before are accepted within this time.
const BACKLOG: Duration = Duration::from_millis(100);

/// A listening socket: `TcpListener`, `UnixListener`, or one of your own.
///
/// Connections are accepted one after the other, so nothing that a client can make slow belongs into [`accept`](Self::accept): a
/// handshake, of TLS for example, is a part of the first read.
///
/// ```
/// use std::io;
/// use tokio::net::{TcpListener, TcpStream};
///
/// /// Names each connection by a number.
/// struct Numbered(TcpListener, std::sync::atomic::AtomicU64);
///
/// impl gracefully::serve::Listener for Numbered {
///     type Io = TcpStream;
///
///     async fn accept(&self) -> io::Result<(TcpStream, String)> {
///         let (stream, _) = self.0.accept().await?;
///         let number = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///         Ok((stream, format!("client {number}")))
///     }
/// }
/// ```
pub trait Listener: Send + Sync + 'static {
    /// The connections.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, and who is at the other end, for the report. May be dropped while it waits, without losing a connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, String)>> + Send;

    /// Has the kernel take no new connection from here on; those that it has taken are still accepted. Called when drain begins.
    /// `false`: it cannot be done.
    fn pause(&self) -> bool {
        false
    }

    /// Closes it. Others may have the same socket, so this undoes [`pause`](Self::pause), if that did anything.
    fn close(self)
    where
        Self: Sized,
    {
    }
}

impl Listener for tokio::net::TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Io, String)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are written whole; waiting for more to send with them only makes them late.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer.to_string()))
    }

    // Without it, whoever connects between our last accept and our close is reset.
    fn pause(&self) -> bool {
        gracefully_linux::listener::pause(self.as_raw_fd()).is_ok()
    }

    fn close(self) {
        // The runtime lets go of it first, and our turn on the processor is new, so that hardly anything comes between the last two
        // calls. What does is reset; the other way round whoever else has the socket would be deaf.
        if let Ok(listener) = self.into_std() {
            std::thread::yield_now();
            let _ = gracefully_linux::listener::resume(listener.as_raw_fd());
        }
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
pub(super) struct Accepting<L: Listener> {
    /// There until this is dropped.
    listener: Option<L>,
    token: Token,
    /// Drain has begun: until when connections are accepted that were not there when it did.
    drain: Option<Limit>,
}

enum Limit {
    /// There are none.
    None,
    /// They may follow each other quickly, and for ever.
    Until(Instant),
}

impl<L: Listener> Accepting<L> {
    pub(super) fn new(listener: L, token: Token) -> Self {
        Self { listener: Some(listener), token, drain: None }
    }

    /// The next connection; `None`: there is none any more.
    pub(super) async fn next(&mut self) -> Option<io::Result<(L::Io, String)>> {
        let listener = self.listener.as_ref()?;
        if self.drain.is_none() {
            tokio::select! {
                accepted = listener.accept() => return Some(accepted),
                () = self.token.requested() => {}
            }
        }
        // The kernel has accepted more than we have, and their clients may have sent a request. None of them is to be refused;
        // whoever comes from now on is.
        let limit = self.drain.get_or_insert_with(|| {
            if listener.pause() { Limit::None } else { Limit::Until(Instant::now() + BACKLOG) }
        });
        if matches!(limit, Limit::Until(end) if Instant::now() >= *end) {
            return None;
        }
        let accepted = timeout(AT_ONCE, listener.accept()).await.ok();
        if matches!(accepted, Some(Err(_))) && matches!(limit, Limit::None) {
            // Whether it ever gets better is not known.
            *limit = Limit::Until(Instant::now() + BACKLOG);
        }
        accepted
    }
}

impl<L: Listener> Drop for Accepting<L> {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.close();
        }
    }
}
