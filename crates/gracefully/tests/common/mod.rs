//! What several of these tests need.

use std::path::PathBuf;
use std::process::Command;

/// An example of this crate. cargo builds it for all tests, but not for `--test NAME` alone.
pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built", path.display());
    Command::new(path)
}
