//! One connection, as far as the stop needs to know: the requests that are under way on it, and how far it has heard of the stop.
//!
//! It is looked at for every request, and so it costs nothing that connections share: a lock or a counter of all would be the
//! slowest part of a quick answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::{Method, Request, Uri, Version};
use tokio::time::Instant;

use crate::tasks::{Doing, Stage};

/// Of a longer path the report shows the beginning.
const LONGEST_PATH: usize = 100;

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    live: Mutex<Live>,
    is_http2: AtomicBool,
    stage: AtomicU8,
    wakers: Mutex<[Option<Waker>; 3]>,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    /// `next` when somebody asked how many have come.
    told: u64,
    /// With their numbers. HTTP/1 has one, HTTP/2 some.
    requests: Vec<(u64, Method, Uri, Instant)>,
}

/// Who is woken when the stop goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// The task that serves the connection.
    Task,
    /// Whoever reads it, which after an upgrade is another one.
    Reader,
    /// Whoever writes to it.
    Writer,
}

impl Conversation {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a request come over HTTP/2?
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// Has the stop come so far?
    pub(super) fn has_heard(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }

    /// Has this task woken when the stop goes on.
    pub(super) fn wake_me(&self, who: Who, context: &Context<'_>) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut wakers[who as usize];
        if !place.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *place = Some(context.waker().clone());
        }
    }

    /// Waits for something, which has the first word, until the stop has come so far; `None`: it has.
    pub(super) async fn until<T>(
        &self,
        stage: Stage,
        mut what: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut is_known = false;
        poll_fn(|context| {
            if let Poll::Ready(done) = what.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            // A task has one waker for its whole life.
            if !std::mem::replace(&mut is_known, true) {
                self.wake_me(Who::Task, context);
            }
            if self.has_heard(stage) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// A request has come.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> Begun {
        if request.version() == Version::HTTP_2 {
            self.is_http2.store(true, Ordering::Relaxed);
        }
        let mut live = self.lock();
        let number = live.next;
        live.next += 1;
        live.requests.push((number, request.method().clone(), request.uri().clone(), Instant::now()));
        Begun { conversation: Arc::clone(self), number }
    }
}

impl Doing for Conversation {
    fn begun(&self) -> u32 {
        let mut live = self.lock();
        let begun = live.next - live.told;
        live.told = live.next;
        u32::try_from(begun).unwrap_or(u32::MAX)
    }

    fn unfinished(&self) -> Vec<(String, Instant)> {
        let live = self.lock();
        live.requests.iter().map(|(_, method, uri, since)| (name(method, uri), *since)).collect()
    }

    fn hear(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        // While it settles HTTP/1 has nothing to do but to answer differently.
        if stage < Stage::Closing && !self.is_http2() {
            return;
        }
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }
}

/// A request, until this is dropped.
#[derive(Debug)]
pub(super) struct Begun {
    conversation: Arc<Conversation>,
    number: u64,
}

impl Begun {
    /// Was the stop asked for?
    pub(super) fn is_requested(&self) -> bool {
        self.conversation.has_heard(Stage::Settling)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut live = self.conversation.lock();
        if let Some(at) = live.requests.iter().position(|(number, ..)| *number == self.number) {
            live.requests.swap_remove(at);
        }
    }
}

/// What a request is called in the report. Without the query, in which there may be what is nobody's business.
pub(super) fn name(method: &Method, uri: &Uri) -> String {
    let path = uri.path();
    // It is ASCII: http::Uri takes nothing else.
    path.get(..LONGEST_PATH).map_or_else(|| format!("{method} {path}"), |path| format!("{method} {path}…"))
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
        let conversation = Arc::new(Conversation::default());
        let [one, two] =
            ["/one", "/two"].map(|path| conversation.begin(&Request::get(path).body(()).unwrap()));
        drop(one);
        let named: Vec<String> = conversation.unfinished().into_iter().map(|(name, _)| name).collect();
        assert_eq!(named, ["GET /two"]);
        drop(two);
        assert!(conversation.unfinished().is_empty() && !conversation.is_http2());
    }
}
