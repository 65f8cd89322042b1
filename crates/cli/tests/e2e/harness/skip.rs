//! Tests that cannot run here are skipped visibly: a line on standard error, and one in the file that
//! `cargo xtask test` counts. (Neither libtest nor nextest has a way to skip from inside a test.)

use std::fs::OpenOptions;
use std::io::Write;

/// Why a test cannot run here.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

/// Records that `test` was skipped.
pub(crate) fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    if let Some(file) = std::env::var_os("GRACEFULLY_TEST_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(file).expect("the file of skips");
        // One write, so that lines of parallel tests do not mix.
        file.write_all(format!("{test}\t{reason}\n").as_bytes()).expect("the file of skips takes a line");
    }
}
