//! A service that serves, and clients that notice everything.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gracefully::{Builder, Shutdown, Verdict};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn builder() -> Builder {
    Shutdown::builder().budget(ms(5_000)).settle(Duration::ZERO).reserve(ms(100)).without_signals()
}

/// `GET /MS` is answered after so many milliseconds.
#[derive(Clone)]
struct App {
    /// As many permits as requests that have come.
    asked: Arc<Semaphore>,
}

impl App {
    fn new() -> Self {
        Self { asked: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until so many more requests have come.
    async fn is_asked(&self, times: u32) {
        self.asked.acquire_many(times).await.unwrap().forget();
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

async fn serving(builder: Builder) -> (Shutdown, SocketAddr, App) {
    let app = App::new();
    let shutdown = builder.install().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    shutdown.serve("http", listener, app.clone()).unwrap();
    (shutdown, at, app)
}

fn request(takes: u64) -> Vec<u8> {
    format!("GET /{takes} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// One request on this connection; `None`: there was no whole answer. Else whether the connection may be used again.
async fn ask(client: &mut TcpStream, takes: u64) -> Option<bool> {
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

/// Clients that keep their connections and send a request every few milliseconds; a load balancer that turns new ones away 300 ms
/// after the request for the stop. With settle nothing fails; without, it does, or this would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_keep_their_connections_lose_nothing() {
    for (settle, loses) in [(ms(600), false), (Duration::ZERO, true)] {
        let (shutdown, at, _) = serving(builder().settle(settle)).await;
        let clients: Vec<_> = (0..64_u64)
            .map(|number| {
                let shutdown = shutdown.clone();
                tokio::spawn(async move {
                    let (mut answered, mut failed) = (0_u32, 0_u32);
                    let mut asked_at = None;
                    loop {
                        if asked_at.is_none() && shutdown.is_requested() {
                            asked_at = Some(Instant::now());
                        }
                        if asked_at.is_some_and(|at| at.elapsed() > ms(300)) {
                            return (answered, failed);
                        }
                        let Ok(mut client) = TcpStream::connect(at).await else {
                            failed += 1;
                            sleep(ms(10)).await;
                            continue;
                        };
                        // As long as the connection may be used, also when the load balancer has turned elsewhere.
                        loop {
                            match ask(&mut client, 2).await {
                                Some(true) => answered += 1,
                                Some(false) => {
                                    answered += 1;
                                    break;
                                }
                                None => {
                                    failed += 1;
                                    break;
                                }
                            }
                            sleep(ms(2 + number % 7)).await;
                        }
                    }
                })
            })
            .collect();
        sleep(ms(300)).await;
        shutdown.trigger("test");
        let (mut answered, mut failed) = (0, 0);
        for client in clients {
            let (more, less) = client.await.unwrap();
            (answered, failed) = (answered + more, failed + less);
        }
        assert!(answered > 500, "{answered}");
        assert_eq!(failed > 0, loses, "{failed} failed, {answered} answered");
        let ended = shutdown.wait().await;
        assert_eq!(ended.report().verdict, Verdict::Graceful, "{ended}");
    }
}

#[tokio::test]
async fn a_long_answer_is_finished_and_an_idle_connection_is_closed_at_once() {
    let (shutdown, at, app) = serving(builder()).await;
    let mut idle = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut idle, 0).await, Some(true));
    let mut busy = TcpStream::connect(at).await.unwrap();
    let answer = tokio::spawn(async move { ask(&mut busy, 700).await });
    app.is_asked(2).await;
    shutdown.trigger("test");
    assert_eq!(timeout(ms(600), idle.read(&mut [0; 16])).await.unwrap().unwrap(), 0, "closed");
    assert_eq!(answer.await.unwrap(), Some(false), "and says that it is the last");
    let ended = shutdown.wait().await;
    assert_eq!((ended.code(), ended.report().verdict), (0, Verdict::Graceful), "{ended}");
    assert!((400..2_000).contains(&ended.report().took.as_millis()), "{ended}");
    assert!(TcpStream::connect(at).await.is_err(), "nobody listens any more");
}

/// Half a head, and a connection that says nothing: hyper's own shutdown waits for both for ever.
#[tokio::test]
async fn who_does_not_finish_is_cut_and_named() {
    let (shutdown, at, app) = serving(builder().budget(ms(1_000))).await;
    let mut half = TcpStream::connect(at).await.unwrap();
    half.write_all(b"GET /0 HTTP/1.1\r\nHo").await.unwrap();
    let mut slow = TcpStream::connect(at).await.unwrap();
    slow.write_all(&request(60_000)).await.unwrap();
    let peer = slow.local_addr().unwrap();
    app.is_asked(1).await;
    shutdown.trigger("test");
    let ended = shutdown.wait().await;
    assert!((900..3_000).contains(&ended.report().took.as_millis()), "{ended}");
    assert_eq!((ended.code(), ended.report().verdict), (1, Verdict::Forced));
    assert!(ended.to_string().contains(&format!("http {peer} (drain): not finished after")), "{ended}");
    assert_eq!(timeout(ms(500), slow.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0, "cut");
}

/// Clients that the kernel has accepted when drain begins are served.
#[tokio::test]
async fn the_backlog_is_served() {
    let (shutdown, at, _) = serving(builder()).await;
    // This runtime has one thread, and it is here: so all of them wait in the kernel's queue.
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(at).unwrap();
            std::io::Write::write_all(&mut client, &request(100)).unwrap();
            client
        })
        .collect();
    shutdown.trigger("test");
    for client in clients {
        client.set_nonblocking(true).unwrap();
        let mut answer = String::new();
        TcpStream::from_std(client).unwrap().read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("answer"), "{answer:?}");
    }
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// axum's own shutdown does not know of upgraded connections.
#[tokio::test]
async fn an_upgraded_connection_is_waited_for_and_cut_in_the_end() {
    for ends_in_time in [true, false] {
        let (shutdown, at, _) = serving(builder().budget(ms(1_000))).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(client.read_buf(&mut head).await.unwrap() > 0);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        shutdown.trigger("test");
        // It stays open, also long after idle connections are closed.
        sleep(ms(300)).await;
        client.write_all(b"still there").await.unwrap();
        let mut answer = [0; 11];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"still there");
        if ends_in_time {
            client.shutdown().await.unwrap();
        }
        let ended = shutdown.wait().await;
        let verdict = if ends_in_time { Verdict::Graceful } else { Verdict::Forced };
        assert_eq!(ended.report().verdict, verdict, "{ended}");
        assert_eq!(timeout(ms(500), client.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0, "closed");
    }
}

#[tokio::test]
async fn http2_streams_are_finished() {
    let (shutdown, at, app) = serving(builder()).await;
    let stream = TokioIo::new(TcpStream::connect(at).await.unwrap());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let uri = format!("http://{at}/600");
    let answer = client.send_request(Request::get(uri).body(String::new()).unwrap());
    let answer = tokio::spawn(answer);
    app.is_asked(1).await;
    shutdown.trigger("test");
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    timeout(ms(1_000), connection).await.expect("GOAWAY ends the connection").unwrap().unwrap();
    let ended = shutdown.wait().await;
    assert_eq!(ended.report().verdict, Verdict::Graceful, "{ended}");
}

#[tokio::test]
async fn unix_sockets_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let shutdown = builder().install().unwrap();
    let app = App::new();
    shutdown.serve("unix", UnixListener::bind(&path).unwrap(), app.clone()).unwrap();
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(&request(300)).await.unwrap();
    app.is_asked(1).await;
    shutdown.trigger("test");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("answer"), "{answer}");
    assert_eq!(shutdown.wait().await.code(), 0);
}
