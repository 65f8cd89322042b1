//! How a small static program of ours is linked: for its build script.
//!
//! Such a program has a feature `std`, and is small without it: then it has neither the standard library nor the C library but
//! `gracefully-start`. Where that is not ported to, and with the feature, it is an ordinary program.

use std::env;
use std::path::Path;

/// Tells cargo how to link `program`, the binary of the package whose build script calls this, and sets `cfg(small)` if it is to
/// be small.
#[expect(clippy::print_stdout, reason = "cargo reads what a build script prints")]
pub fn link(program: &str) {
    println!("cargo::rustc-check-cfg=cfg(small)");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let alone = env::var_os("CARGO_FEATURE_STD").is_none();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("small.ld");
    println!("cargo::rerun-if-changed={}", script.display());
    if alone && (os.as_str(), arch.as_str()) == ("linux", "x86_64") {
        println!("cargo::rustc-cfg=small");
        for flag in FLAGS.iter().copied().chain(script.to_str()) {
            println!("cargo::rustc-link-arg-bin={program}={flag}");
        }
    }
}

/// Without the C library, and without what nobody reads.
const FLAGS: [&str; 4] =
    ["-nostartfiles", "-static", "-no-pie", "-Wl,--build-id=none,--no-eh-frame-hdr,--strip-all,-z,norelro"];
