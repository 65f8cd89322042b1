//! The local engine's process beside each container.

use std::process::ExitCode;

/// Runs until its container is gone.
pub(crate) fn main() -> ExitCode {
    ExitCode::FAILURE
}
