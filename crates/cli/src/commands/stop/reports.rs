//! `--report`: JSON, one object a line and target.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use gracefully_core::report::Report;

use crate::display::Console;

/// Where reports go.
#[derive(Debug)]
pub(super) enum Reports {
    Nowhere,
    Stdout,
    File(File),
}

impl Reports {
    /// Opens the file before anything is stopped, so that a wrong path does no harm.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        match path {
            None => Ok(Self::Nowhere),
            Some(path) if path == Path::new("-") => Ok(Self::Stdout),
            Some(path) => File::create(path)
                .map(Self::File)
                .with_context(|| format!("cannot write the report to {}", path.display())),
        }
    }

    /// Do they take the place of the names?
    pub(super) fn on_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    pub(super) fn add(&mut self, console: &Console, report: &Report) -> anyhow::Result<()> {
        match self {
            Self::Nowhere => {}
            Self::Stdout => console.line(&serde_json::to_string(report)?),
            Self::File(file) => {
                let line = serde_json::to_string(report)? + "\n";
                file.write_all(line.as_bytes()).context("cannot write the report")?;
            }
        }
        Ok(())
    }
}
