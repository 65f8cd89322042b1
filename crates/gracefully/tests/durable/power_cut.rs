//! The power is cut at every moment of a program's life, and nothing is lost that it has said.

use std::fs;
use std::io::Write;
use std::path::Path;

use gracefully::durable::DurableFile;
use gracefully_core::signal::Signal;

use crate::common::example;
use crate::disk::{Journal, Tally};
use crate::program::{Running, can_trace, directory, send_writer, strace};
use crate::trace::{CALLS, Call, Moment, Trace, What};

/// Enough for some hundred records in some dozen batches.
const LINES: usize = 200;

/// Has the example write a journal, and sends it this signal when it has said something.
fn write_journal(directory: &Path, signal: Signal) -> Trace {
    let (journal, traced) = (directory.join("journal"), directory.join("trace"));
    let program = example("02_finish_what_was_begun");
    let running = Running::start(strace(&traced, CALLS, &[], &program).arg(journal));
    for _ in 1..LINES {
        running.line();
    }
    send_writer(&running.line(), signal);
    running.end();
    Trace::read(&traced)
}

/// Nothing is lost, and the check that says so notices it if something is.
fn check(trace: &Trace, journal: &Journal, path: &Path) -> Tally {
    let tally = journal.survives(trace).unwrap();
    assert!(tally.said >= LINES, "{tally:?}");

    let control = |what: &str, trace: &Trace| {
        journal.survives(trace).expect_err(what);
    };
    control("nothing is synced", &trace.without_syncs_of(path, ..));
    control("the name is not synced", &trace.without_syncs_of(path.parent().unwrap(), ..));
    control("it is said too early", &said_while_syncing(trace, path));
    control("a failed sync is repeated", &with_a_failed_sync(trace, path));
    tally
}

/// As if every sync returned only when the next write begins: what is said in between is said too early.
fn said_while_syncing(trace: &Trace, path: &Path) -> Trace {
    let mut late = Trace { moments: Vec::new(), ..trace.clone() };
    let mut syncs = Vec::new();
    for &moment in &trace.moments {
        match moment {
            Moment::Returned(call) if trace.calls[call].is_sync_of(path) => {
                syncs.push(moment);
                continue;
            }
            Moment::Begins(call) if trace.calls[call].file() == path => late.moments.append(&mut syncs),
            Moment::Begins(_) | Moment::Returned(_) => {}
        }
        late.moments.push(moment);
    }
    late
}

/// As if one sync in the middle had failed and nobody had minded.
fn with_a_failed_sync(trace: &Trace, path: &Path) -> Trace {
    let mut failed = trace.clone();
    let syncs: Vec<usize> =
        (0..trace.calls.len()).filter(|&call| trace.calls[call].is_sync_of(path)).collect();
    failed.calls[syncs[syncs.len() / 2]].result = Some(-1);
    failed
}

/// What each worker has written is there without a gap.
fn is_in_order(records: &[Vec<u8>]) -> bool {
    let mut next = [0; 4];
    records.iter().all(|record| {
        let text = str::from_utf8(record).unwrap();
        let [_, worker, piece] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let next = &mut next[worker.parse::<usize>().unwrap()];
        *next += 1;
        piece.parse() == Ok(*next - 1)
    })
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_said() {
    if !can_trace() {
        return;
    }
    let (_directory, directory) = directory();
    let trace = write_journal(&directory, Signal::KILL);
    let path = directory.join("journal");
    let journal = Journal::follow(&trace, &path, b"");
    assert!(is_in_order(&journal.records));
    let batches = trace.calls.iter().filter(|call| call.is_write_to(&path)).count();
    assert!(batches > 20, "they are not all in a few batches");
    let tally = check(&trace, &journal, &path);
    println!("{tally:?}, {} files opened", journal.opened);
}

/// Whoever wrote the journal before was killed: what it has is in memory only, and its end is torn. What is found is said, so it
/// must be on the disk; what is cut off must not come back.
#[test]
fn nor_does_one_after_a_restart_lose_what_was_found() {
    if !can_trace() {
        return;
    }
    let (_directory, directory) = directory();
    let path = directory.join("journal");
    let (file, _) = DurableFile::open(&path).unwrap();
    for number in 0..20 {
        file.append_buffered(format!("found {number}").as_bytes()).unwrap();
    }
    file.close().unwrap();
    let torn = [&20_u32.to_le_bytes()[..], b"1234half a record"].concat();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&torn).unwrap();

    let before = fs::read(&path).unwrap();
    let trace = write_journal(&directory, Signal::TERM);
    let cut = What::Truncate { file: path.clone(), length: before.len() - torn.len() };
    let journal = Journal::follow(&trace, &path, &before);
    assert!(is_in_order(&journal.records[20..]));
    let tally = check(&trace, &journal, &path);
    println!("{tally:?}, {} files opened", journal.opened);

    let position = |is: &dyn Fn(&Call) -> bool| trace.calls.iter().position(is).unwrap();
    let opening = position(&|call| call.what == cut)..position(&|call| call.is_write_to(&path));
    let lost = journal.survives(&trace.without_syncs_of(&path, opening)).unwrap_err();
    assert_eq!(lost, "what was cut off may come back");
}
