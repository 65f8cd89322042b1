//! What is shown: the one writer to stdout and stderr, and the texts.
//!
//! stdout carries docker's contract, names, identifiers and logs, and nothing else. Everything else goes to stderr.

mod live;
mod plan;
mod table;
mod time;
mod verdict;

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use gracefully_core::exit;
use gracefully_core::signal::Signal;
use indicatif::{MultiProgress, ProgressDrawTarget};

pub(crate) use self::live::Line;
pub(crate) use self::plan::preview;
pub(crate) use self::table::{Truncate, json_row, short_id, table};
pub(crate) use self::verdict::{verdict, why_failed};
use crate::args::ProgressChoice;

/// The one writer.
///
/// When the reader of stdout goes away (`gracefully stop a b | head -1`), nothing more is written there, but the work
/// goes on: a stop is not left half-done because nobody reads its name. At the end the exit code is 141, as that of
/// any program which SIGPIPE ends, unless there is something worse to tell.
#[derive(Debug)]
pub(crate) struct Console {
    quiet: bool,
    /// The live lines, if stderr is a terminal.
    live: Option<MultiProgress>,
    reader_gone: AtomicBool,
}

impl Console {
    pub(crate) fn new(choice: ProgressChoice) -> Self {
        let on_terminal =
            || io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        let live = match choice {
            ProgressChoice::Auto if on_terminal() => {
                Some(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)))
            }
            ProgressChoice::Auto | ProgressChoice::Plain | ProgressChoice::None => None,
        };
        Self { quiet: choice == ProgressChoice::None, live, reader_gone: AtomicBool::new(false) }
    }

    /// A line of the contract.
    pub(crate) fn line(&self, text: &str) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Output as it is.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        if self.is_reader_gone() {
            return;
        }
        let written = self.between_live_lines(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        });
        if written.is_err() {
            self.reader_gone.store(true, Ordering::Relaxed);
        }
    }

    /// Bytes that a program wrote to its stderr.
    pub(crate) fn foreign_stderr(&self, bytes: &[u8]) {
        // If nobody reads stderr there is nobody to tell.
        let _ = self.between_live_lines(|| io::stderr().lock().write_all(bytes));
    }

    /// Something to know that is not an error; left out with `--progress none`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.error(text);
        }
    }

    /// An error.
    pub(crate) fn error(&self, text: &str) {
        self.foreign_stderr(format!("{text}\n").as_bytes());
    }

    /// A live line for one target, if there are live lines.
    pub(crate) fn watch(&self, name: &str) -> Line {
        Line::new(self.live.as_ref(), name)
    }

    /// Has the reader of stdout gone away?
    pub(crate) fn is_reader_gone(&self) -> bool {
        self.reader_gone.load(Ordering::Relaxed)
    }

    /// The exit code, given what the work came to.
    pub(crate) fn conclude(&self, code: u8) -> u8 {
        let sigpipe = exit::SIGNAL_BASE + Signal::from_number(13).map_or(13, Signal::number);
        if code == exit::OK && self.is_reader_gone() { sigpipe } else { code }
    }

    fn between_live_lines<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    }
}
