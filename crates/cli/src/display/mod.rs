//! What is shown: the one writer to stdout and stderr, and the texts.
//!
//! stdout carries docker's contract, names, identifiers and logs, and nothing else. Everything else goes to stderr.

mod live;
mod plan;
mod table;
mod time;
mod verdict;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

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
pub(crate) struct Console {
    stdout: Sink,
    stderr: Sink,
    quiet: bool,
    /// The live lines, if stderr is a terminal.
    live: Option<MultiProgress>,
    reader_gone: AtomicBool,
}

type Sink = Mutex<Box<dyn Write + Send>>;

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
        Self {
            stdout: Mutex::new(Box::new(io::stdout())),
            stderr: Mutex::new(Box::new(io::stderr())),
            quiet: choice == ProgressChoice::None,
            live,
            reader_gone: AtomicBool::new(false),
        }
    }

    /// One that writes elsewhere, without live lines.
    #[cfg(test)]
    pub(crate) fn writing_to(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        Self {
            stdout: Mutex::new(stdout),
            stderr: Mutex::new(stderr),
            quiet: false,
            live: None,
            reader_gone: AtomicBool::new(false),
        }
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
        if self.write(&self.stdout, bytes).is_err() {
            self.reader_gone.store(true, Ordering::Relaxed);
        }
    }

    /// Bytes that a program wrote to its stderr.
    pub(crate) fn foreign_stderr(&self, bytes: &[u8]) {
        // If nobody reads stderr there is nobody to tell.
        let _ = self.write(&self.stderr, bytes);
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

    /// Live lines stand on the same terminal; they make room.
    fn write(&self, sink: &Sink, bytes: &[u8]) -> io::Result<()> {
        let write = || {
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink.write_all(bytes).and_then(|()| sink.flush())
        };
        match &self.live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("quiet", &self.quiet)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_told_only_by_the_exit_code() {
        let console = Console::writing_to(Box::new(Closed), Box::new(Closed));
        assert_eq!(console.conclude(exit::OK), exit::OK);
        console.line("web");
        assert!(console.is_reader_gone());
        assert_eq!(console.conclude(exit::OK), 141);
        assert_eq!(console.conclude(exit::FAILURE), exit::FAILURE, "worse things come first");
    }
}
