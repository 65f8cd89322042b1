//! Writing a log. It never fails: the program must go on also when the disk is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gracefully_core::diagnosis::{Code, Finding};

use crate::LogStream;

use super::{CURRENT, FILE, OLDER, encode};

/// The log of one container, open for writing.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    /// `None` if it could not be opened; that is tried again.
    file: Option<File>,
    /// Its size: everything up to here is whole entries.
    size: u64,
    /// Bytes of output that were lost in all.
    lost: u64,
    /// Those that no entry in the log tells of yet.
    untold: u64,
    why: Option<io::Error>,
    entries: Vec<u8>,
}

impl LogWriter {
    /// Opens the log in a container's directory, at its end. `lost` bytes have been lost before.
    pub fn open(dir: &Path, lost: u64) -> Self {
        let mut log = Self {
            dir: dir.to_owned(),
            file: None,
            size: 0,
            lost,
            untold: 0,
            why: None,
            entries: Vec::new(),
        };
        log.reopen();
        log
    }

    /// Appends what the program has written. What cannot be written is dropped and counted; as soon as there is
    /// room again, an entry says how much it was.
    pub fn write(&mut self, stream: LogStream, bytes: &[u8]) {
        let now = SystemTime::now();
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        if self.untold > 0 {
            let note = format!("gracefully: {}\n", self.in_words(self.untold));
            encode(now, LogStream::Stderr, note.as_bytes(), &mut entries);
        }
        encode(now, stream, bytes, &mut entries);
        match self.append(&entries) {
            Ok(()) => self.untold = 0,
            Err(error) => {
                self.lost += bytes.len() as u64;
                self.untold += bytes.len() as u64;
                self.why = Some(error);
            }
        }
        self.entries = entries;
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
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{bytes} bytes of output were lost{why}")
    }

    /// All of `entries`, or nothing.
    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        if self.size >= FILE {
            // If this fails the file grows on, which is better than losing output.
            let _ = fs::rename(self.dir.join(CURRENT), self.dir.join(OLDER));
            self.reopen();
        }
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the log cannot be opened"));
        };
        match file.write_all(entries) {
            Ok(()) => {
                self.size += entries.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A part may have been written: take it back, so that the next entry begins on a line of its own.
                let _ = file.set_len(self.size);
                Err(error)
            }
        }
    }

    fn reopen(&mut self) {
        let open = OpenOptions::new().append(true).create(true).mode(0o600).open(self.dir.join(CURRENT));
        let opened = open.and_then(|mut file| {
            let size = file.metadata()?.len();
            if size > 0 && !ends_with_line_feed(&self.dir.join(CURRENT), size)? {
                file.write_all(b"\n")?;
                return Ok((file, size + 1));
            }
            Ok((file, size))
        });
        (self.file, self.size) = opened.map_or((None, 0), |(file, size)| (Some(file), size));
    }
}

/// A monitor that was killed may have left half an entry.
fn ends_with_line_feed(path: &Path, size: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, size - 1)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::log::Entry;

    fn entries(dir: &Path, file: &str) -> Vec<String> {
        let log = fs::read(dir.join(file)).unwrap();
        let lines = log.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| match Entry::parse(line) {
                Some(entry) => String::from_utf8_lossy(&line[entry.text]).into_owned(),
                None => format!("torn: {}", String::from_utf8_lossy(line)),
            })
            .collect()
    }

    #[test]
    fn a_torn_entry_does_not_swallow_the_next() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CURRENT), "2016-10-06T00:17:09.66").unwrap();
        let mut log = LogWriter::open(dir.path(), 0);
        log.write(LogStream::Stdout, b"hello\n");
        assert_eq!(entries(dir.path(), CURRENT), ["torn: 2016-10-06T00:17:09.66", "hello"]);
    }

    #[test]
    fn a_full_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), 0);
        log.write(LogStream::Stdout, b"first\n");
        log.size = FILE;
        log.write(LogStream::Stdout, b"second\n");
        assert_eq!(entries(dir.path(), OLDER), ["first"]);
        assert_eq!(entries(dir.path(), CURRENT), ["second"]);
        assert_eq!(log.lost(), 0);
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogWriter::open(dir.path(), 5);
        // As with ENOSPC: this file refuses every byte.
        log.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        log.write(LogStream::Stdout, b"lost\n");
        log.write(LogStream::Stdout, b"lost too\n");
        assert_eq!(log.lost(), 19);

        log.file = None;
        log.write(LogStream::Stdout, b"kept\n");
        log.write(LogStream::Stdout, b"kept too\n");
        assert_eq!(log.lost(), 19);
        assert_eq!(
            entries(dir.path(), CURRENT),
            [
                "gracefully: 14 bytes of output were lost: No space left on device (os error 28)",
                "kept",
                "kept too"
            ]
        );
    }
}
