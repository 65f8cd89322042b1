//! What a disk may hold when the power is cut.
//!
//! What was synced is there. What was written since may be there up to any byte, and behind that byte may be anything: a file grows
//! before its blocks are written, and they are written in any order. A file that is new may have no name. When a sync has failed,
//! what was written may be lost for good, even if a second sync succeeds.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use gracefully::durable::{DurableFile, Found};

use crate::trace::{Call, Moment, Trace, What};

/// The changes of a journal as they were traced, and what [`DurableFile::open`] finds at each point between them.
pub(crate) struct Journal {
    path: PathBuf,
    changes: Vec<Change>,
    /// The records at the end, and where each ends.
    pub(crate) records: Vec<Vec<u8>>,
    ends: Vec<usize>,
    whole: Vec<u8>,
    /// The whole records of before.
    earlier: usize,
    /// Point → the fewest records that are found, whatever is behind it. `None`: it was not tried.
    found: Vec<Option<usize>>,
    /// How many different files were opened for that.
    pub(crate) opened: usize,
}

enum Change {
    Append { call: Option<usize>, data: Vec<u8> },
    Cut { call: usize, length: usize },
}

impl Change {
    fn call(&self) -> Option<usize> {
        match self {
            Self::Append { call, .. } => *call,
            Self::Cut { call, .. } => Some(*call),
        }
    }
}

/// What was looked at.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) moments: usize,
    /// Moments times what a disk may hold then.
    pub(crate) cuts: usize,
    /// Records that were said to be on the disk.
    pub(crate) said: usize,
}

impl Journal {
    /// Follows what a trace does to this file, which had this content, and opens all that may be left of it.
    pub(crate) fn follow(trace: &Trace, path: &Path, before: &[u8]) -> Self {
        let mut changes = vec![Change::Append { call: None, data: before.to_vec() }];
        for moment in &trace.moments {
            let Moment::Begins(call) = *moment else { continue };
            let Call { what, result } = &trace.calls[call];
            match what {
                What::Write { file, data, .. } if file == path => {
                    // If it has not returned, it may have written all of it.
                    let written = result.map_or(data.len(), |result| usize::try_from(result).unwrap_or(0));
                    changes.push(Change::Append { call: Some(call), data: data[..written].to_vec() });
                }
                What::Truncate { file, length } if file == path => {
                    changes.push(Change::Cut { call, length: *length });
                }
                What::Write { .. } | What::Truncate { .. } | What::Sync { .. } | What::Rename { .. } => {}
            }
        }
        let mut journal = Self {
            path: path.to_owned(),
            changes,
            records: Vec::new(),
            ends: Vec::new(),
            whole: Vec::new(),
            earlier: parse(before).len(),
            found: Vec::new(),
            opened: 0,
        };
        let mut returned = 0;
        for change in &journal.changes {
            match change {
                Change::Append { data, .. } => journal.whole.extend_from_slice(data),
                Change::Cut { length, .. } => journal.whole.truncate(*length),
            }
            if change.call().is_none_or(|call| trace.calls[call].result.is_some()) {
                returned = journal.whole.len();
            }
        }
        // Everything that was done to it was traced. What has not returned may be missing.
        let left = fs::read(path).unwrap();
        assert!(journal.whole.starts_with(&left) && left.len() >= returned, "{} bytes", left.len());
        (journal.ends, journal.records) = parse(&journal.whole).into_iter().unzip();
        journal.open_all();
        journal
    }

    /// Opens what may be left at every point.
    fn open_all(&mut self) {
        // It is not our disk that is asked here: one in memory is quicker.
        let memory = Path::new("/dev/shm");
        let directory =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let path = directory.path().join("left");
        let mut content = Vec::new();
        let mut found = vec![Some(self.open(&path, &content))];
        let mut opened = 1;
        for change in &self.changes {
            match change {
                Change::Append { data, .. } => {
                    for (at, &byte) in data.iter().enumerate() {
                        content.push(byte);
                        let rest = &data[at + 1..];
                        if !rest.is_empty() && !self.is_tried(content.len()) {
                            found.push(None);
                            continue;
                        }
                        let fewest = behind(rest).into_iter().map(|behind| {
                            opened += 1;
                            self.open(&path, &[&content[..], &behind].concat())
                        });
                        found.push(fewest.min());
                    }
                }
                Change::Cut { length, .. } => {
                    content.truncate(*length);
                    opened += 1;
                    found.push(Some(self.open(&path, &content)));
                }
            }
        }
        (self.found, self.opened) = (found, opened);
    }

    /// Every byte of the first batches, and then those at the ends of records, and some.
    fn is_tried(&self, length: usize) -> bool {
        let next = self.ends.partition_point(|&end| end + 1 < length);
        length < 600 || length.is_multiple_of(11) || self.ends.get(next).is_some_and(|&end| end <= length + 1)
    }

