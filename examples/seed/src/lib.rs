//! The demo's program: an ordinary small service that waits until it is told to stop.
//!
//! It stands for any program of a user, so it knows nothing of gracefully. It handles SIGTERM, and only as PID 1 of a
//! container, or as a plain process, does that signal reach it; behind `/bin/sh -c` it does not.

use std::io::{self, Write};
use std::process::ExitCode;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

/// Waits for SIGTERM and says so: three lines on standard output, exit code 0.
///
/// The first line is written when the handler is installed, so whoever has read it may send the signal.
pub fn run() -> ExitCode {
    let mut signals = match Signals::new([SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cannot handle SIGTERM: {error}");
            return ExitCode::FAILURE;
        }
    };
    say("Program started...");
    if signals.forever().next().is_some() {
        say("SIGTERM received!");
    }
    say("Exiting...");
    ExitCode::SUCCESS
}

/// Writes a line at once, also into a pipe. That nobody reads it is no reason to fail.
fn say(line: &str) {
    let mut stdout = io::stdout();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
