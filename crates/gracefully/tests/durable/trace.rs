//! What strace(1) has written down.

use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::RangeBounds;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The calls that change what is on a disk, or say something.
///
/// Whoever wrote by another one would not be found out here, but where the file is compared with what was traced.
pub(crate) const CALLS: &str = "write,fsync,fdatasync,ftruncate,?rename,?renameat,renameat2";

/// A system call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) what: What,
    /// `None`: it has not returned.
    pub(crate) result: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Write { descriptor: i32, file: PathBuf, data: Vec<u8> },
    Sync { file: PathBuf },
    Truncate { file: PathBuf, length: usize },
    Rename { from: PathBuf, to: PathBuf },
}

impl Call {
    /// The file that it is about.
    pub(crate) fn file(&self) -> &Path {
        match &self.what {
            What::Write { file, .. } | What::Sync { file } | What::Truncate { file, .. } => file,
            What::Rename { to, .. } => to,
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.result.is_some_and(|result| result < 0)
    }

    pub(crate) fn is_write_to(&self, path: &Path) -> bool {
        matches!(&self.what, What::Write { file, .. } if file == path)
    }

    pub(crate) fn is_sync_of(&self, path: &Path) -> bool {
        matches!(&self.what, What::Sync { file } if file == path)
    }
}

/// A call by its number begins, or has returned. In between it is done, nobody knows when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Begins(usize),
    Returned(usize),
}

/// strace lets a call begin, and its caller go on, only after it has written it down: whatever follows from a call's return
/// comes later here, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    pub(crate) calls: Vec<Call>,
    pub(crate) moments: Vec<Moment>,
}

impl Trace {
    pub(crate) fn read(path: &Path) -> Self {
        let mut trace = Self::default();
        // Thread → the call it is in, or the last one from which it has returned.
        let (mut unfinished, mut last) = (HashMap::new(), HashMap::new());
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let (thread, event) = line.split_once(' ').unwrap();
            let event = event.trim_start();
            // `???`: the thread was killed before it was clear what it wanted, so it has not got it.
            if event.starts_with("+++") || event.starts_with("???") {
                continue;
            }
            let number = if let Some(resumed) = event.strip_prefix("<... ") {
                let Some(number) = unfinished.remove(thread) else {
                    assert!(resumed.starts_with("???"), "{line}");
                    continue;
                };
                number
            } else {
                trace.calls.push(Call { what: what(event), result: None });
                trace.moments.push(Moment::Begins(trace.calls.len() - 1));
                trace.calls.len() - 1
            };
            if let Some((_, result)) = event.rsplit_once(" = ") {
                trace.calls[number].result = returned(result);
                if trace.calls[number].result.is_some() {
                    trace.moments.push(Moment::Returned(number));
                    last.insert(thread.to_owned(), number);
                } else {
                    unfinished.insert(thread.to_owned(), number);
                }
            } else {
                assert!(unfinished.insert(thread.to_owned(), number).is_none(), "{line}");
            }
        }
        // Of a thread that was killed at its next call strace has been seen to tell the last one again, without a result: it finds
        // the registers as they were. No record is written twice, each has a checksum that depends on all before it.
        for (thread, number) in unfinished {
            let repeats = |&last: &usize| trace.calls[last].what == trace.calls[number].what;
            if last.get(&thread).is_some_and(repeats) {
                trace.moments.retain(|&moment| moment != Moment::Begins(number));
            }
        }
        trace
    }

    /// As if these calls did not sync the file.
    pub(crate) fn without_syncs_of(&self, file: &Path, calls: impl RangeBounds<usize>) -> Self {
        let mut trace = self.clone();
        trace.moments.retain(|moment| {
            let (Moment::Begins(call) | Moment::Returned(call)) = *moment;
            !(calls.contains(&call) && self.calls[call].is_sync_of(file))
        });
        trace
    }

    /// The calls about a file that begin after the first one of them has failed.
    pub(crate) fn after_a_failure_of(&self, file: &Path) -> Option<Vec<&Call>> {
        let about = |call: usize| Some(&self.calls[call]).filter(|call| call.file() == file);
        let has_failed = |moment: &Moment| match *moment {
            Moment::Begins(_) => false,
            Moment::Returned(call) => about(call).is_some_and(Call::failed),
        };
        let at = self.moments.iter().position(has_failed)?;
        let begins = |moment: &Moment| match *moment {
            Moment::Begins(call) => about(call),
            Moment::Returned(_) => None,
        };
        Some(self.moments[at..].iter().filter_map(begins).collect())
    }
}

/// `-1 EIO (Input/output error)`, or `?` and other things without a name if the thread was killed meanwhile.
fn returned(text: &str) -> Option<i64> {
    let (value, name) = text.split_once(' ').unwrap_or((text, ""));
    value.parse().ok().filter(|&value| value >= 0 || name.starts_with('E'))
}

/// Reads a call as far as it is written when it begins: `write(8</file>, "\x61", 1 <unfinished ...>`.
fn what(text: &str) -> What {
    let (name, arguments) = text.split_once('(').unwrap();
    let strings: Vec<Vec<u8>> = arguments.split('"').skip(1).step_by(2).map(bytes).collect();
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    if name.starts_with("rename") {
        let [from, to] = &strings[..] else { panic!("{text}") };
        return What::Rename { from: path(from), to: path(to) };
    }
    let (descriptor, rest) = arguments.split_once('<').unwrap();
    let (file, rest) = rest.split_once('>').unwrap();
    let file = path(&bytes(file));
    match name {
        "write" => What::Write { descriptor: descriptor.parse().unwrap(), file, data: strings.concat() },
        "fsync" | "fdatasync" => What::Sync { file },
        "ftruncate" => {
            let digits = rest.trim_start_matches(", ").split(|c: char| !c.is_ascii_digit()).next();
            What::Truncate { file, length: digits.unwrap().parse().unwrap() }
        }
        _ => panic!("{text}"),
    }
}

/// `\x61\x62`
fn bytes(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}
