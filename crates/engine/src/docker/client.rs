//! The few calls of the Engine API that we need.
//!
//! Requests carry no API version: the daemon then speaks its newest one. Which one that is, and whether it is Docker or
//! Podman, stands in the head of every answer, so finding out costs no request of its own.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::errors;
use super::transport::Transport;
use crate::{Error, Result};

/// How long a question may take.
pub(super) const QUESTION: Duration = Duration::from_secs(10);

/// How long an order may take beyond the time that it grants the container: after SIGKILL dockerd waits 10 s for the
/// end, 2 s more after a kill(2) of its own, 2 s for the streams, and then releases the network.
pub(super) const ORDER: Duration = Duration::from_secs(30);

/// The longest answer to a question that makes sense.
const MAX_ANSWER: usize = 64 << 20;

/// A daemon, and what is known of it.
#[derive(Debug)]
pub(super) struct Client {
    transport: Transport,
    daemon: OnceLock<Daemon>,
}

/// What a daemon says of itself in the head of every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Daemon {
    pub(super) flavour: Flavour,
    pub(super) api: Api,
}

/// Who made the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Docker,
    Podman,
}

/// A version of the Engine API, such as 1.41.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Api(pub(super) u32, pub(super) u32);

/// A request: method, path and query.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: Method,
    target: String,
}

impl Call {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, target: path.into() }
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self { method: Method::POST, target: path.into() }
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, target: path.into() }
    }

    /// Adds `name=value` to the query, if there is a value.
    pub(super) fn with(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.target.push(if self.target.contains('?') { '&' } else { '?' });
            self.target.push_str(name);
            self.target.push('=');
            self.target.push_str(&escape(&value.to_string()));
        }
        self
    }
}

/// A text for a path's segment or a query's value: all but RFC 3986's unreserved characters are escaped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ => write!(escaped, "%{byte:02X}").expect("writing to a string"),
        }
    }
    escaped
}

impl Client {
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self> {
        Ok(Self { transport: Transport::new(endpoint)?, daemon: OnceLock::new() })
    }

    pub(super) fn is_local(&self) -> bool {
        self.transport.is_local()
    }

    /// Which daemon this is; asks only if no answer has come yet.
    pub(super) async fn daemon(&self) -> Result<Daemon> {
        if self.daemon.get().is_none() {
            self.order(Call::get("/_ping"), Some(QUESTION)).await?;
        }
        self.daemon
            .get()
            .copied()
            .ok_or_else(|| self.nonsense("it is no Docker daemon: it names no API version"))
    }

    /// Asks a question whose answer is JSON.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        self.within(Some(QUESTION), async { self.open(call).await?.json().await }).await
    }

    /// Gives an order whose answer has nothing in it. That there was nothing to do (304) is no failure.
    pub(super) async fn order(&self, call: Call, within: Option<Duration>) -> Result<()> {
        self.within(within, async { self.open(call).await?.bytes().await.map(drop) }).await
    }

    /// Sends a request; returns with the head of a good answer, whose body can then be read as it comes.
    pub(super) async fn open(&self, call: Call) -> Result<Answer> {
        let request = Request::builder().method(call.method).uri(&call.target).body(String::new());
        let request = request.map_err(|error| self.nonsense(error.to_string()))?;
        let (head, body) = self.transport.send(request).await.map(Response::into_parts)?;
        if let Some(daemon) = Daemon::from_headers(&head.headers) {
            let _ = self.daemon.set(daemon);
        }
        let answer = Answer { address: self.transport.address.clone(), body };
        if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED {
            Ok(answer)
        } else {
            let text = self.within(Some(QUESTION), answer.bytes()).await?;
            Err(errors::refused(head.status, &text))
        }
    }

    /// Gives `work` a deadline.
    pub(super) async fn within<T>(
        &self,
        limit: Option<Duration>,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(after) = limit else { return work.await };
        let expired = |_| Error::Timeout { who: self.transport.address.clone(), after };
        timeout(after, work).await.map_err(expired)?
    }

    fn nonsense(&self, why: impl Into<String>) -> Error {
        Error::Lost { address: self.transport.address.clone(), why: why.into() }
    }
}

/// The answer to a request, with its body still coming.
#[derive(Debug)]
pub(super) struct Answer {
    address: String,
    body: Incoming,
}

impl Answer {
    /// The rest of the body. No deadline of its own.
    pub(super) async fn bytes(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(self.nonsense("its answer does not end"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The rest of the body, as JSON. No deadline of its own.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T> {
        let address = self.address.clone();
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Lost {
            address,
            why: format!("its answer is not the JSON that was asked for: {error}"),
        })
    }

    /// The next piece of the body; `None` at its proper end. Dropping the future loses nothing.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await {
            let frame = frame.map_err(|error| errors::lost(&self.address, &error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The same, within a time.
    pub(super) async fn chunk_within(&mut self, limit: Option<Duration>) -> Result<Option<Bytes>> {
        let Some(after) = limit else { return self.chunk().await };
        match timeout(after, self.chunk()).await {
            Ok(chunk) => chunk,
            Err(_) => Err(Error::Timeout { who: self.address.clone(), after }),
        }
    }

    /// What came makes no sense.
    pub(super) fn nonsense(&self, why: impl Into<String>) -> Error {
        Error::Lost { address: self.address.clone(), why: why.into() }
    }
}

impl Daemon {
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let (major, minor) = headers.get("api-version")?.to_str().ok()?.split_once('.')?;
        let api = Api(major.parse().ok()?, minor.parse().ok()?);
        let podman = headers.contains_key("libpod-api-version");
        Some(Self { flavour: if podman { Flavour::Podman } else { Flavour::Docker }, api })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_are_escaped() {
        let call = Call::post("/containers/x/stop")
            .with("signal", Some("SIGRTMIN+3"))
            .with("t", None::<i64>)
            .with("odd", Some("a b&c=\u{e9}"));
        assert_eq!(call.target, "/containers/x/stop?signal=SIGRTMIN%2B3&odd=a%20b%26c%3D%C3%A9");
    }

    #[test]
    fn the_head_of_an_answer_names_the_daemon() {
        let daemon = |headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            Daemon::from_headers(&headers.collect())
        };
        assert_eq!(
            daemon(&[("Api-Version", "1.41"), ("Server", "Docker/20.10.24 (linux)")]),
            Some(Daemon { flavour: Flavour::Docker, api: Api(1, 41) })
        );
        assert_eq!(
            daemon(&[("Api-Version", "1.40"), ("Libpod-Api-Version", "4.3.1")]),
            Some(Daemon { flavour: Flavour::Podman, api: Api(1, 40) })
        );
        assert_eq!(daemon(&[("Api-Version", "latest")]), None);
        assert_eq!(daemon(&[]), None);
        assert!(Api(1, 41) < Api(1, 42) && Api(1, 9) < Api(1, 41));
    }
}
