//! The images of the tests, made from nothing: there is no registry.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::artifacts::{Artifacts, root};
use crate::command;

/// The static victim and nothing else.
pub(crate) const VICTIM: &str = "gracefully-test/victim";
/// The demo's program, by its Dockerfile.
pub(crate) const SEED: &str = "gracefully-test/seed";
/// The victim behind `gracefully-init`, by the example's Dockerfile.
pub(crate) const INIT: &str = "gracefully-test/init";
/// Victim and seed with a `/bin/sh` (busybox): for the shell form of CMD.
pub(crate) const SHELL: &str = "gracefully-test/shell";
/// The victim with `STOPSIGNAL SIGQUIT`.
pub(crate) const QUIT: &str = "gracefully-test/quit";
/// Nothing but places for what the host has: its `/usr` is to be mounted, and everything installed there can be run.
pub(crate) const HOST: &str = "gracefully-test/host";

/// Builds all images in the daemon at `host`.
pub(crate) fn build(host: &str, artifacts: &Artifacts) -> Result<()> {
    let context = tempfile::tempdir()?;
    let at = context.path();
    fs::copy(&artifacts.seed, at.join("seed"))?;
    fs::copy(&artifacts.victim, at.join("victim"))?;
    fs::copy(&artifacts.init, at.join("gracefully-init"))?;
    let busybox = command::find("busybox").context("no busybox: run cargo xtask setup")?;
    fs::copy(busybox, at.join("sh"))?;

    let seed = fs::read_to_string(root().join("examples/seed/Dockerfile"))?;
    build_one(host, SEED, at, &seed)?;
    let init = fs::read_to_string(root().join("examples/init/Dockerfile"))?;
    build_one(host, INIT, at, &init)?;
    build_one(host, VICTIM, at, "FROM scratch\nCOPY victim /victim\nENTRYPOINT [\"/victim\"]\n")?;
    build_one(host, QUIT, at, &format!("FROM {VICTIM}\nSTOPSIGNAL SIGQUIT\n"))?;
    let frame = at.join("frame");
    fs::create_dir_all(frame.join("etc"))?;
    for name in ["passwd", "group"] {
        fs::copy(Path::new("/etc").join(name), frame.join("etc").join(name))?;
    }
    fs::create_dir(frame.join("tmp"))?;
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(Path::new("usr").join(name), frame.join(name))?;
    }
    build_one(host, HOST, at, "FROM scratch\nCOPY frame /\n")?;
    build_one(
        host,
        SHELL,
        at,
        "FROM scratch\nCOPY sh /bin/sh\nCOPY victim seed /\nCMD /victim slow 0 0; true\n",
    )
}

fn build_one(host: &str, name: &str, context: &Path, dockerfile: &str) -> Result<()> {
    let file = context.join("Dockerfile");
    fs::write(&file, dockerfile)?;
    // BuildKit needs the buildx plugin, which Debian's docker.io does not bring.
    command::output(
        Command::new("docker")
            .args(["--host", host, "build", "--quiet", "--tag", name])
            .arg(context)
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::null()),
    )
    .map(drop)
}
