//! How the program is linked.

use std::process::Command;

fn main() {
    // A tenth of the program is a table of addresses that only have to be shifted, and every process of ours would read it. Packed (RELR) it
    // is next to nothing. The C library understands that from 2.36 on; where it is older, or another one, it is left as it is.
    println!("cargo:rerun-if-changed=build.rs");
    let is_native = std::env::var("HOST").ok() == std::env::var("TARGET").ok();
    if is_native && glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of the C library of this machine, if it is glibc: `glibc 2.36` (getconf(1)).
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
