//! The images of the tests, made from nothing: there is no registry.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::artifacts::{Artifacts, root};
use crate::command;

/// The static victim and nothing else.
pub(crate) const VICTIM: &str = "gracefully-test/victim";
/// The demo's program, by its Dockerfile.
pub(crate) const SEED: &str = "gracefully-test/seed";
/// Victim and seed with a `/bin/sh` (busybox): for the shell form of CMD.
pub(crate) const SHELL: &str = "gracefully-test/shell";
/// The victim with `STOPSIGNAL SIGQUIT`.
pub(crate) const QUIT: &str = "gracefully-test/quit";

/// Builds all images in the daemon at `host`.
pub(crate) fn build(host: &str, artifacts: &Artifacts) -> Result<()> {
    let context = tempfile::tempdir()?;
    let at = context.path();
    fs::copy(&artifacts.seed, at.join("seed"))?;
    fs::copy(&artifacts.victim, at.join("victim"))?;
    let busybox = command::find("busybox").context("no busybox: run cargo xtask setup")?;
    fs::copy(busybox, at.join("sh"))?;

    let seed = fs::read_to_string(root().join("examples/seed/Dockerfile"))?;
    build_one(host, SEED, at, &seed)?;
    build_one(host, VICTIM, at, "FROM scratch\nCOPY victim /victim\nENTRYPOINT [\"/victim\"]\n")?;
    build_one(host, QUIT, at, &format!("FROM {VICTIM}\nSTOPSIGNAL SIGQUIT\n"))?;
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
