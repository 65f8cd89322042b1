//! Clients of others, which are Python's.

use std::process::Command;

/// Runs a script with a module that may be missing; it says what is to be installed then.
#[track_caller]
pub(crate) fn run(module: &str, package: &str, script: &str) -> Result<(), String> {
    let python = |script: &str| Command::new("python3").args(["-c", script]).output();
    let missing = || format!("python3 has no module {module} (pip install {package})");
    let found = python(&format!("import {module}")).map_err(|error| format!("python3: {error}"))?;
    if !found.status.success() {
        return Err(missing());
    }
    let output = python(script).map_err(|error| format!("python3: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
