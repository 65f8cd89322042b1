//! How the program is linked, and which build it is.

use std::fs;
use std::path::PathBuf;

fn main() {
    gracefully_link::link("gracefully-monitor");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-env=GRACEFULLY_MONITOR_DIGEST={:016x}", digest());
}

/// FNV-1a of all sources, in the order of their paths.
fn digest() -> u64 {
    let mut files = files_below("src".into());
    files.sort();
    let bytes = files.into_iter().flat_map(|file| fs::read(&file).unwrap_or_default());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn files_below(dir: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| if entry.path().is_dir() { files_below(entry.path()) } else { vec![entry.path()] })
        .collect()
}
