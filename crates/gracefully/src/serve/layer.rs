//! What a service of another server takes part by: a layer, and an answer to readiness probes.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::request::{Answering, Counts};
use crate::shutdown::Shutdown;

/// Counts requests to the end of the body of their answer, and has answers over HTTP/1 say `Connection: close` once the stop was
/// asked for: see [`Shutdown::layer`].
#[derive(Clone, Debug)]
pub struct Layer {
    shutdown: Shutdown,
}

impl<S> tower_layer::Layer<S> for Layer {
    type Service = Answering<S>;

    fn layer(&self, service: S) -> Answering<S> {
        Answering { service, counts: Counts::Alone(self.shutdown.clone()) }
    }
}

/// Answers readiness probes: 200 until the stop is asked for, then 503. See [`Shutdown::readiness`].
#[derive(Clone, Debug)]
pub struct Readiness {
    shutdown: Shutdown,
}

impl<R> Service<Request<R>> for Readiness {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<R>) -> Self::Future {
        let (status, text) = if self.shutdown.is_requested() {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
        } else {
            (StatusCode::OK, "ready\n")
        };
        let mut response = Response::new(text.to_owned());
        *response.status_mut() = status;
        ready(Ok(response))
    }
}

impl Shutdown {
    /// A layer for services that are served by somebody else, `axum::serve` or tonic for example: their requests are waited for in
    /// drain, each is named in the report if it does not end in time, and connections over HTTP/1 are told to close from the
    /// request for the stop on.
    ///
    /// It does not accept, close or cut connections: [`serve`](Self::serve) does, and needs no layer.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// use axum::{Router, routing::get};
    ///
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// let app: Router = Router::new().route("/", get(async || "hello\n")).layer(shutdown.layer());
    /// # drop(app); Ok(()) }
    /// ```
    pub fn layer(&self) -> Layer {
        Layer { shutdown: self.clone() }
    }

    /// A service that answers readiness probes: 200 until the stop is asked for, then 503.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let shutdown = gracefully::Shutdown::builder().without_signals().install()?;
    /// let app: axum::Router = axum::Router::new().route_service("/readyz", shutdown.readiness());
    /// # drop(app); Ok(()) }
    /// ```
    pub fn readiness(&self) -> Readiness {
        Readiness { shutdown: self.clone() }
    }
}
