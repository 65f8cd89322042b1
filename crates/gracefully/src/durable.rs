//! Data that is on the disk when it was said to be: an append-only file of records, and files that are replaced at once.
//!
//! # What a disk promises
//! `write(2)` puts data into the kernel's memory. It survives the end of the process, `kill -9` included, and nothing else: for
//! that the kernel has to be asked (fdatasync(2)). That is slow, milliseconds on many disks, and takes as long for a
//! thousand records as for one. So those who wait at the same time are written and synced together (*group commit*), each
//! of them hears of its own record when that is on the disk, and nobody waits for a timer.
//!
//! **An error is final.** When fdatasync fails, the kernel may have thrown the data away and marked it clean, and the next
//! fdatasync succeeds although it wrote nothing (<https://wiki.postgresql.org/wiki/Fsync_Errors>). So it is not repeated: from the
//! first error on every append fails with it, and what was acknowledged before stays true. Whoever opens the file next would find
//! what the kernel has in memory only, and a power cut would take that and all that was appended to it; so the file is read from
//! the disk then.
//!
//! **A name is data, too.** A file that is new, or was renamed, is only found after a power cut when its directory was synced.
//!
//! # The file
//! A record is its length and a checksum, four bytes each with the lowest first, and its bytes. The checksum (CRC-32) goes over the
//! checksum of the record before, the length and the bytes. So whatever a crash leaves behind the last record that is whole, half
//! a record or remains of something older, is not taken for one: [`DurableFile::open`] cuts it off and says so.
//!
//! All I/O is of `std::fs`, in a thread of its own: what `tokio::fs::File` acknowledges may be in a buffer whose errors come too late.

mod batch;
mod records;
mod replace;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{Advice, fadvise};

use self::batch::{Batch, Failure};
use self::records::{Scan, encode};
use self::replace::parent;
use self::writer::Writer;

pub use self::records::LONGEST;
pub use self::replace::{atomic_replace, sync_dir};

/// An append-only file of records, each of which is acknowledged when it is on the disk.
///
/// It may be shared by any number of threads and tasks. At the end [`close`](Self::close) says whether everything is on the disk.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("orders");
/// use gracefully::durable::DurableFile;
///
/// let (orders, found) = DurableFile::open(&path)?;
/// assert_eq!((found.records, found.cut), (0, 0));
/// orders.append(b"one coffee")?; // it is on the disk
/// orders.append_buffered(b"one tea")?; // it will be,
/// orders.flush()?; // and is
/// orders.close()?;
/// assert_eq!(DurableFile::read(&path)?, [b"one coffee".to_vec(), b"one tea".to_vec()]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DurableFile {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// What was in a file when it was opened.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("orders");
/// std::fs::write(&path, b"a remnant")?;
/// let (_orders, found) = gracefully::durable::DurableFile::open(&path)?;
/// assert_eq!((found.records, found.cut), (0, 9));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whole records.
    pub records: u64,
    /// Bytes behind the last whole record that were cut off, and are kept in a file with `.cut` behind its name: what a crash has
    /// left. None of them was ever acknowledged, unless somebody else has written to the file or the disk has lost what it had
    /// confirmed.
    pub cut: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nobody will append any more.
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is to be written next, and those who wait for it.
    pending: Vec<u8>,
    next: Arc<Batch>,
    /// What is being written, or was written last.
    current: Arc<Batch>,
    /// The checksum of the last record in `pending`, or else in the file.
    last: u32,
    /// How many records were taken, and how many of them are on the disk.
    taken: u64,
    synced: u64,
    /// How many batches that were.
    batches: u64,
    /// Somebody waits for what is in `pending`; else it may be written when somebody does.
    wanted: bool,
    failure: Option<Failure>,
    closed: bool,
}

