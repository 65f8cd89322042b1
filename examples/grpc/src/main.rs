//! A gRPC service on tonic: `grpc [ADDRESS]`.
//!
//! | method | answer |
//! |---|---|
//! | `grpc.health.v1.Health/Check` | `SERVING`, and `NOT_SERVING` from the request for the stop on |
//! | `grpc.health.v1.Health/Watch` | the same, whenever it changes; the stream ends when drain begins |
//! | `example.Work/Sleep` | the milliseconds that it was asked for (`google.protobuf.UInt64Value`), after so long |
//!
//! `GRACEFULLY_SETTLE=5` in the environment gives whoever checks its health time to turn elsewhere before drain: until no
//! request has come for a second, and five seconds at most.

use std::time::Duration;

use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::post;
use gracefully::Shutdown;
use tokio::net::TcpListener;
use tonic::server::Grpc;
use tonic::service::Routes;
use tonic::{Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// By this name the health of the whole server is asked for.
const SERVER: &str = "";

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let shutdown = Shutdown::install()?;
    let (reporter, health) = health_reporter();
    tell_of_the_stop(&shutdown, reporter)?;
    let methods = Routes::new(health).into_axum_router().route("/example.Work/Sleep", post(sleep));
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:50051".into());
    shutdown.serve("grpc", TcpListener::bind(address).await?, Routes::from(methods))?;
    shutdown.wait().await.exit()
}

/// Health says `NOT_SERVING` from the request for the stop on, and its streams end when drain begins.
///
/// They end when their status is cleared, and by nothing else: the service shares the statuses with the reporter, so that dropping
/// the reporter changes nothing, and a stream that does not end keeps its connection until it is cut. From then on a check on a
/// connection that is still there is answered `NOT_FOUND`.
///
/// One task does both, so that no stream ends that has not said `NOT_SERVING`, also if there is no settle between.
fn tell_of_the_stop(shutdown: &Shutdown, mut reporter: HealthReporter) -> std::io::Result<()> {
    let stop = shutdown.clone();
    shutdown.spawn("health", async move |token| {
        stop.requested().await;
        reporter.set_service_status(SERVER, ServingStatus::NotServing).await;
        token.requested().await;
        reporter.clear_service_status(SERVER).await;
    })?;
    Ok(())
}

/// What protoc would generate for `rpc Sleep(google.protobuf.UInt64Value) returns (google.protobuf.UInt64Value)`, and the method.
async fn sleep(request: Request) -> impl IntoResponse {
    let method = service_fn(async |request: tonic::Request<u64>| {
        let milliseconds = request.into_inner();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        Ok::<_, Status>(Response::new(milliseconds))
    });
    Grpc::new(ProstCodec::<u64, u64>::default()).unary(method, request).await
}
