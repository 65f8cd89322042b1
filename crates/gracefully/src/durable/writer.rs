//! The thread that writes and syncs what is wanted, as much as there is each time.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, PoisonError};

use gracefully_linux::writeback;

use super::Shared;
use super::batch::{Batch, Failure};

/// The thread's own.
pub(super) struct Writer<'a> {
    shared: &'a Shared,
    file: &'a File,
    /// Where the file ends.
    end: u64,
    bytes: Vec<u8>,
    /// What is on the disk, and those who wait for it do not know.
    untold: Option<Arc<Batch>>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(shared: &'a Shared, file: &'a File, end: u64) -> Self {
        Self { shared, file, end, bytes: Vec::new(), untold: None }
    }

    /// Until the file is closed and all is written, or the first error.
    pub(super) fn run(mut self) {
        while let Some((batch, upto)) = self.next() {
            match self.write() {
                Ok(()) => {
                    let mut state = self.shared.lock();
                    state.synced = upto;
                    state.batches += 1;
                    self.untold = Some(batch);
                }
                Err(error) => return self.fail(&batch, &error),
            }
        }
        self.tell();
    }

    /// What is to be written next, with the number of its last record, as soon as somebody wants it; `None`: nothing ever.
    fn next(&mut self) -> Option<(Arc<Batch>, u64)> {
        let mut state = self.shared.lock();
        loop {
            if !state.wanted && self.untold.is_some() {
                drop(state);
                self.tell();
                state = self.shared.lock();
                continue;
            }
            while !state.wanted {
                state = self.shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // Whoever has closed it wants everything.
            state.wanted = state.closed;
            if !state.pending.is_empty() {
                break;
            }
            // Whoever wanted it was answered by the batch before.
            if state.closed {
                return None;
            }
        }
        std::mem::swap(&mut state.pending, &mut self.bytes);
        let batch = std::mem::take(&mut state.next);
        state.current = Arc::clone(&batch);
        Some((batch, state.taken))
    }

    fn write(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.bytes);
        // To wake those of the batch before takes longer than everything else here. Meanwhile the disk can begin; a file system that
        // cannot has all to do when it is asked to sync.
        let _ = writeback::start(self.file.as_raw_fd(), self.end, self.bytes.len());
        self.tell();
        self.end += self.bytes.len() as u64;
        self.bytes.clear();
        written.and_then(|()| self.file.sync_data())
    }

    fn tell(&mut self) {
        if let Some(batch) = self.untold.take() {
            batch.finish(Ok(()));
        }
    }

    /// Nothing is written any more, neither this nor what has come meanwhile.
    fn fail(&self, batch: &Batch, error: &io::Error) {
        let failure = Failure { kind: error.kind(), text: error.to_string() };
        let mut state = self.shared.lock();
        state.failure = Some(failure.clone());
        let next = std::mem::take(&mut state.next);
        drop(state);
        for batch in [batch, &next] {
            batch.finish(Err(failure.clone()));
        }
    }
}
