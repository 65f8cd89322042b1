//! How the program is linked, and which build it is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(small)");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let alone = env::var_os("CARGO_FEATURE_STD").is_none();
    if alone && (os.as_str(), arch.as_str()) == ("linux", "x86_64") {
        println!("cargo::rustc-cfg=small");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("small.ld");
        for flag in FLAGS.iter().copied().chain(script.to_str()) {
            println!("cargo::rustc-link-arg-bin=gracefully-monitor={flag}");
        }
        println!("cargo::rerun-if-changed=small.ld");
    }
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-env=GRACEFULLY_MONITOR_DIGEST={:016x}", digest());
}

/// Without the C library: see `gracefully-start`. What nobody reads is left out.
const FLAGS: [&str; 4] =
    ["-nostartfiles", "-static", "-no-pie", "-Wl,--build-id=none,--no-eh-frame-hdr,--strip-all,-z,norelro"];

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
