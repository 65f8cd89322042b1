//! How many records are on the disk after a while, each of which somebody waits for.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Programs;
use crate::bench::sample::pairs;
use crate::bench::table::Row;
use crate::command;

const WRITERS: &str = "64";

/// Of one sample.
const SECONDS: &str = "1";

/// Against the bare disk with batches of the same size, and against `SQLite`.
pub(super) fn appends(programs: &Programs, n: usize) -> Result<Vec<Row>> {
    eprintln!("bench: appends ({n} times)");
    let (_, batch) = run(programs, "ours", WRITERS)?;
    let batch = format!("{batch:.0}");
    let ours = || Ok(1e6 / run(programs, "ours", WRITERS)?.0);
    let raw = pairs(n, || Ok(1e6 / run(programs, "raw", &batch)?.0), ours)?;
    let sqlite = pairs(n, || Ok(1e6 / sqlite(programs)?), ours)?;
    Ok(vec![
        Row::ratio("a record on the disk, 64 tasks that wait for theirs, µs each: against write and fdatasync of as large batches", raw, 1.0 / 0.95)
            .commands("appends raw FILE 1 BATCH", "appends ours FILE 1 64"),
        Row::ratio("the same against SQLite (write-ahead log, synchronous=FULL, a commit each)", sqlite, 1.0)
            .commands("python3 sqlite.py FILE 1 64", "appends ours FILE 1 64"),
    ])
}

/// Records per second, and per batch.
fn run(programs: &Programs, how: &str, number: &str) -> Result<(f64, f64)> {
    let file = programs.directory.path().join("records");
    let said = command::output(Command::new(&programs.appends).arg(how).arg(&file).args([SECONDS, number]))?;
    fs::remove_file(&file)?;
    let mut numbers = said.split_whitespace().map(str::parse);
    let mut next = || numbers.next().context("appends said too little");
    Ok((next()??, next()??))
}

/// Rows per second.
fn sqlite(programs: &Programs) -> Result<f64> {
    let directory = tempfile::tempdir_in(programs.directory.path())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/library/sqlite.py");
    let mut python = Command::new("python3");
    python.arg(script).arg(directory.path().join("orders")).args([SECONDS, WRITERS]);
    Ok(command::output(&mut python)?.trim().parse()?)
}
