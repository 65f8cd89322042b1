//! The program of [`seed::run`], for the image and for the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    seed::run()
}
