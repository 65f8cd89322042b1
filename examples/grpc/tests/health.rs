//! The stop of the gRPC service as its clients see it.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use axum::http::Uri;
use gracefully::{Shutdown, Verdict};
use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::service::Routes;
use tonic::{Request, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::health_reporter;
use tonic_prost::ProstCodec;
use tower::service_fn;

/// Whatever is waited for comes within this time.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it does not come")
}

/// The service, once it listens. It is killed if the test fails.
async fn start(settle: &str) -> (Child, SocketAddr) {
    // An address is free until somebody listens.
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    let at = gracefully_load::free_address().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_grpc"))
        .arg(at.to_string())
        .env_remove("GRACEFULLY_GRACE")
        .env("GRACEFULLY_SETTLE", settle)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    soon(async {
        while TcpStream::connect(at).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    (child, at)
}

fn stop(child: &Child) {
    PidFd::open(child.id().unwrap()).unwrap().send(Signal::TERM).unwrap();
}

async fn ends_gracefully(child: Child) {
    let output = soon(child.wait_with_output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.starts_with("graceful: stopped after "), "{said}");
}

/// A client with one connection, and no other: nothing is tried again behind the test's back.
struct Client {
    connection: SendRequest<Body>,
    origin: Uri,
}

impl Client {
    async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        let (connection, driver) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        Self { connection, origin: format!("http://{to}").parse().unwrap() }
    }

    fn channel(&self) -> impl GrpcService<Body, ResponseBody = hyper::body::Incoming, Error = hyper::Error> {
        let mut connection = self.connection.clone();
        service_fn(move |request| connection.send_request(request))
    }

    async fn check(&self) -> Result<ServingStatus, Status> {
        let mut client = HealthClient::with_origin(self.channel(), self.origin.clone());
        let answer = soon(client.check(HealthCheckRequest::default())).await?;
        Ok(answer.into_inner().status())
    }

    async fn watch(&self) -> Watched {
        let mut client = HealthClient::with_origin(self.channel(), self.origin.clone());
        Watched(soon(client.watch(HealthCheckRequest::default())).await.unwrap().into_inner())
    }

    async fn sleep(&self, milliseconds: u64) -> Result<u64, Status> {
        let mut client = Grpc::with_origin(self.channel(), self.origin.clone());
        client.ready().await.unwrap();
        let (method, codec) = ("/example.Work/Sleep".parse().unwrap(), ProstCodec::<u64, u64>::default());
        Ok(client.unary(Request::new(milliseconds), method, codec).await?.into_inner())
    }
}

/// A stream of [`Client::watch`].
struct Watched(Streaming<HealthCheckResponse>);

impl Watched {
    /// `None`: it has ended, and without an error.
    async fn next(&mut self) -> Result<Option<ServingStatus>, Status> {
        Ok(soon(self.0.message()).await?.map(|answer| answer.status()))
    }
}

#[tokio::test]
async fn whoever_checks_its_health_hears_of_the_stop_while_it_still_serves() {
    let (child, at) = start("5").await;
    let client = Client::connect(at).await;
    assert_eq!(client.check().await.unwrap(), ServingStatus::Serving);
    let mut watched = client.watch().await;
    assert_eq!(watched.next().await.unwrap(), Some(ServingStatus::Serving));
    stop(&child);
    assert_eq!(watched.next().await.unwrap(), Some(ServingStatus::NotServing));
    let as_a_new_client = async {
        let client = Client::connect(at).await;
        (client.check().await.unwrap(), client.sleep(1).await.unwrap())
    };
    tokio::select! {
        biased;
        next = watched.next() => panic!("it did not settle: {next:?}"),
        answers = as_a_new_client => assert_eq!(answers, (ServingStatus::NotServing, 1)),
    }
    assert_eq!(watched.next().await.unwrap(), None);
    ends_gracefully(child).await;
}

/// Without settle drain begins at once, and the same is said in the same order.
#[tokio::test]
async fn what_is_under_way_is_finished() {
    let (child, at) = start("0").await;
    let client = Client::connect(at).await;
    let mut watched = client.watch().await;
    assert_eq!(watched.next().await.unwrap(), Some(ServingStatus::Serving));
    let mut sleeping = Box::pin(client.sleep(2_000));
    tokio::select! {
        biased;
        slept = &mut sleeping => panic!("it did not sleep: {slept:?}"),
        // It was asked for after the other on the same connection, so that one has come when this is answered.
        status = client.check() => assert_eq!(status.unwrap(), ServingStatus::Serving),
    }
    stop(&child);
    let as_watched = async { [watched.next().await.unwrap(), watched.next().await.unwrap()] };
    tokio::select! {
        biased;
        slept = &mut sleeping => panic!("it was waited for before the stream was ended: {slept:?}"),
        seen = as_watched => assert_eq!(seen, [Some(ServingStatus::NotServing), None]),
    }
    assert_eq!(soon(sleeping).await.unwrap(), 2_000);
    ends_gracefully(child).await;
}

/// The control: with nobody to end it the stream is cut when the time is up, also if the reporter is gone.
#[tokio::test]
async fn a_stream_that_nobody_ends_is_cut() {
    let shutdown =
        Shutdown::builder().budget(Duration::from_millis(500)).settle(Duration::ZERO).reserve(Duration::ZERO);
    let shutdown = shutdown.without_signals().install().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (reporter, health) = health_reporter();
    drop(reporter);
    shutdown.serve("grpc", listener, Routes::new(health)).unwrap();
    let mut watched = Client::connect(at).await.watch().await;
    assert_eq!(watched.next().await.unwrap(), Some(ServingStatus::Serving));
    shutdown.trigger("test");
    assert!(watched.next().await.is_err());
    let ended = soon(shutdown.wait()).await;
    assert_eq!((ended.code(), ended.report().verdict), (1, Verdict::Forced), "{ended}");
    assert!(ended.report().parts.iter().any(|part| part.name.starts_with("grpc 127.0.0.1:")), "{ended}");
}