impl Shared {
    /// A panic of another thread leaves a state that is whole: every change of it is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DurableFile {
    /// Opens a file, or makes one, and cuts off what a crash has left behind its last record. What was cut off is appended to a file
    /// beside it, `PATH.cut`: a file of something else, and one of which the disk has changed a bit, look the same.
    ///
    /// Fails with `WouldBlock` if somebody else has it open, and with whatever the system says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<(Self, Found)> {
        let path = path.as_ref();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, format!("{} is open elsewhere", path.display()))
            }
        })?;
        read_from_disk(&file)?;
        let mut scan = Scan::new(BufReader::new(&file));
        while scan.next()?.is_some() {}
        let Scan { records, end, last, .. } = scan;
        let length = file.metadata()?.len();
        if end < length {
            file.seek(SeekFrom::Start(end))?;
            keep(path, &mut file)?;
            file.set_len(end)?;
        }
        file.seek(SeekFrom::Start(end))?;
        // What was cut must not come back, and what was found must not go: whoever opens it may tell others of it.
        file.sync_all()?;
        sync_dir(parent(path))?;

        let state = State { last, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), work: Condvar::new() });
        let writer = std::thread::Builder::new().name("durable".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                Writer::new(&shared, &file, end).run();
                // A child that is just being started has it open, too, until it executes its program.
                let _ = file.unlock();
            }
        })?;
        Ok((Self { shared, writer: Some(writer) }, Found { records, cut: length - end }))
    }

    /// All whole records of a file that nobody is writing.
    ///
    /// After an error of the disk some may be in memory only. [`open`](Self::open) sees to it that they are not found, so whoever
    /// builds on what is read opens the file first.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<Vec<u8>>> {
        let mut scan = Scan::new(BufReader::new(File::open(path)?));
        let mut all = Vec::new();
        while let Some(record) = scan.next()? {
            all.push(record);
        }
        Ok(all)
    }

    /// Appends a record, and returns when it is on the disk.
    ///
    /// It blocks the thread; a task uses [`append_async`](Self::append_async).
    pub fn append(&self, record: &[u8]) -> io::Result<()> {
        self.take(record, true)?.wait()
    }

    /// Appends a record, and is ready when it is on the disk. If the future is dropped, the record is written all the same.
    pub async fn append_async(&self, record: &[u8]) -> io::Result<()> {
        self.take(record, true)?.ready().await
    }

    /// Appends a record that nobody waits for: it is on the disk after the next [`append`](Self::append) or
    /// [`flush`](Self::flush) of anybody.
    pub fn append_buffered(&self, record: &[u8]) -> io::Result<()> {
        self.take(record, false).map(drop)
    }

    /// Returns when everything that was appended before is on the disk.
    pub fn flush(&self) -> io::Result<()> {
        self.want_all()?.map_or(Ok(()), |batch| batch.wait())
    }

    /// Is ready when everything that was appended before is on the disk.
    pub async fn flush_async(&self) -> io::Result<()> {
        match self.want_all()? {
            Some(batch) => batch.ready().await,
            None => Ok(()),
        }
    }

    /// How many times records were written and synced since it was opened. Each time is a batch of those who waited: the fewer for a
    /// number of records, the less the disk had to do for each.
    pub fn batches(&self) -> u64 {
        self.shared.lock().batches
    }

    /// Flushes and closes. Whoever drops the file instead has it flushed as well, and does not hear of an error: it goes to standard
    /// error.
    pub fn close(mut self) -> io::Result<()> {
        let flushed = self.flush();
        self.end();
        flushed
    }

    /// Takes a record; gives the batch with which it is written.
    fn take(&self, record: &[u8], wanted: bool) -> io::Result<Arc<Batch>> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.error());
        }
        let before = state.last;
        let Some(sum) = encode(&mut state.pending, before, record) else {
            let text = format!("a record of {} bytes is too long", record.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        state.last = sum;
        state.taken += 1;
        let batch = Arc::clone(&state.next);
        if wanted {
            self.want(state);
        }
        Ok(batch)
    }

    /// Has everything written; gives the last batch, if it is not on the disk.
    fn want_all(&self) -> io::Result<Option<Arc<Batch>>> {
        let state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.error());
        }
        if state.pending.is_empty() {
            return Ok((state.synced < state.taken).then(|| Arc::clone(&state.current)));
        }
        let batch = Arc::clone(&state.next);
        self.want(state);
        Ok(Some(batch))
    }

    /// Tells the thread that what is pending is wanted, unless it knows.
    fn want(&self, mut state: MutexGuard<'_, State>) {
        let knows = std::mem::replace(&mut state.wanted, true);
        drop(state);
        if !knows {
            self.shared.work.notify_one();
        }
    }

    /// Lets the thread write what is left, and end.
    fn end(&mut self) {
        let mut state = self.shared.lock();
        (state.closed, state.wanted) = (true, true);
        self.shared.work.notify_one();
        drop(state);
        if let Some(writer) = self.writer.take() {
            // A panic there has been printed; it has nothing that could panic but allocation.
            let _ = writer.join();
        }
    }
}

impl Drop for DurableFile {
    fn drop(&mut self) {
        if self.writer.is_none() {
            return;
        }
        self.end();
        let state = self.shared.lock();
        if let Some(failure) = state.failure.as_ref().filter(|_| state.synced < state.taken) {
            let lost = state.taken - state.synced;
            // Nobody hears that nobody hears it.
            let _ = writeln!(io::stderr(), "{lost} records were not written: {}", failure.text);
        }
    }
}

/// Appends the rest of a file to the one beside it in which is what was cut off. It may be data of somebody who has named the wrong
/// file, or of a disk that has changed a bit of what was there.
fn keep(path: &Path, rest: &mut File) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".cut");
    let mut kept = OpenOptions::new().append(true).create(true).open(&beside)?;
    io::copy(rest, &mut kept)?;
    kept.sync_all()
}

/// Has the kernel forget what it has of a file in memory, so that the disk is read.
///
/// What it has not written yet it writes first. But what it could not write stays there as if it had been written, and only whoever
/// syncs first is told.
fn read_from_disk(file: &File) -> io::Result<()> {
    file.sync_all()?;
    // A file system that is all memory, or cannot do so, has nothing better.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
    Ok(())
}

#[cfg(test)]
mod tests;
