//! A service that serves, and clients that notice everything.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod http1;
mod http2;
mod others;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gracefully::{Builder, Shutdown};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tower_service::Service;

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn builder() -> Builder {
    Shutdown::builder().budget(ms(5_000)).settle(Duration::ZERO).reserve(ms(100)).without_signals()
}

/// `GET /MS` is answered after so many milliseconds.
#[derive(Clone)]
pub(crate) struct App {
    /// As many permits as requests that have come.
    asked: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new() -> Self {
        Self { asked: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until so many more requests have come.
    pub(crate) async fn is_asked(&self, times: u32) {
        self.asked.acquire_many(times).await.unwrap().forget();
    }

    /// How many have come beyond those that were waited for.
    pub(crate) fn times_asked(&self) -> usize {
        self.asked.available_permits()
    }
}

impl Service<Request<Incoming>> for App {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if request.headers().contains_key(http::header::UPGRADE) {
            return Box::pin(async move {
                tokio::spawn(echo(request));
                let switched = Response::builder().status(http::StatusCode::SWITCHING_PROTOCOLS);
                Ok(switched
                    .header("Connection", "upgrade")
                    .header("Upgrade", "echo")
                    .body(String::new())
                    .unwrap())
            });
        }
        self.asked.add_permits(1);
        let takes = request.uri().path()[1..].parse().unwrap_or(0);
        Box::pin(async move {
            sleep(ms(takes)).await;
            Ok(Response::new("answer".to_owned()))
        })
    }
}

/// What a handler of a WebSocket does: it has the connection for itself from now on.
async fn echo(request: Request<Incoming>) {
    let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
    let mut piece = [0; 64];
    while let Ok(n @ 1..) = io.read(&mut piece).await {
        io.write_all(&piece[..n]).await.unwrap();
    }
}

pub(crate) async fn serving(builder: Builder) -> (Shutdown, SocketAddr, App) {
    let app = App::new();
    let shutdown = builder.install().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    shutdown.serve("http", listener, app.clone()).unwrap();
    (shutdown, at, app)
}

pub(crate) fn request(takes: u64) -> Vec<u8> {
    format!("GET /{takes} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// One request on this connection; `None`: there was no whole answer. Else whether the connection may be used again.
pub(crate) async fn ask(client: &mut TcpStream, takes: u64) -> Option<bool> {
    client.write_all(&request(takes)).await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"answer") {
        if client.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    answer.starts_with("http/1.1 200").then(|| !answer.contains("connection: close"))
}
