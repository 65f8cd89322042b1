//! The program under test, with the monitor and the init beside it as they are installed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The small monitor, if `cargo xtask test` has built it.
pub(crate) fn small_monitor() -> Option<PathBuf> {
    std::env::var_os("GRACEFULLY_TEST_MONITOR").map(PathBuf::from)
}

/// The small init, if `cargo xtask test` has built it.
pub(crate) fn small_init() -> Option<PathBuf> {
    std::env::var_os("GRACEFULLY_TEST_INIT").map(PathBuf::from)
}

/// The program under test.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| install(Path::new(env!("CARGO_TARGET_TMPDIR"))))
}

/// Puts the program under test into a directory below this one, with the small programs beside it if there are any.
fn install(below: &Path) -> PathBuf {
    let directory = below.join(if small_monitor().is_some() { "with-monitor" } else { "alone" });
    fs::create_dir_all(&directory).expect("a directory");
    if let Some(monitor) = small_monitor() {
        link(&monitor, &directory.join("gracefully-monitor"));
    }
    if let Some(init) = small_init() {
        link(&init, &directory.join("gracefully-init"));
    }
    let program = directory.join("gracefully");
    link(Path::new(env!("CARGO_BIN_EXE_gracefully")), &program);
    program
}

/// Makes a file known under a second name. Other tests do so at the same time.
pub(crate) fn link(file: &Path, name: &Path) {
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
    if inode(file) == inode(name) {
        return;
    }
    let new = name.with_extension(std::process::id().to_string());
    fs::hard_link(file, &new).expect("a link on the same file system");
    fs::rename(&new, name).expect("an atomic replacement");
}

/// A program with no setting of the caller's environment.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for variable in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "GRACEFULLY_STATE_DIR", "NO_COLOR"]
    {
        command.env_remove(variable);
    }
    command
}

/// The program under test with these arguments.
pub(crate) fn gracefully(args: &[&str]) -> Command {
    let mut command = clean(program());
    command.args(args);
    command
}
