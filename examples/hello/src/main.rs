//! The program of [`hello::run`]: `hello [ADDRESS]`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hello::run()
}