    /// Opens a file with this content: what is whole is found, in order, nothing else is, and the rest is cut off.
    fn open(&self, path: &Path, content: &[u8]) -> usize {
        fs::write(path, content).unwrap();
        let (file, found) = DurableFile::open(path).unwrap();
        file.close().unwrap();
        let same = content.iter().zip(&self.whole).take_while(|(left, whole)| left == whole).count();
        let kept = self.ends.partition_point(|&end| end <= same);
        let end = if kept == 0 { 0 } else { self.ends[kept - 1] };
        assert_eq!(found, Found { records: kept as u64, cut: (content.len() - end) as u64 }, "{content:x?}");
        assert_eq!(DurableFile::read(path).unwrap(), self.records[..kept], "{content:x?}");
        kept
    }

    /// Cuts the power at every moment of a trace of this journal, at each with all that a disk may hold then. Says what was lost.
    pub(crate) fn survives(&self, trace: &Trace) -> Result<Tally, String> {
        let after = self.points();
        let number: HashMap<&[u8], usize> =
            self.records.iter().zip(1..).map(|(record, number)| (&record[..], number)).collect();
        let directory = self.path.parent().unwrap();
        // What was there before may be in memory only: whoever wrote it may have been killed.
        let (mut begun, mut written) = (after[&None], after[&None]);
        let (mut synced, mut named, mut failed) = (0, false, false);
        // Call → what it writes to the disk.
        let mut syncing = HashMap::new();
        let (mut promised, mut cut) = (0, 0);
        let mut tally = Tally { moments: 0, cuts: 0, said: 0 };
        for moment in &trace.moments {
            match *moment {
                Moment::Begins(call) => {
                    begun = after.get(&Some(call)).map_or(begun, |&point| point);
                    match &trace.calls[call].what {
                        What::Sync { file } if *file == self.path => drop(syncing.insert(call, written)),
                        What::Truncate { .. } => cut = begun,
                        // What is behind it might fit behind the new.
                        What::Write { file, .. } if *file == self.path && synced < cut => {
                            return Err("what was cut off may come back".into());
                        }
                        What::Write { descriptor: 1, data, .. } => {
                            let record = data.strip_suffix(b"\n").unwrap_or(data);
                            let Some(number) = number.get(record) else {
                                return Err(format!("{} was never written", record.escape_ascii()));
                            };
                            promised = promised.max(*number);
                            tally.said += 1;
                        }
                        // "found 20 records": others may be told of them.
                        What::Write { descriptor: 2, data, .. } if data.starts_with(b"found") => {
                            promised = promised.max(self.earlier);
                        }
                        What::Write { .. } | What::Sync { .. } | What::Rename { .. } => {}
                    }
                }
                Moment::Returned(call) => {
                    written = after.get(&Some(call)).map_or(written, |&point| point);
                    let done = !trace.calls[call].failed();
                    if let Some(point) = syncing.remove(&call) {
                        failed |= !done;
                        synced = if failed { synced } else { point };
                    }
                    named |= done && trace.calls[call].is_sync_of(directory);
                }
            }
            tally.moments += 1;
            for point in if named { synced } else { 0 }..=begun {
                let Some(found) = self.found[point] else { continue };
                tally.cuts += 1;
                if found < promised {
                    let lost = self.records[found].escape_ascii();
                    return Err(format!("{lost} is lost at moment {}, point {point}", tally.moments));
                }
            }
        }
        Ok(tally)
    }

    /// Call → the point at which it is done. `None`: where it began.
    fn points(&self) -> HashMap<Option<usize>, usize> {
        let mut point = 0;
        let mut after = HashMap::new();
        for change in &self.changes {
            point += match change {
                Change::Append { data, .. } => data.len(),
                Change::Cut { .. } => 1,
            };
            after.insert(change.call(), point);
        }
        after
    }
}

/// What may be behind the last byte that was written to the disk, where this should be: nothing, zeros, something older, or a gap
/// and then the rest.
fn behind(rest: &[u8]) -> Vec<Vec<u8>> {
    if rest.is_empty() {
        return vec![Vec::new()];
    }
    let noise = (1..).map(|number: u32| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]);
    let gap = rest.len().div_ceil(2);
    vec![
        Vec::new(),
        vec![0; rest.len()],
        noise.take(rest.len()).collect(),
        [&vec![0; gap][..], &rest[gap..]].concat(),
    ]
}

/// The records of a journal, and where each ends, as the documentation has it: length, checksum, bytes. Checksums are not
/// looked at: all of it was written.
fn parse(content: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut records = Vec::new();
    let mut rest = content;
    while let Some((length, behind)) = rest.split_first_chunk()
        && let Some(record) = behind.get(4..4 + u32::from_le_bytes(*length) as usize)
    {
        rest = &behind[4 + record.len()..];
        records.push((content.len() - rest.len(), record.to_vec()));
    }
    records
}
