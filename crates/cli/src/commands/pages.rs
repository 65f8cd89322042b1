//! What is made from the definitions of the command line: completions and manual pages.

use std::path::Path;

use anyhow::Context as _;
use clap_complete::Shell;
use gracefully_core::exit;

use crate::settings::Settings;
use crate::usage::{Program, command};

pub(super) fn completions(settings: &Settings, shell: Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(Program::Standalone), Program::NAME, &mut script);
    settings.console.bytes(&script);
    exit::OK
}

/// Writes one page a command into `directory`, which is created; or the first page to stdout.
pub(super) fn man(settings: &Settings, directory: &Path) -> anyhow::Result<u8> {
    let command = command(Program::Standalone);
    if directory == Path::new("-") {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        settings.console.bytes(&page);
        return Ok(exit::OK);
    }
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
    Ok(exit::OK)
}
