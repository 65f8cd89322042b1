//! Serving HTTP until the stop: HTTP/1, HTTP/2 and upgraded connections.
//!
//! | phase | what happens to connections |
//! |---|---|
//! | until settle | they are served |
//! | settle | they are served; every answer over HTTP/1 says `Connection: close`, and connections over HTTP/2 are told GOAWAY, one after the other in the first quarter of the time: clients come back, to whichever instance the load balancer then has for them |
//! | drain | what the kernel has accepted is accepted and served, then the listener is closed; idle connections are closed, busy ones after their answer |
//! | terminate | what is left is cut, and named in the report with its age |
//!
//! The answer `Connection: close` is what saves clients that keep their connections: one that is closed while a request is on its
//! way loses that request, however long everybody has waited.
//!
//! A connection counts as under way until it is closed. One that was upgraded, a WebSocket, is closed by whoever has upgraded it:
//! its handler should ask [`Shutdown::token`].
//!
//! Services on servers of others take part by [`Shutdown::layer`] and [`Shutdown::readiness`]. A server that nobody waits for, for
//! metrics or probes until the very end, is simply spawned: `tokio::spawn(axum::serve(…).into_future())`.

mod connection;
mod layer;
mod listener;
mod request;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use self::connection::Connection;
use self::listener::Accepting;
use self::request::{Counts, Requests};
use crate::shutdown::Shutdown;
use crate::tasks::Rejected;

pub use self::layer::{Layer, Readiness};
pub use self::listener::Listener;
pub use self::request::{Answer, AnswerBody, Answering};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request that the kernel has when drain begins is read within this time. hyper closes a connection of which it has not begun
/// to read a request, also if one is there.
const LAST_WORD: Duration = Duration::from_millis(20);

/// How long after an error of accept(2) it is tried again. Most are of one connection; but without descriptors the next one fails
/// at once.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// A client that has connected and sends no whole request head for so long is not one.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Connections over HTTP/2 are told to go in so many groups, so that their clients do not all come back at once.
const GROUPS: u32 = 64;

impl Shutdown {
    /// Serves HTTP on this listener until the stop: see [`serve`](crate::serve). `service` is any tower service, an axum router
    /// for one.
    ///
    /// Returns at once. Fails once drain has begun.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// use axum::{Router, routing::get};
    ///
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// let app: Router = Router::new().route("/", get(async || "hello\n"));
    /// shutdown.serve("http", tokio::net::TcpListener::bind("127.0.0.1:0").await?, app)?;
    /// # Ok(()) }
    /// ```
    pub fn serve<S, B>(&self, name: &str, listener: impl Listener, service: S) -> Result<(), Rejected>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let shutdown = self.clone();
        let name: Arc<str> = name.into();
        self.spawn(&format!("{name} (listener)"), async move |token| {
            let mut accepting = Accepting::new(listener, token);
            let mut groups = (0..GROUPS).cycle();
            while let Some(accepted) = accepting.next().await {
                let Ok((io, peer)) = accepted else {
                    sleep(AFTER_ERROR).await;
                    continue;
                };
                let requests = Arc::new(Requests::default());
                // Also for those who were accepted after drain has begun.
                let guard =
                    shutdown.inner.tasks.enter_doing(&format!("{name} {peer}"), Arc::clone(&requests) as _);
                let io = Connection::new(io, guard, shutdown.inner.cut.clone());
                let group = groups.next().unwrap_or_default();
                tokio::spawn(serve(io, service.clone(), shutdown.clone(), requests, group));
            }
        })
    }

    /// Waits until it is time for this connection to end, with a word of the protocol if it has one; `true`: it has, and the client
    /// hears of it before the connection is closed.
    async fn time_to_close(&self, requests: &Requests, group: u32) -> bool {
        self.requested().await;
        let token = self.token();
        if requests.are_http2() {
            tokio::select! {
                () = sleep(self.inner.settle / 4 * group / GROUPS) => {}
                () = token.requested() => {}
            }
            return true;
        }
        token.requested().await;
        requests.are_http2()
    }
}

/// Serves one connection.
async fn serve<I, S, B>(
    io: Connection<I>,
    service: S,
    shutdown: Shutdown,
    requests: Arc<Requests>,
    group: u32,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let counts = Counts::InConnection(Arc::clone(&requests));
    let service = TowerToHyperService::new(Answering { service, shutdown: shutdown.clone(), counts });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder.http2().timer(TokioTimer::new());
    let mut serving = pin!(builder.serve_connection_with_upgrades(io, service));
    let is_told = tokio::select! {
        // What becomes of one connection is the client's affair.
        _ = serving.as_mut() => return,
        is_told = shutdown.time_to_close(&requests, group) => is_told,
    };
    if is_told || timeout(LAST_WORD, serving.as_mut()).await.is_err() {
        serving.as_mut().graceful_shutdown();
        let _ = serving.await;
    }
}
