//! The form of a record in the file, and reading what has it.

use std::io::{self, Read};

/// Length and checksum.
pub(super) const HEAD: usize = 8;

/// The longest record: 64 MiB. A length beyond it is no length but a remnant.
pub const LONGEST: usize = 64 * 1024 * 1024;

/// Appends a record to what is to be written; `before` is the checksum of the record before. Gives its own checksum; `None`: it is
/// too long.
pub(super) fn encode(into: &mut Vec<u8>, before: u32, record: &[u8]) -> Option<u32> {
    let length = u32::try_from(record.len()).ok().filter(|_| record.len() <= LONGEST)?;
    let sum = checksum(before, length, record);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&sum.to_le_bytes());
    into.extend_from_slice(record);
    Some(sum)
}

/// Reads records, as long as they are whole.
pub(super) struct Scan<R> {
    from: R,
    pub(super) records: u64,
    /// Behind the last whole record.
    pub(super) end: u64,
    /// The checksum of the last record.
    pub(super) last: u32,
}

impl<R: Read> Scan<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, records: 0, end: 0, last: 0 }
    }

    /// The next record; `None`: what follows is none.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
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
