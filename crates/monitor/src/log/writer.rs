//! Writing a log. It never fails: the program must go on also when the disk is full.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use gracefully_core::diagnosis::{Code, Finding};
use gracefully_core::time::Timestamp;
use gracefully_linux::Errno;
use gracefully_linux::errno::Described;
use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, ftruncate, openat, renameat};
use rustix::io::{pread, read, retry_on_intr};

use super::{CURRENT, FILE, LogStream, OLDER, PIECE, encode};
use crate::files::{PRIVATE, write};

/// What is kept of the memory for entries: enough for lines of ordinary length.
const KEPT: usize = 64 * 1024;

/// The log of one container, open for writing.
#[derive(Debug)]
pub struct LogWriter {
    dir: OwnedFd,
    /// `None` if it could not be opened; that is tried again.
    file: Option<OwnedFd>,
    /// Its size: everything up to here is whole entries.
    size: u64,
    /// Bytes of output that were lost in all.
    lost: u64,
    /// Those that no entry in the log tells of yet.
    untold: u64,
    why: Option<Errno>,
    entries: Vec<u8>,
}

impl LogWriter {
    /// Opens the log in a container's directory, at its end. `lost` bytes have been lost before.
    pub fn open(dir: OwnedFd, lost: u64) -> Self {
        let mut log = Self { dir, file: None, size: 0, lost, untold: 0, why: None, entries: Vec::new() };
        log.reopen();
        log
    }

    /// Appends what the program has written by `now`. What cannot be written is dropped and counted; as soon as there is
    /// room again, an entry says how much it was.
    pub fn write(&mut self, now: Timestamp, stream: LogStream, bytes: &[u8]) {
        let mut entries = core::mem::take(&mut self.entries);
        entries.clear();
        if self.untold > 0 {
            let note = format!("gracefully: {}\n", self.in_words(self.untold));
            encode(now, LogStream::Stderr, note.as_bytes(), &mut entries);
        }
        encode(now, stream, bytes, &mut entries);
        match self.append(&entries) {
            Ok(()) => self.untold = 0,
            Err(errno) => {
                self.lost += bytes.len() as u64;
                self.untold += bytes.len() as u64;
                self.why = Some(errno);
            }
        }
        // A program that writes a thousand empty lines at once does not do so always.
        if entries.capacity() <= KEPT {
            self.entries = entries;
        }
    }

    /// May more be written? Not while the file is full and somebody has still to read the one before it. Whoever writes
    /// nevertheless makes the file larger.
    pub fn has_room(&self) -> bool {
        self.size < FILE || !self.is_older_awaited()
    }

