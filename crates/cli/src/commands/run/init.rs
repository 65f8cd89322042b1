//! `--init`: which program is put in front, and where it is.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gracefully_init::PROGRAM;

/// Where it may be in a root file system of the user's.
const PLACES: [&str; 4] = ["/", "/sbin", "/usr/sbin", "/usr/bin"];

/// The command with `gracefully-init` in front of it.
pub(super) fn in_front(command: Vec<String>, rootfs: Option<&str>) -> anyhow::Result<Vec<String>> {
    let init = rootfs.map_or_else(beside_us, |rootfs| inside(Path::new(rootfs)))?;
    let init = init.into_os_string().into_string();
    let init = init.map_err(|path| anyhow::anyhow!("--init: {} is not UTF-8", path.display()))?;
    Ok([init, "--".to_owned()].into_iter().chain(command).collect())
}

/// Where a container sees the files of this machine it is the one beside this program.
fn beside_us() -> anyhow::Result<PathBuf> {
    let us = std::env::current_exe().context("--init: where this program is cannot be found out")?;
    let init = us.with_file_name(PROGRAM);
    anyhow::ensure!(
        init.is_file(),
        "--init: {} is not there: cargo install --path crates/init",
        init.display()
    );
    Ok(init)
}

/// In another root file system it is whatever its owner has put there.
fn inside(rootfs: &Path) -> anyhow::Result<PathBuf> {
    let is_there = |place: &PathBuf| rootfs.join(place.strip_prefix("/").unwrap_or(place)).is_file();
    let mut places = PLACES.iter().map(|place| Path::new(place).join(PROGRAM));
    let missing = || format!("--init: there is no /{PROGRAM} in {}: copy it there", rootfs.display());
    places.find(is_there).with_context(missing)
}
