//! Servers of others: services with our layer and our readiness on `axum::serve`, which nobody tells of the stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures_util::{StreamExt, stream};
use gracefully::{Phase, Shutdown, Verdict};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::{ask, builder, ms};

/// A service with `/stream`, the body of which ends when there is a permit, `/answer`, and `/readyz`.
async fn axum_serves(shutdown: &Shutdown, ends: &Arc<Notify>) -> SocketAddr {
    let ends = Arc::clone(ends);
    let rest = stream::once(async move {
        ends.notified().await;
        io::Result::Ok("end")
    });
    let body = Arc::new(std::sync::Mutex::new(Some(stream::iter([Ok("begin ")]).chain(rest))));
    let streams = async move || Body::from_stream(body.lock().unwrap().take().expect("it is asked once"));
    let app = Router::new()
        .route("/stream", get(streams))
        .route("/0", get(async || "answer"))
        .layer(shutdown.layer())
        .route_service("/readyz", shutdown.readiness());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    at
}

async fn get_on(client: &mut TcpStream, path: &str) {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
}

/// Reads until this has come.
async fn until(client: &mut TcpStream, wanted: &str) -> io::Result<()> {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(wanted) {
        if client.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_request_counts_to_the_end_of_its_body() {
    let (shutdown, ends) = (builder().install().unwrap(), Arc::<Notify>::default());
    let at = axum_serves(&shutdown, &ends).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    get_on(&mut client, "/stream").await;
    until(&mut client, "begin ").await.unwrap();
    shutdown.trigger("test");
    shutdown.token().requested().await;
    assert!(timeout(ms(300), shutdown.wait()).await.is_err(), "the body has not ended");
    ends.notify_one();
    until(&mut client, "end").await.unwrap();
    let ended = timeout(ms(1_000), shutdown.wait()).await.unwrap();
    assert_eq!(ended.report().verdict, Verdict::Graceful, "{ended}");
}

#[tokio::test]
async fn a_body_that_does_not_end_is_named() {
    let (shutdown, ends) = (builder().budget(ms(500)).install().unwrap(), Arc::default());
    let at = axum_serves(&shutdown, &ends).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    get_on(&mut client, "/stream?token=secret").await;
    until(&mut client, "begin ").await.unwrap();
    shutdown.trigger("test");
    let ended = shutdown.wait().await;
    assert_eq!(ended.report().verdict, Verdict::Forced);
    assert!(ended.to_string().contains("; GET /stream (drain): not finished after"), "{ended}");
}

#[tokio::test]
async fn connections_are_told_to_close_while_it_settles() {
    let (shutdown, ends) = (builder().settle(ms(2_000)).install().unwrap(), Arc::default());
    let at = axum_serves(&shutdown, &ends).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut client, 0).await, Some(true));
    shutdown.trigger("test");
    shutdown.requested().await;
    assert_eq!(ask(&mut client, 0).await, Some(false));
    assert!(!shutdown.token().is_requested(), "it settles");
}

#[tokio::test]
async fn a_probe_hears_of_the_stop_while_it_settles() {
    let (shutdown, ends) = (builder().settle(ms(2_000)).install().unwrap(), Arc::default());
    let at = axum_serves(&shutdown, &ends).await;
    let probe = async |expected: StatusCode| {
        let mut client = TcpStream::connect(at).await.unwrap();
        get_on(&mut client, "/readyz").await;
        until(&mut client, &format!("HTTP/1.1 {expected}")).await.unwrap();
    };
    probe(StatusCode::OK).await;
    shutdown.trigger("test");
    shutdown.requested().await;
    probe(StatusCode::SERVICE_UNAVAILABLE).await;
}

/// Metrics and probes are of use to the very end: nobody waits for their server, and nobody stops it.
#[tokio::test]
async fn a_server_that_is_only_spawned_serves_until_the_process_ends() {
    let (shutdown, ends) = (builder().install().unwrap(), Arc::default());
    let at = axum_serves(&shutdown, &ends).await;
    shutdown.on(Phase::Flush, "slow", async move |_| {
        sleep(ms(100)).await;
        let mut client = TcpStream::connect(at).await?;
        get_on(&mut client, "/readyz").await;
        until(&mut client, "503").await
    });
    shutdown.trigger("test");
    let ended = shutdown.wait().await;
    assert_eq!(ended.code(), 0, "{ended}");
}