    /// Has somebody locked the older file, because they have not read it yet?
    fn is_older_awaited(&self) -> bool {
        let older = openat(&self.dir, OLDER, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        // The lock ends with the file that was opened here.
        older.is_ok_and(|older| {
            flock(&older, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        })
    }

    /// To be called before the files are removed: a reader that has still to read the older one, and has not opened its
    /// successor yet, finds the text of that at the end of the older one. Until the lock that is returned is dropped nobody
    /// else opens the successor in order to wait for it, and then it is gone.
    pub fn hand_over(&self) -> Option<OwnedFd> {
        if !self.is_older_awaited() {
            return None;
        }
        let current = openat(&self.dir, CURRENT, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        flock(&current, FlockOperation::NonBlockingLockExclusive).ok()?;
        let older =
            openat(&self.dir, OLDER, OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC, Mode::empty())
                .ok()?;
        let mut piece = Vec::with_capacity(PIECE);
        while let Ok(1..) = retry_on_intr(|| read(&current, spare_capacity(&mut piece))) {
            write(&older, &piece).ok()?;
            piece.clear();
        }
        Some(current)
    }

    /// How many bytes of output have been lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What a report should say about lost output.
    pub fn finding(&self) -> Option<Finding> {
        let hint = "Make room where the log is; GRACEFULLY_STATE_DIR chooses another place.";
        (self.lost > 0)
            .then(|| Finding::new(Code::Storage, format!("{}.", self.in_words(self.lost))).hint(hint))
    }

    fn in_words(&self, bytes: u64) -> String {
        let why = self.why.map(|why| format!(": {}", Described(why))).unwrap_or_default();
        format!("{bytes} bytes of output were lost{why}")
    }

    /// All of `entries`, or nothing.
    fn append(&mut self, entries: &[u8]) -> Result<(), Errno> {
        if self.size >= FILE && !self.is_older_awaited() {
            // If this fails the file grows on, which is better than losing output.
            let _ = renameat(&self.dir, CURRENT, &self.dir, OLDER);
            self.reopen();
        }
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = &self.file else { return Err(self.why.unwrap_or(Errno::NOENT)) };
        match write(file, entries) {
            Ok(()) => {
                self.size += entries.len() as u64;
                Ok(())
            }
            Err(errno) => {
                // A part may have been written: take it back, so that the next entry begins on a line of its own.
                let _ = ftruncate(file, self.size);
                Err(errno)
            }
        }
    }

    fn reopen(&mut self) {
        match self.opened() {
            Ok((file, size)) => (self.file, self.size) = (Some(file), size),
            Err(errno) => (self.file, self.size, self.why) = (None, 0, Some(errno)),
        }
    }

    /// The file and its size. A monitor that was killed may have left half an entry: it gets its line feed.
    fn opened(&self) -> Result<(OwnedFd, u64), Errno> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        let file = openat(&self.dir, CURRENT, flags, PRIVATE)?;
        let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        let mut last = [b'\n'];
        if size > 0 {
            pread(&file, &mut last, size - 1)?;
        }
        if last == *b"\n" {
            return Ok((file, size));
        }
        write(&file, b"\n")?;
        Ok((file, size + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;
    use crate::log::Entry;
    use crate::testing::Scratch;
    use rustix::fd::AsFd;
    use rustix::fs::CWD;

    const NOW: Timestamp = Timestamp::BEGINNING;

    fn entries(dir: &Scratch, file: &str) -> Vec<String> {
        let log = files::read(dir, file, 1 << 20).unwrap();
        let lines = log.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| match Entry::parse(line) {
                Some(entry) => String::from_utf8_lossy(&line[entry.text]).into_owned(),
                None => format!("torn: {}", String::from_utf8_lossy(line)),
            })
            .collect()
    }

    fn open(dir: &Scratch, lost: u64) -> LogWriter {
        LogWriter::open(dir.as_fd().try_clone_to_owned().unwrap(), lost)
    }

    #[test]
    fn a_torn_entry_does_not_swallow_the_next() {
        let dir = Scratch::new();
        files::replace(&dir, CURRENT, b"2016-10-06T00:17:09.66").unwrap();
        let mut log = open(&dir, 0);
        log.write(NOW, LogStream::Stdout, b"hello\n");
        assert_eq!(entries(&dir, CURRENT), ["torn: 2016-10-06T00:17:09.66", "hello"]);
    }

    #[test]
    fn a_full_file_is_put_aside() {
        let dir = Scratch::new();
        let mut log = open(&dir, 0);
        log.write(NOW, LogStream::Stdout, b"first\n");
        log.size = FILE;
        log.write(NOW, LogStream::Stdout, b"second\n");
        assert_eq!(entries(&dir, OLDER), ["first"]);
        assert_eq!(entries(&dir, CURRENT), ["second"]);
        assert_eq!(log.lost(), 0);
    }

    #[test]
    fn what_is_still_to_be_read_is_not_replaced() {
        let dir = Scratch::new();
        let mut log = open(&dir, 0);
        assert!(log.has_room());
        log.size = FILE;
        assert!(log.has_room(), "there is no older file");
        log.write(NOW, LogStream::Stdout, b"first\n");
        let older = openat(&dir, OLDER, OFlags::RDONLY, Mode::empty());
        assert!(older.is_ok(), "an empty one was put aside");
        flock(older.as_ref().unwrap(), FlockOperation::LockShared).unwrap();
        assert!(log.has_room(), "the file is not full");
        log.size = FILE;
        assert!(!log.has_room());
        log.write(NOW, LogStream::Stdout, b"second\n");
        assert_eq!(entries(&dir, CURRENT), ["first", "second"], "nothing is lost, and nothing put aside");
        drop(older);
        assert!(log.has_room(), "who is gone is not waited for");
        log.write(NOW, LogStream::Stdout, b"third\n");
        assert_eq!(entries(&dir, OLDER), ["first", "second"]);
    }

    #[test]
    fn what_is_removed_is_handed_over_to_who_has_still_to_read_it() {
        let dir = Scratch::new();
        let mut log = open(&dir, 0);
        log.write(NOW, LogStream::Stdout, b"first\n");
        assert!(log.hand_over().is_none(), "there is only one file");
        log.size = FILE;
        log.write(NOW, LogStream::Stdout, b"second\n");
        assert!(log.hand_over().is_none(), "nobody reads it");
        let held = |name| {
            let file = openat(&dir, name, OFlags::RDONLY, Mode::empty()).unwrap();
            flock(&file, FlockOperation::LockShared).map(|()| file)
        };
        let older = held(OLDER).unwrap();
        let current = held(CURRENT).unwrap();
        assert!(log.hand_over().is_none(), "the reader has both");
        assert_eq!(entries(&dir, OLDER), ["first"]);
        drop(current);
        assert!(log.hand_over().is_some());
        assert_eq!(entries(&dir, OLDER), ["first", "second"]);
        drop(older);
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_told() {
        let dir = Scratch::new();
        let mut log = open(&dir, 5);
        // As with ENOSPC: this file refuses every byte.
        log.file = Some(openat(CWD, "/dev/full", OFlags::WRONLY, Mode::empty()).unwrap());
        log.write(NOW, LogStream::Stdout, b"lost\n");
        log.write(NOW, LogStream::Stdout, b"lost too\n");
        assert_eq!(log.lost(), 19);

        log.file = None;
        log.write(NOW, LogStream::Stdout, b"kept\n");
        log.write(NOW, LogStream::Stdout, b"kept too\n");
        assert_eq!(log.lost(), 19);
        assert_eq!(
            entries(&dir, CURRENT),
            [
                "gracefully: 14 bytes of output were lost: No space left on device (os error 28)",
                "kept",
                "kept too"
            ]
        );
    }

    #[test]
    fn a_burst_of_short_lines_is_not_remembered() {
        let dir = Scratch::new();
        let mut log = open(&dir, 0);
        log.write(NOW, LogStream::Stdout, &[b'\n'; 16 * 1024]);
        assert_eq!(log.entries.capacity(), 0);
        log.write(NOW, LogStream::Stdout, b"one\n");
        assert!(log.entries.capacity() > 0, "what is ordinary is");
    }
}
