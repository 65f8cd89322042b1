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

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::future::poll_fn;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;

use rustix::fs::{Advice, fadvise};

/// Length and checksum.
const HEAD: usize = 8;

/// The longest record: 64 MiB. A length beyond it is no length but a remnant.
pub const LONGEST: usize = 64 * 1024 * 1024;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whole records.
    pub records: u64,
    /// Bytes behind the last whole record that were cut off: what a crash has left. None of them was ever acknowledged, unless
    /// somebody else has written to the file or the disk has lost what it had confirmed.
    pub cut: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nobody will append any more.
    work: Condvar,
    /// More is on the disk, or nothing more will be.
    durable: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is to be written next.
    pending: Vec<u8>,
    /// The checksum of the last record in `pending`, or else in the file.
    last: u32,
    /// How many records were taken, and how many of them are on the disk.
    taken: u64,
    synced: u64,
    /// Somebody waits for what is in `pending`; else it may be written when somebody does.
    wanted: bool,
    /// Tasks that wait until so many are on the disk.
    wakers: VecDeque<(u64, Waker)>,
    failure: Option<Failure>,
    closed: bool,
}

/// The error after which nothing is written any more.
#[derive(Clone, Debug)]
struct Failure {
    kind: io::ErrorKind,
    text: String,
}

impl Failure {
    fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }
}

