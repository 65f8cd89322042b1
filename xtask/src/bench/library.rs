//! `cargo xtask bench library`: a service on our library beside one on axum alone, and our durable file beside the bare disk and `SQLite`.

mod disk;
mod http;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::table;
use crate::artifacts::{cargo, root, target_dir};
use crate::{command, setup};

/// The peer whose dependencies are counted.
const PEER: &str = "tokio-graceful-shutdown";
const PEER_VERSION: &str = "0.20.0";

/// What is measured, and where it may write.
struct Programs {
    service: PathBuf,
    appends: PathBuf,
    directory: tempfile::TempDir,
}

impl Programs {
    fn build() -> Result<Self> {
        setup::run()?;
        command::run(
            cargo()
                .args(["build", "--quiet", "--release", "--package", "gracefully-bench"])
                .current_dir(root()),
        )?;
        let release = target_dir()?.join("release");
        // Not in /tmp, which may be memory: a disk is measured.
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(target_dir()?)?;
        Ok(Self { service: release.join("service"), appends: release.join("appends"), directory })
    }
}

/// The whole page.
pub(super) fn measure(quick: bool) -> Result<String> {
    let programs = Programs::build()?;
    let n = if quick { 6 } else { 20 };
    let mut rows = http::speed(&programs, n)?;
    rows.push(http::idle_connections(&programs, if quick { 2 } else { 10 })?);
    rows.extend(disk::appends(&programs, n)?);
    let mut page = String::from(
        "# The library beside others\n\n\
         Written by `cargo xtask bench library --write`. Both sides of a line were measured in the same run, in pairs, in random order:\n\
         median (10th–90th percentile). The value is the ratio of the medians, ours to theirs.\n\n",
    );
    page += &table::lines(&rows);
    page += &http::load_balancer(&programs, if quick { 3 } else { 20 })?;
    page += &dependencies()?;
    page += &table::commands(&rows);
    Ok(page + &format!("\n## Machine\n\n{}\n", table::machine()?))
}

/// How many crates each brings into a program that uses it, with its default features.
fn dependencies() -> Result<String> {
    let ours = format!("gracefully = {{ path = \"{}\" }}", root().join("crates/gracefully").display());
    let theirs = format!("{PEER} = \"={PEER_VERSION}\"");
    let [ours, theirs] = [ours, theirs].map(|dependency| crates_of(&dependency));
    Ok(format!(
        "\n## Dependencies\n\nCrates in a program with its default features alone, itself included: gracefully **{}**, {PEER} {PEER_VERSION} **{}**.\n",
        ours?, theirs?
    ))
}

fn crates_of(dependency: &str) -> Result<usize> {
    let program = tempfile::tempdir()?;
    fs::create_dir(program.path().join("src"))?;
    fs::write(program.path().join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"program\"\nedition = \"2024\"\n[dependencies]\n{dependency}\n[workspace]\n"
    );
    fs::write(program.path().join("Cargo.toml"), manifest)?;
    let mut tree = cargo();
    tree.args(["tree", "--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}"])
        .current_dir(program.path());
    let tree = command::output(&mut tree).with_context(|| format!("the dependencies of {dependency}"))?;
    let crates: BTreeSet<&str> = tree.lines().filter(|line| !line.starts_with("program ")).collect();
    Ok(crates.len())
}
