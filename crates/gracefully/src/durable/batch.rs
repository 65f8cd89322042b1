//! Records that are written and synced together, and those who wait for them.
//!
//! Waking somebody costs the one who wakes some microseconds, and a sync of a good disk takes not many more. So whoever has synced
//! wakes one thread and syncs the next batch, and that thread wakes the others.

use std::future::poll_fn;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// The error after which nothing is written any more.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: io::ErrorKind,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }
}

/// One batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    state: Mutex<State>,
    finished: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Once it is on the disk, or never will be.
    written: Option<Result<(), Failure>>,
    /// Threads that wait.
    threads: u32,
    /// Tasks that wait.
    tasks: Vec<Waker>,
}

impl State {
    fn written(&self) -> Option<io::Result<()>> {
        Some(self.written.as_ref()?.as_ref().map(|&()| ()).map_err(Failure::error))
    }
}

impl Batch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is on the disk, or never will be.
    pub(super) fn finish(&self, written: Result<(), Failure>) {
        let mut state = self.lock();
        state.written = Some(written);
        let tasks = std::mem::take(&mut state.tasks);
        drop(state);
        self.finished.notify_one();
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Blocks the thread until then.
    pub(super) fn wait(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.threads += 1;
        loop {
            if let Some(written) = state.written() {
                // The first one wakes all others, once.
                let others = std::mem::take(&mut state.threads) > 1;
                drop(state);
                if others {
                    self.finished.notify_all();
                }
                return written;
            }
            state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Is ready then.
    pub(super) async fn ready(&self) -> io::Result<()> {
        let mut place = None;
        poll_fn(|context| {
            let mut state = self.lock();
            if let Some(written) = state.written() {
                return Poll::Ready(written);
            }
            let place = *place.get_or_insert(state.tasks.len());
            if place == state.tasks.len() {
                state.tasks.push(context.waker().clone());
            } else {
                state.tasks[place].clone_from(context.waker());
            }
            Poll::Pending
        })
        .await
    }
}
