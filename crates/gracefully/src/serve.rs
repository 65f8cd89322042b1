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
mod conversation;
mod layer;
mod listener;
mod request;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use self::connection::Connection;
use self::conversation::Conversation;
use self::listener::Accepting;
use self::request::Counts;
use crate::driver::LAST_WORD;
use crate::shutdown::Shutdown;
use crate::tasks::{Rejected, Stage};

pub use self::layer::{Layer, Readiness};
pub use self::listener::Listener;
pub use self::request::{Answer, AnswerBody, Answering};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long after an error of accept(2) it is tried again. Most are of one connection; but without descriptors the next one fails
/// at once.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Connections over HTTP/2 are told to go in so many groups, so that their clients do not all come back at once.
const GROUPS: u32 = 64;

impl Shutdown {
    /// Serves HTTP on this listener until the stop: see [`serve`](crate::serve). `service` is any tower service, an axum router
    /// for one.
    ///
    /// Returns at once. Fails once drain has begun. The name of a Unix socket stays in its directory; removing it before the next
    /// `bind` is the caller's.
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
                let conversation = Arc::new(Conversation::default());
                // Also for those who were accepted after drain has begun.
                let guard = shutdown
                    .inner
                    .tasks
                    .enter_doing(&format!("{name} {peer}"), Arc::clone(&conversation) as _);
                let io = Connection::new(io, guard, Arc::clone(&conversation));
                let group = groups.next().unwrap_or_default();
                tokio::spawn(serve(io, service.clone(), shutdown.clone(), conversation, group));
            }
        })
    }
}

/// Serves one connection.
async fn serve<I, S, B>(
    io: Connection<I>,
    service: S,
    shutdown: Shutdown,
    conversation: Arc<Conversation>,
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
    let counts = Counts::InConnection(Arc::clone(&conversation));
    let was_in_backlog = shutdown.inner.draining.is_cancelled();
    let service = TowerToHyperService::new(Answering { service, counts });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut serving = pin!(builder.serve_connection_with_upgrades(io, service));
    // What becomes of one connection, as long as it lasts, is the client's affair.
    if was_in_backlog {
        // Its request may be in the kernel.
        if timeout(LAST_WORD, serving.as_mut()).await.is_ok() {
            return;
        }
    } else {
        if conversation.until(Stage::Settling, serving.as_mut()).await.is_some() {
            return;
        }
        let closing = conversation.until(Stage::Closing, serving.as_mut());
        // Only HTTP/2 has a word for it.
        let ended = if conversation.is_http2() {
            let goes_after = shutdown.inner.settle() / 4 * group / GROUPS;
            timeout(goes_after, closing).await.unwrap_or_default()
        } else {
            closing.await
        };
        if ended.is_some() {
            return;
        }
    }
    serving.as_mut().graceful_shutdown();
    conversation.until(Stage::Cut, serving).await;
}
