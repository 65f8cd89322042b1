//! The log of a container, in the format of the Kubernetes container runtime interface (CRI), which conmon writes and
//! many tools read:
//!
//! ```text
//! 2016-10-06T00:17:09.669794202Z stdout F the text of a whole line
//! 2016-10-06T00:17:10.113242941Z stderr P the beginning of a line
//! ```
//!
//! `F` is followed by a line feed of the program's, `P` is not: so the log holds byte for byte what was written.
//! The text of a record has at most [`PIECE`] bytes and no line feed; everything else is allowed in it.
//!
//! The log is usually in memory (`/run` is a tmpfs), so it has a limit: a file that reaches 16 MiB becomes
//! `log.1` in place of the one before. The last 16 to 32 MiB are kept.
//!
//! **A reader that must not miss anything**, which is a `run` in the foreground, locks each file that it has still to read
//! (flock(2), shared). No file is put aside in place of one that is locked: while the file is full and the older one
//! locked, the monitor does not read the program's pipes, and the program waits in write(2), as it does for a slow
//! `docker run`. When the files are to be removed, what such a reader has not opened yet is appended to what it has. When
//! the reader is gone, so are its locks. Whoever only looks (`logs`) locks nothing, so that a pager that
//! somebody has left open stops no program; it is told when it was overtaken.

mod writer;

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use gracefully_core::time::Timestamp;

pub use self::writer::LogWriter;

/// The longest text of one record; a longer line is written in pieces.
pub const PIECE: usize = 16 * 1024;

/// The size at which a file is put aside.
const FILE: u64 = 16 * 1024 * 1024;

/// The file that is written to.
pub const CURRENT: &str = "log";

/// The file that was written to before.
pub const OLDER: &str = "log.1";

/// How long `2016-10-06T00:17:09.669794202Z` is.
pub const TIME: usize = 30;

/// `TIME stdout F `
const HEAD: usize = TIME + 10;

/// Where something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of the file, without its line feed.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it was written.
    pub stream: LogStream,
    /// Does a line feed follow?
    pub ends_line: bool,
    /// Where the program's text is in the line.
    pub text: Range<usize>,
}

impl Entry {
    /// `None` if the line is torn or not ours.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let stream = match line.get(TIME..TIME + 8)? {
            b" stdout " => LogStream::Stdout,
            b" stderr " => LogStream::Stderr,
            _ => return None,
        };
        let ends_line = match line.get(TIME + 8..HEAD)? {
            b"F " => true,
            b"P " => false,
            _ => return None,
        };
        line[..TIME].is_ascii().then_some(Self { stream, ends_line, text: HEAD..line.len() })
    }
}

/// The time of an entry that [`Entry::parse`] has accepted; `None` if that is not a time.
pub fn time_of(line: &[u8]) -> Option<Timestamp> {
    str::from_utf8(line.get(..TIME)?).ok()?.parse().ok()
}

/// Writes what a program wrote at `time` as entries.
fn encode(time: Timestamp, stream: LogStream, bytes: &[u8], out: &mut Vec<u8>) {
    let stream = match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    let head = format!("{time} {stream} ");
    let mut entry = |text: &[u8], tag: &[u8; 2]| {
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(tag);
        out.extend_from_slice(text);
        out.push(b'\n');
    };
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let (text, ends_line) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
        let mut pieces = text.chunks(PIECE).peekable();
        if pieces.peek().is_none() {
            entry(b"", b"F ");
        }
        while let Some(piece) = pieces.next() {
            entry(piece, if ends_line && pieces.peek().is_none() { b"F " } else { b"P " });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use alloc::string::String;
    use alloc::vec;
    use core::time::Duration;

    fn at() -> Timestamp {
        Timestamp::since_1970(Duration::new(1_475_713_029, 669_794_202))
    }

    fn encoded(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(at(), LogStream::Stdout, bytes, &mut out);
        out
    }

    fn decoded(log: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        for line in log.split_inclusive(|&b| b == b'\n') {
            let line = line.strip_suffix(b"\n").expect("every entry ends");
            let entry = Entry::parse(line).expect("an entry");
            assert_eq!(time_of(line), Some(at()));
            assert!(entry.text.len() <= PIECE);
            text.extend_from_slice(&line[entry.text]);
            if entry.ends_line {
                text.push(b'\n');
            }
        }
        text
    }

    #[test]
    fn lines_are_entries() {
        let expected = "2016-10-06T00:17:09.669794202Z stdout F one\n\
                        2016-10-06T00:17:09.669794202Z stdout F \n\
                        2016-10-06T00:17:09.669794202Z stdout P two\n";
        assert_eq!(String::from_utf8(encoded(b"one\n\ntwo")).unwrap(), expected);
        assert_eq!(encoded(b""), b"");
    }

    #[test]
    fn a_line_of_a_megabyte_comes_back_byte_for_byte() {
        let mut line = vec![b'x'; 1024 * 1024];
        assert_eq!(decoded(&encoded(&line)), line);
        line.push(b'\n');
        let log = encoded(&line);
        assert_eq!(decoded(&log), line);
        assert_eq!(log.windows(3).filter(|w| w == b" F ").count(), 1);
    }

    #[test]
    fn random_bytes_come_back_byte_for_byte() {
        let mut random = Random::new(2);
        for n in (0..200).chain([PIECE - 1, PIECE, PIECE + 1, 5 * PIECE]) {
            let bytes = random.bytes(n);
            assert_eq!(decoded(&encoded(&bytes)), bytes);
        }
    }

    #[test]
    fn what_is_torn_or_foreign_is_no_entry() {
        let whole = encoded(b"text\n");
        for end in 0..HEAD {
            assert_eq!(Entry::parse(&whole[..end]), None);
        }
        let mut random = Random::new(3);
        for n in 0..2_000 {
            let line = random.bytes(n % 100);
            // Random bytes may be an entry by chance, but never panic.
            if Entry::parse(&line).is_some() {
                time_of(&line);
            }
        }
    }
}
