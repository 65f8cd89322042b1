//! `cargo xtask bench discovery`: an instance ends behind real gateways, gracefully and otherwise. What is measured is in
//! `crates/registry/servers/src/main.rs`, so that this program need not be linked with it.

use std::process::Command;

use anyhow::Result;

use super::table;
use crate::artifacts::{cargo, root, target_dir};
use crate::{command, setup, wheels};

/// The whole page.
pub(super) fn measure(quick: bool) -> Result<String> {
    setup::run()?;
    let tools = wheels::install()?;
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--package", "gracefully-cli", "--package", "orders"]);
    command::run(build.args(["--package", "gracefully-servers"]).current_dir(root()))?;
    let release = target_dir()?.join("release");
    let mut gates = Command::new(release.join("gates"));
    gates.arg(release.join("gracefully")).arg(release.join("orders")).arg(if quick { "3" } else { "20" });
    let page = command::output(gates.env("GRACEFULLY_TEST_TOOLS", tools))?;
    Ok(page + &format!("\n## Machine\n\n{}\n", table::machine()?))
}
