//! Disks that fail: the first error is the last word, and what was said before it is there.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use gracefully::durable::DurableFile;
use gracefully_core::exit::FAILURE;
use gracefully_core::signal::Signal;

use crate::common::example;
use crate::disk::Journal;
use crate::program::{Mounts, Running, can_trace, directory, send_writer, strace};
use crate::trace::{CALLS, Trace};

const IO: &str = "Input/output error (os error 5)";
const FULL: &str = "No space left on device (os error 28)";
const TOO_LARGE: &str = "File too large (os error 27)";

/// The example, writing this journal.
fn program(journal: &Path) -> Command {
    let mut program = example("02_finish_what_was_begun");
    program.arg(journal);
    program
}

/// What a program has said that could not write any more.
struct Failed {
    said: Vec<String>,
    /// The records that it was told are not on the disk.
    refused: HashSet<String>,
}

impl Failed {
    /// Runs the example until each of its four workers was told of this error, and has it stop. The report names the journal.
    fn with(error: &str, program: &mut Command) -> Self {
        let running = Running::start(program);
        let mut refused = HashSet::new();
        while refused.len() < 4 {
            let line = running.complaint();
            if let Some((record, why)) = line.split_once(": ") {
                assert_eq!(why, error, "{record}");
                refused.insert(record.to_owned());
            }
        }
        send_writer(refused.iter().next().unwrap(), Signal::TERM);
        let ended = running.end();
        let report = ended.complained.last().unwrap();
        assert_eq!(ended.status.code(), Some(FAILURE.into()), "{report}");
        assert!(report.ends_with(&format!("; journal (flush): {error}")), "{report}");
        Self { said: ended.said, refused }
    }

    /// What was said is in the journal, and it goes on from there when the disk is well again.
    fn has_kept_its_word(&self, journal: &Path) {
        let (file, found) = DurableFile::open(journal).unwrap();
        file.append(b"it goes on").unwrap();
        file.close().unwrap();
        let records = DurableFile::read(journal).unwrap();
        assert_eq!(records.len() as u64, found.records + 1);
        let written: HashSet<&[u8]> = records.iter().map(|record| &record[..]).collect();
        for line in &self.said {
            assert!(written.contains(line.as_bytes()), "{line} was said and is not there");
            assert!(!self.refused.contains(line), "{line} was said and refused");
        }
    }
}

/// Something that was to be done to the journal has failed, and it is not touched after that.
fn is_final(trace: &Trace, journal: &Path) {
    let later = trace.after_a_failure_of(journal).unwrap();
    assert!(later.is_empty(), "{later:?}");
}

/// Also if a second sync would succeed: nothing of what the first one was for has to be on the disk then.
#[test]
fn a_sync_that_fails_is_the_last_one() {
    if !can_trace() {
        return;
    }
    for when in ["1", "7", "7+"] {
        let (_directory, directory) = directory();
        let (path, traced) = (directory.join("journal"), directory.join("trace"));
        let inject = format!("inject=fdatasync:error=EIO:when={when}");
        let failed = Failed::with(IO, &mut strace(&traced, CALLS, &["-e", &inject], &program(&path)));
        assert_eq!(failed.said.is_empty(), when == "1");
        let trace = Trace::read(&traced);
        is_final(&trace, &path);
        // Nor was anything said that only the failed one was for.
        let tally = Journal::follow(&trace, &path, b"").survives(&trace).unwrap();
        assert_eq!(tally.said, failed.said.len());
        failed.has_kept_its_word(&path);
    }
}

#[test]
fn a_write_that_fails_is_the_last_one() {
    if !can_trace() {
        return;
    }
    for (error, text, when) in [("ENOSPC", FULL, "5"), ("ENOSPC", FULL, "5+"), ("EIO", IO, "5")] {
        let (_directory, directory) = directory();
        let (path, traced) = (directory.join("journal"), directory.join("trace"));
        let inject = format!("inject=write:error={error}:when={when}");
        // Only what is done to the journal fails, or is traced.
        let options = ["-e", &inject, "-P", path.to_str().unwrap()];
        let failed = Failed::with(text, &mut strace(&traced, CALLS, &options, &program(&path)));
        assert!(!failed.said.is_empty());
        is_final(&Trace::read(&traced), &path);
        failed.has_kept_its_word(&path);
    }
}

