//! The binaries that the tests run in containers and on the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// Where the binaries are.
#[derive(Debug)]
pub(crate) struct Artifacts {
    /// The demo's program.
    pub(crate) seed: PathBuf,
    /// The end-to-end suite's program.
    pub(crate) victim: PathBuf,
    /// The monitor as it is installed.
    pub(crate) monitor: PathBuf,
    /// The init as it is installed.
    pub(crate) init: PathBuf,
}

/// Builds them.
pub(crate) fn build() -> Result<Artifacts> {
    let (seed, victim) = build_static()?;
    let [monitor, init] = ["gracefully-monitor", "gracefully-init"].map(build_small);
    Ok(Artifacts { seed, victim, monitor: monitor?, init: init? })
}

/// A program without the standard library. It is built alone: together with anything else its dependencies would have that.
fn build_small(name: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--package", name]).current_dir(root());
    command::run(&mut build)?;
    // Whatever else is built puts a program of the same name there.
    let program = target_dir()?.join("release").join(name);
    let kept = target_dir()?.join("static").join(name);
    std::fs::copy(&program, &kept).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(kept)
}

/// Static and small, in a target directory of their own: other flags would make cargo rebuild everything.
fn build_static() -> Result<(PathBuf, PathBuf)> {
    let root = root();
    let host = host_triple()?;
    let target = target_dir()?.join("static");
    let linker_script = root.join("crates/link/small.ld");
    let flags = [
        "-Ctarget-feature=+crt-static",
        "-Crelocation-model=static",
        "-Cllvm-args=-enable-machine-outliner=always",
        "-Clink-arg=-Wl,--icf=all,--no-eh-frame-hdr,--build-id=none,-z,norelro,-O2",
        &format!("-Clink-arg=-Wl,{}", linker_script.display()),
    ];
    // With an explicit --target the flags are not applied to build scripts and procedural macros.
    command::run(
        cargo()
            .args(["build", "--quiet", "--profile", "small", "--package", "seed", "--package", "victim"])
            .args(["--target", &host])
            .arg("--target-dir")
            .arg(&target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .current_dir(&root),
    )?;
    let binaries = target.join(&host).join("small");
    Ok((binaries.join("seed"), binaries.join("victim")))
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace is where we were built")
}

/// The workspace's target directory.
pub(crate) fn target_dir() -> Result<PathBuf> {
    // We are TARGET/PROFILE/xtask ourselves; asking cargo for its metadata would be slower.
    let exe = std::env::current_exe()?;
    let directory = exe.ancestors().nth(2).context("xtask was not started by cargo")?;
    Ok(directory.to_path_buf())
}

fn host_triple() -> Result<String> {
    let version = command::output(Command::new("rustc").arg("-vV"))?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_string)
        .context("rustc -vV names no host")
}