impl Shared {
    /// A panic of another thread leaves a state that is whole: every change of it is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DurableFile {
    /// Opens a file, or makes one, and cuts off what a crash has left behind its last record.
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
            file.set_len(end)?;
        }
        file.seek(SeekFrom::Start(end))?;
        // What was cut must not come back, and what was found must not go: whoever opens it may tell others of it.
        file.sync_all()?;
        sync_dir(parent(path))?;

        let state = State { last, ..State::default() };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), work: Condvar::new(), durable: Condvar::new() });
        let writer = std::thread::Builder::new().name("durable".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                write_all(&shared, &file);
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
        let number = self.take(record, true)?;
        self.wait(number)
    }

    /// Appends a record, and is ready when it is on the disk. If the future is dropped, the record is written all the same.
    pub async fn append_async(&self, record: &[u8]) -> io::Result<()> {
        let number = self.take(record, true)?;
        self.ready(number).await
    }

    /// Appends a record that nobody waits for: it is on the disk after the next [`append`](Self::append) or
    /// [`flush`](Self::flush) of anybody.
    pub fn append_buffered(&self, record: &[u8]) -> io::Result<()> {
        self.take(record, false).map(drop)
    }

    /// Returns when everything that was appended before is on the disk.
    pub fn flush(&self) -> io::Result<()> {
        let number = self.want_all()?;
        self.wait(number)
    }

    /// Is ready when everything that was appended before is on the disk.
    pub async fn flush_async(&self) -> io::Result<()> {
        let number = self.want_all()?;
        self.ready(number).await
    }

    /// Flushes and closes. Whoever drops the file instead has it flushed as well, and does not hear of an error: it goes to standard
    /// error.
    pub fn close(mut self) -> io::Result<()> {
        let flushed = self.flush();
        self.end();
        flushed
    }

    /// Takes a record; gives its number.
    fn take(&self, record: &[u8], wanted: bool) -> io::Result<u64> {
        let length =
            u32::try_from(record.len()).ok().filter(|_| record.len() <= LONGEST).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("a record of {} bytes is too long", record.len()),
                )
            })?;
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.error());
        }
        let sum = checksum(state.last, length, record);
        state.pending.extend_from_slice(&length.to_le_bytes());
        state.pending.extend_from_slice(&sum.to_le_bytes());
        state.pending.extend_from_slice(record);
        state.last = sum;
        state.taken += 1;
        if wanted && !std::mem::replace(&mut state.wanted, true) {
            self.shared.work.notify_one();
        }
        Ok(state.taken)
    }

    /// Has everything written; gives the number of the last record.
    fn want_all(&self) -> io::Result<u64> {
        let mut state = self.shared.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.error());
        }
        if state.synced < state.taken && !std::mem::replace(&mut state.wanted, true) {
            self.shared.work.notify_one();
        }
        Ok(state.taken)
    }

    fn wait(&self, number: u64) -> io::Result<()> {
        let mut state = self.shared.lock();
        loop {
            if let Some(done) = done(&state, number) {
                return done;
            }
            state = self.shared.durable.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    async fn ready(&self, number: u64) -> io::Result<()> {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            if let Some(done) = done(&state, number) {
                return Poll::Ready(done);
            }
            state.wakers.push_back((number, context.waker().clone()));
            Poll::Pending
        })
        .await
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

/// Whether the record with this number is on the disk, or never will be.
fn done(state: &State, number: u64) -> Option<io::Result<()>> {
    if state.synced >= number {
        return Some(Ok(()));
    }
    state.failure.as_ref().map(|failure| Err(failure.error()))
}

/// The thread: writes and syncs what is wanted, as much as there is each time.
fn write_all(shared: &Shared, mut file: &File) {
    let mut batch = Vec::new();
    let mut state = shared.lock();
    loop {
        while !state.wanted {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wanted = false;
        if state.pending.is_empty() {
            // Whoever wanted it was answered by the batch before.
            if state.closed {
                return;
            }
            continue;
        }
        let upto = state.taken;
        std::mem::swap(&mut state.pending, &mut batch);
        let closed = state.closed;
        drop(state);

        let written = file.write_all(&batch).and_then(|()| file.sync_data());
        batch.clear();

        state = shared.lock();
        match written {
            Ok(()) => state.synced = upto,
            Err(error) => state.failure = Some(Failure { kind: error.kind(), text: error.to_string() }),
        }
        shared.durable.notify_all();
        let failed = state.failure.is_some();
        let (woken, waiting) =
            state.wakers.drain(..).partition::<VecDeque<_>, _>(|(number, _)| failed || *number <= upto);
        state.wakers = waiting;
        for (_, waker) in woken {
            waker.wake();
        }
        if failed {
            return;
        }
        // Those who have closed it have seen to it that all is wanted.
        state.wanted |= closed;
    }
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

/// Reads records, as long as they are whole.
struct Scan<R> {
    from: R,
    records: u64,
    /// Behind the last whole record.
    end: u64,
    last: u32,
}

impl<R: Read> Scan<R> {
    fn new(from: R) -> Self {
        Self { from, records: 0, end: 0, last: 0 }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut head = [0; HEAD];
        if !fill(&mut self.from, &mut head)? {
            return Ok(None);
        }
        let [length, sum] =
            [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        if length as usize > LONGEST {
            return Ok(None);
        }
        let mut record = vec![0; length as usize];
        if !fill(&mut self.from, &mut record)? || checksum(self.last, length, &record) != sum {
            return Ok(None);
        }
        self.records += 1;
        self.end += (HEAD + record.len()) as u64;
        self.last = sum;
        Ok(Some(record))
    }
}

/// Reads exactly that much; `false`: there is less.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(into) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn checksum(before: u32, length: u32, record: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&before.to_le_bytes());
    sum.update(&length.to_le_bytes());
    sum.update(record);
    sum.finalize()
}

/// Replaces a file at once, or makes it: whenever the machine stops, the file has the old content or the new one, and when this has
/// returned, the new one.
///
/// Owner and rights of an old file are not taken over. Whoever is killed on the way may leave a file beside it, `.NAME.*.new`, that
/// harms nobody and may be removed.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("state.json");
/// gracefully::durable::atomic_replace(&path, b"{}")?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok(()) }
/// ```
pub fn atomic_replace(path: impl AsRef<Path>, content: &[u8]) -> io::Result<()> {
    let path = path.as_ref();
    let (new, file) = new_beside(path)?;
    let written = replace_by(&new, file, path, content);
    if written.is_err() {
        // What matters is why it could not be written.
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// A new file in the same directory.
///
/// Its name may be taken: in a container every process is PID 1, also the one that was killed before it could rename its own,
/// and one on the same volume that is about to. Neither is ours to remove.
fn new_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no name of a file"))?;
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut new = std::ffi::OsString::from(".");
        new.push(name);
        new.push(format!(".{}.{number}.new", std::process::id()));
        let new = parent(path).join(new);
        match OpenOptions::new().write(true).create_new(true).open(&new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => return Ok((new, file?)),
        }
    }
}

fn replace_by(new: &Path, mut file: File, path: &Path, content: &[u8]) -> io::Result<()> {
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(new, path)?;
    sync_dir(parent(path))
}

/// Writes a directory to the disk: which names there are, and of what. After that a file that was made, renamed or removed in it
/// stays so.
pub fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory in which a path names something.
fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests;
