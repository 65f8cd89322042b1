//! How the program is linked.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(small)");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let alone = env::var_os("CARGO_FEATURE_STD").is_none();
    if alone && (os.as_str(), arch.as_str()) == ("linux", "x86_64") {
        println!("cargo::rustc-cfg=small");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("small.ld");
        for flag in FLAGS.iter().copied().chain(script.to_str()) {
            println!("cargo::rustc-link-arg-bin=gracefully-init={flag}");
        }
    }
    println!("cargo::rerun-if-changed=small.ld");
}

/// Without the C library: see `gracefully-start`. What nobody reads is left out.
const FLAGS: [&str; 4] =
    ["-nostartfiles", "-static", "-no-pie", "-Wl,--build-id=none,--no-eh-frame-hdr,--strip-all,-z,norelro"];
