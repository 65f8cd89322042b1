//! One request over one connection of its own.
//!
//! No connection is shared or kept: an order that waits for minutes never stands in another one's way, a connection
//! that the daemon has closed meanwhile is never taken for a good one, and on a unix socket a new one costs 0.1 ms.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::endpoint::{Endpoint, Host};
use super::{errors, tls};
use crate::{Error, Result};

/// How long a connection may take to be made, TLS included.
const DIAL: Duration = Duration::from_secs(10);

/// The way to one daemon.
pub(super) struct Transport {
    /// As the user would write it, for error texts.
    pub(super) address: String,
    authority: String,
    route: Route,
}

enum Route {
    Unix(PathBuf),
    Tcp,
    Tls(TlsConnector, ServerName<'static>),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Transport {
    /// Reads the TLS files, if there are any; does not connect.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self> {
        let route = match (&endpoint.host, &endpoint.tls) {
            (Host::Unix(path), _) => Route::Unix(path.clone()),
            (Host::Tcp { .. }, None) => Route::Tcp,
            (Host::Tcp { name, .. }, Some(files)) => {
                let server = ServerName::try_from(name.clone()).map_err(|_| Error::Endpoint {
                    why: format!("\"{name}\" is no host name that a certificate could have"),
                })?;
                Route::Tls(tls::connector(files)?, server)
            }
        };
        Ok(Self { address: endpoint.host.to_string(), authority: endpoint.host.authority(), route })
    }

    /// Sends a request and returns when the head of the answer is here. The connection ends with the answer's body.
    pub(super) async fn send(&self, mut request: Request<String>) -> Result<Response<Incoming>> {
        let stream = timeout(DIAL, self.dial())
            .await
            .map_err(|_| Error::Timeout { who: self.address.clone(), after: DIAL })?
            .map_err(|error| errors::dial(&self.address, error))?;
        let lost = |error| errors::lost(&self.address, &error);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // It drives the socket until the answer's body has been read or dropped.
        tokio::spawn(connection);

        let headers = request.headers_mut();
        let host = self.authority.parse().map_err(|_| Error::Endpoint {
            why: format!("\"{}\" cannot be written into a request", self.authority),
        })?;
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, concat!("gracefully/", env!("CARGO_PKG_VERSION")).parse().expect("ASCII"));
        headers.insert(CONNECTION, "close".parse().expect("ASCII"));
        sender.send_request(request).await.map_err(lost)
    }

    /// Are the daemon's processes those of this machine, as far as the address tells?
    pub(super) fn is_local(&self) -> bool {
        matches!(self.route, Route::Unix(_))
    }

    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        match &self.route {
            Route::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Route::Tcp => Ok(Box::new(self.dial_tcp().await?)),
            Route::Tls(connector, server) => {
                let stream = self.dial_tcp().await?;
                Ok(Box::new(connector.connect(server.clone(), stream).await?))
            }
        }
    }

    async fn dial_tcp(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.authority).await?;
        // The last packet of a TLS handshake and the request are two small ones: Nagle's algorithm would hold the
        // second back until the daemon's delayed acknowledgement (40 ms).
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transport").field(&self.address).finish()
    }
}
