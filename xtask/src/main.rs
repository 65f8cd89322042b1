//! What the project does to itself.
//!
//! | command | |
//! |---|---|
//! | `cargo xtask setup` | installs what the tests need and is missing: from Debian (as root, else it says what), and gateways from the Python package index into the target directory |
//! | `cargo xtask test [FILTER…]` | setup, a private Docker daemon and Podman, every test of the workspace, one summary |
//! | `cargo xtask bench [PART…] [--quick] [--write]` | measures everything, or only these parts (see `bench.rs`); `--write` puts it into its page |
//! | `cargo xtask images` | builds the static binaries of the tests and says where they are |
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's tool, it talks to the terminal"
)]

mod artifacts;
mod autopsy;
mod bench;
mod command;
mod dockerd;
mod images;
mod podman;
mod setup;
mod test;
mod wheels;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((task, rest)) = args.split_first() else {
        bail!("which task? setup, test, bench or images");
    };
    match task.as_str() {
        "setup" => setup::run().and_then(|()| wheels::install().map(drop)),
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "images" => {
            artifacts::build().map(|built| println!("{}\n{}", built.seed.display(), built.victim.display()))
        }
        other => bail!("unknown task {other}: setup, test, bench or images"),
    }
}
