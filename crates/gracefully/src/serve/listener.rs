//! Who accepts connections.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

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