/// A call that was interrupted has not failed.
#[test]
fn an_interruption_is_no_failure() {
    if !can_trace() {
        return;
    }
    for call in ["write", "fdatasync"] {
        let (_directory, directory) = directory();
        let (path, traced) = (directory.join("journal"), directory.join("trace"));
        let inject = format!("inject={call}:error=EINTR:when=5+3");
        let options = ["-e", &inject, "-P", path.to_str().unwrap()];
        let running = Running::start(&mut strace(&traced, CALLS, &options, &program(&path)));
        let mut said: Vec<String> = (0..100).map(|_| running.line()).collect();
        send_writer(&said[0], Signal::TERM);
        let ended = running.end();
        assert_eq!(ended.status.code(), Some(0), "{:?}", ended.complained);
        said.extend(ended.said);
        let trace = Trace::read(&traced);
        assert!(trace.calls.iter().filter(|call| call.failed()).count() > 5);
        Failed { said, refused: HashSet::new() }.has_kept_its_word(&path);
    }
}

/// Whoever opens a file is told of an error that was there before.
#[test]
fn a_journal_that_cannot_be_synced_is_not_opened() {
    if !can_trace() {
        return;
    }
    let mut refused = 0;
    // Once none of the syncs of the opening fails it begins.
    for when in 1.. {
        let (_directory, directory) = directory();
        let (path, traced) = (directory.join("journal"), directory.join("trace"));
        let inject = format!("inject=fsync:error=EIO:when={when}");
        let running = Running::start(&mut strace(&traced, CALLS, &["-e", &inject], &program(&path)));
        let first = running.complaint();
        if first.starts_with("found ") {
            send_writer(&running.line(), Signal::TERM);
            assert_eq!(running.end().status.code(), Some(0));
            break;
        }
        assert!(first.starts_with("Error: ") && first.contains("code: 5,"), "{first}");
        let ended = running.end();
        assert_eq!((ended.status.code(), ended.said), (Some(1), vec![]));
        refused += 1;
    }
    assert!(refused >= 2, "that of the file and that of its directory");
}

/// The kernel takes what is allowed, half a record perhaps, and then nothing more.
#[test]
fn a_limit_is_a_failure_like_others() {
    let (_directory, directory) = directory();
    let path = directory.join("journal");
    let mut limited = Command::new("sh");
    // Else the signal ends it, at once and with nothing lost.
    limited.args(["-c", r#"trap "" XFSZ; ulimit -f 8; exec "$@""#, "sh"]);
    let program = program(&path);
    let failed = Failed::with(TOO_LARGE, limited.arg(program.get_program()).args(program.get_args()));
    assert!(failed.said.len() > 50);
    failed.has_kept_its_word(&path);
}

#[test]
fn a_disk_that_is_full_has_what_was_said() {
    let (_directory, directory) = directory();
    let mount = ["mkdir small", "mount -t tmpfs -o size=64k none small"];
    let Some(mut mounts) = Mounts::of(&directory, &mount) else { return };
    let path = mounts.path(&directory.join("small/journal"));
    let failed = Failed::with(FULL, &mut program(&path));
    assert!(failed.said.len() > 1000);
    assert!(mounts.run(&["mount -o remount,size=128k small"]));
    failed.has_kept_its_word(&path);
}

/// A disk that has promised more room than there is, as thin volumes do. When what is in memory cannot be written to it, the kernel
/// tells of that once, and keeps it there as if it had been.
#[test]
fn what_is_only_in_memory_is_not_found() {
    let (_directory, directory) = directory();
    let mount = [
        "mkdir room disk left",
        "mount -t tmpfs -o size=1m none room",
        "truncate -s 16m room/image",
        "mkfs.ext4 -q -b 4096 -O ^has_journal room/image",
        "mount -o loop room/image disk",
    ];
    let Some(mut mounts) = Mounts::of(&directory, &mount) else { return };
    let path = mounts.path(&directory.join("disk/journal"));
    // Each is a block of its own, which nobody writes again.
    let record = |number: usize| format!("{number:4088}").into_bytes();
    let (file, _) = DurableFile::open(&path).unwrap();
    let mut said: Vec<Vec<u8>> = Vec::new();
    while said.len() < 1000 && file.append(&record(said.len())).is_ok() {
        said.push(record(said.len()));
    }
    assert_eq!(file.close().unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(said.len() > 100, "{}", said.len());
    assert_eq!(DurableFile::read(&path).unwrap().len(), said.len() + 1, "one is in memory only");

    assert!(mounts.run(&["mount -o remount,size=64m room"]));
    let (file, _) = DurableFile::open(&path).unwrap();
    for number in 1000..1010 {
        file.append(&record(number)).unwrap();
        said.push(record(number));
    }
    // The power is cut: what is on the disk now is what is left.
    assert!(mounts.run(&["cp room/image room/copy", "mount -o loop,ro room/copy left"]));
    let left = DurableFile::read(mounts.path(&directory.join("left/journal"))).unwrap();
    let lost = said.iter().filter(|record| !left.contains(record)).count();
    assert_eq!(lost, 0, "of {}, and {} are left", said.len(), left.len());
}
