//! Said by a test that cannot run here; `src/test.rs` counts it. (Neither libtest nor nextest has a way to skip from inside a test.)
//!
//! Several suites have this file as a module of theirs.

use std::fs::OpenOptions;
use std::io::Write;

/// Says on standard error that `test` is skipped, and in the file that `cargo xtask test` counts.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
    if let Some(file) = std::env::var_os("GRACEFULLY_TEST_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(file).expect("the file of skips");
        // One write, so that lines of parallel tests do not mix.
        file.write_all(format!("{test}\t{why}\n").as_bytes()).expect("the file of skips takes a line");
    }
}
