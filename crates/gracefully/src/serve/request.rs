//! Requests: counted until the end of their answer's body, and answered with `Connection: close` once the stop was asked for.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use crate::shutdown::Shutdown;
use crate::tasks::{Doing, Guard};

/// Of a longer path the report shows the beginning.
const LONGEST_PATH: usize = 100;

/// The requests of one connection that are under way.
#[derive(Debug, Default)]
pub(super) struct Requests {
    live: Mutex<Live>,
    http2: AtomicBool,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    /// With their numbers. HTTP/1 has one, HTTP/2 some.
    requests: Vec<(u64, Method, Uri, Instant)>,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has one of them come over HTTP/2?
    pub(super) fn are_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> Begun {
        if request.version() == Version::HTTP_2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        let mut live = self.lock();
        let number = live.next;
        live.next += 1;
        live.requests.push((number, request.method().clone(), request.uri().clone(), Instant::now()));
        Begun { requests: Arc::clone(self), number }
    }
}

impl Doing for Requests {
    fn unfinished(&self) -> Vec<(String, Instant)> {
        let live = self.lock();
        live.requests.iter().map(|(_, method, uri, since)| (name(method, uri), *since)).collect()
    }
}

/// A request of a connection, until this is dropped.
#[derive(Debug)]
struct Begun {
    requests: Arc<Requests>,
    number: u64,
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut live = self.requests.lock();
        if let Some(at) = live.requests.iter().position(|(number, ..)| *number == self.number) {
            live.requests.swap_remove(at);
        }
    }
}

/// What a request is called in the report. Without the query, in which there may be what is nobody's business.
fn name(method: &Method, uri: &Uri) -> String {
    let path = uri.path();
    // It is ASCII: http::Uri takes nothing else.
    path.get(..LONGEST_PATH).map_or_else(|| format!("{method} {path}"), |path| format!("{method} {path}…"))
}

/// Where requests are counted.
#[derive(Clone, Debug)]
pub(super) enum Counts {
    /// In their connection, which is waited for.
    InConnection(Arc<Requests>),
    /// Each by itself.
    Alone,
}

#[derive(Debug)]
#[expect(dead_code, reason = "what matters is when it is dropped")]
enum Counted {
    InConnection(Begun),
    Alone(Guard),
}

/// A service whose requests are counted, and whose answers over HTTP/1 say `Connection: close` once the stop was asked for: what
/// [`Layer`](super::Layer) makes.
#[derive(Clone, Debug)]
pub struct Answering<S> {
    pub(super) service: S,
    pub(super) shutdown: Shutdown,
    pub(super) counts: Counts,
}

impl<S, R, B> Service<Request<R>> for Answering<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<AnswerBody<B>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let counted = match &self.counts {
            Counts::InConnection(requests) => {
                // The connection has been counted; before the stop it is all the same.
                if self.shutdown.is_requested() {
                    self.shutdown.inner.tasks.came_again();
                }
                Counted::InConnection(requests.begin(&request))
            }
            Counts::Alone => {
                let name = name(request.method(), request.uri());
                Counted::Alone(self.shutdown.inner.tasks.enter_always(&name))
            }
        };
        // HTTP/2 has no such header (RFC 9113, 8.2.2).
        let closes = request.version() <= Version::HTTP_11;
        let shutdown = closes.then(|| self.shutdown.clone());
        Answer { future: self.service.call(request), shutdown, counted: Some(counted) }
    }
}

pin_project! {
    /// An answer that is being made.
    #[derive(Debug)]
    pub struct Answer<F> {
        #[pin]
        future: F,
        // Of a version of HTTP with connections that are told to close.
        shutdown: Option<Shutdown>,
        counted: Option<Counted>,
    }
}

impl<F, B, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<AnswerBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(context))?;
        // An upgrade is answered with another value of it.
        let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !upgraded && this.shutdown.as_ref().is_some_and(Shutdown::is_requested) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let counted = this.counted.take();
        Poll::Ready(Ok(response.map(|body| AnswerBody { body, _counted: counted })))
    }
}

pin_project! {
    /// The body of an answer: until its end the request counts.
    #[derive(Debug)]
    pub struct AnswerBody<B> {
        #[pin]
        body: B,
        _counted: Option<Counted>,
    }
}

impl<B: Default> Default for AnswerBody<B> {
    fn default() -> Self {
        Self { body: B::default(), _counted: None }
    }
}

impl<B: Body> Body for AnswerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_show_no_query_and_no_end_of_what_is_long() {
        let name = |uri: &str| name(&Method::GET, &uri.parse().unwrap());
        assert_eq!(name("/orders?token=secret"), "GET /orders");
        assert_eq!(name("http://service/orders"), "GET /orders");
        let long = name(&format!("/{}", "x".repeat(500)));
        assert_eq!((long.chars().count(), long.ends_with('…')), (4 + LONGEST_PATH + 1, true));
    }

    #[test]
    fn what_has_ended_is_not_named() {
        let requests = Arc::new(Requests::default());
        let [one, two] = ["/one", "/two"].map(|path| requests.begin(&Request::get(path).body(()).unwrap()));
        drop(one);
        let named: Vec<String> = requests.unfinished().into_iter().map(|(name, _)| name).collect();
        assert_eq!(named, ["GET /two"]);
        drop(two);
        assert!(requests.unfinished().is_empty() && !requests.are_http2());
    }
}
