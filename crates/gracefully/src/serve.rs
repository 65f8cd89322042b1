//! Serving HTTP until the stop: HTTP/1, HTTP/2 and upgraded connections.
//!
//! | phase | what happens to connections |
//! |---|---|
//! | until settle | they are served |
//! | settle | they are served, and every answer over HTTP/1 says `Connection: close`: clients come back, to whichever instance the load balancer then has for them |
//! | drain | what the kernel has accepted is accepted and served, then the listener is closed; idle connections are closed, busy ones after their answer, HTTP/2 is told GOAWAY |
//! | terminate | what is left is cut, and named in the report with its age |
//!
//! The answer `Connection: close` is what saves clients that keep their connections: one that is closed while a request is on its
//! way loses that request, however long everybody has waited.
//!
//! A connection counts as under way until it is closed. One that was upgraded, a WebSocket, is closed by whoever has upgraded it:
//! its handler should ask [`Shutdown::token`].

mod connection;
mod listener;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use self::connection::Connection;
use self::listener::Accepting;
pub use self::listener::Listener;
use crate::shutdown::Shutdown;
use crate::tasks::Rejected;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request that the kernel has when drain begins is read within this time. hyper closes a connection of which it has not begun
/// to read a request, also if one is there.
const LAST_WORD: Duration = Duration::from_millis(20);

/// How long after an error of accept(2) it is tried again. Most are of one connection; but without descriptors the next one fails
/// at once.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// A client that has connected and sends no whole request head for so long is not one.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

impl Shutdown {
    /// Serves HTTP on this listener until the stop: see [`serve`](crate::serve). `service` is any tower service, an axum router
    /// for one.
    ///
    /// Returns at once. Fails once drain has begun.
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
            while let Some(accepted) = accepting.next().await {
                let Ok((io, peer)) = accepted else {
                    sleep(AFTER_ERROR).await;
                    continue;
                };
                // Also for those who were accepted after drain has begun.
                let guard = shutdown.inner.tasks.enter_always(&format!("{name} {peer}"));
                let io = Connection::new(io, guard, shutdown.inner.cut.clone());
                let service = Closing { service: service.clone(), shutdown: shutdown.clone() };
                let token = shutdown.token();
                tokio::spawn(async move {
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
                    builder.http2().timer(TokioTimer::new());
                    let mut serving = pin!(builder.serve_connection_with_upgrades(io, service));
                    tokio::select! {
                        // What becomes of one connection is the client's affair.
                        _ = serving.as_mut() => return,
                        () = token.requested() => {}
                    }
                    if timeout(LAST_WORD, serving.as_mut()).await.is_err() {
                        serving.as_mut().graceful_shutdown();
                        let _ = serving.await;
                    }
                });
            }
        })
    }
}

/// The service with `Connection: close` from the request for the stop on.
#[derive(Clone, Debug)]
struct Closing<S> {
    service: S,
    shutdown: Shutdown,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Closing<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self { mut service, shutdown } = self.clone();
        let version = request.version();
        // A service that is not ready yet must not be called (tower_service::Service).
        Box::pin(async move {
            std::future::poll_fn(|context| service.poll_ready(context)).await?;
            let mut response = service.call(request).await?;
            // HTTP/2 has no such header (RFC 9113, 8.2.2), and an upgrade is answered with another value of it.
            let upgraded = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
            if shutdown.is_requested() && version <= Version::HTTP_11 && !upgraded {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}
