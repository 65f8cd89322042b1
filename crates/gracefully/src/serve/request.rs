//! Requests: counted until the end of their answer's body, and answered with `Connection: close` once the stop was asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::conversation::{Begun, Conversation, name};
use crate::shutdown::Shutdown;
use crate::tasks::Guard;

/// Where requests are counted, and whether the stop was asked for.
///
/// In a connection nothing is touched that others touch, too: not even a counter of references.
#[derive(Clone, Debug)]
pub(super) enum Counts {
    /// In their connection, which is waited for.
    InConnection(Arc<Conversation>),
    /// Each by itself.
    Alone(Shutdown),
}

impl Counts {
    fn begin<B>(&self, request: &Request<B>) -> Counted {
        match self {
            Self::InConnection(conversation) => Counted::InConnection(conversation.begin(request)),
            Self::Alone(shutdown) => {
                let guard = shutdown.inner.tasks.enter_always(&name(request.method(), request.uri()));
                Counted::Alone(guard, shutdown.clone())
            }
        }
    }
}

#[derive(Debug)]
enum Counted {
    InConnection(Begun),
    Alone(#[expect(dead_code, reason = "what matters is when it is dropped")] Guard, Shutdown),
}

impl Counted {
    fn is_requested(&self) -> bool {
        match self {
            Self::InConnection(begun) => begun.is_requested(),
            Self::Alone(_, shutdown) => shutdown.is_requested(),
        }
    }
}

/// A service whose requests are counted, and whose answers over HTTP/1 say `Connection: close` once the stop was asked for: what
/// [`Layer`](super::Layer) makes.
#[derive(Clone, Debug)]
pub struct Answering<S> {
    pub(super) service: S,
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
        let counted = Some(self.counts.begin(&request));
        let version = request.version();
        Answer { future: self.service.call(request), version, counted }
    }
}

pin_project! {
    /// An answer that is being made.
    #[derive(Debug)]
    pub struct Answer<F> {
        #[pin]
        future: F,
        version: Version,
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
        let counted = this.counted.take();
        // HTTP/2 has no such header (RFC 9113, 8.2.2).
        let closes = *this.version <= Version::HTTP_11 && !upgraded;
        if closes && counted.as_ref().is_some_and(Counted::is_requested) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            if *this.version == Version::HTTP_10 {
                // Or hyper adds `keep-alive` for a client that has asked for it.
                *response.version_mut() = Version::HTTP_10;
            }
        }
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
