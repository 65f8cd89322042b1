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
use std::sync::{Mutex, OnceLock, PoisonError};

use gracefully_core::diagnosis::printable;
use gracefully_core::exit;
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
/// any program which SIGPIPE ends, unless there is something worse to tell. A full disk behind stdout is an error.
pub(crate) struct Console {
    stdout: Sink,
    stderr: Sink,
    choice: ProgressChoice,
    /// The live lines, if stderr is a terminal.
    live: Option<MultiProgress>,
    /// Why stdout cannot be written to any more.
    broken: OnceLock<io::Error>,
}

/// The exit code of a program that SIGPIPE (13) ended.
const SIGPIPE: u8 = exit::SIGNAL_BASE + 13;

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
            choice,
            live,
            broken: OnceLock::new(),
        }
    }

    /// One that writes elsewhere, without live lines.
    #[cfg(test)]
    pub(crate) fn writing_to(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        Self {
            stdout: Mutex::new(stdout),
            stderr: Mutex::new(stderr),
            choice: ProgressChoice::Plain,
            live: None,
            broken: OnceLock::new(),
        }
    }

    /// What was chosen.
    pub(crate) fn choice(&self) -> ProgressChoice {
        self.choice
    }

    /// A line of the contract.
    pub(crate) fn line(&self, text: &str) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Output as it is.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        if self.is_broken() {
            return;
        }
        if let Err(error) = self.write(&self.stdout, bytes) {
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.error(&format!("cannot write to stdout: {error}"));
            }
            // Only the first one is kept.
            let _ = self.broken.set(error);
        }
    }

    /// Bytes that a program wrote to its stderr.
    pub(crate) fn foreign_stderr(&self, bytes: &[u8]) {
        // If nobody reads stderr there is nobody to tell.
        let _ = self.write(&self.stderr, bytes);
    }

    /// Something to know that is not an error; left out with `--progress none`.
    pub(crate) fn note(&self, text: &str) {
        if self.choice != ProgressChoice::None {
            self.error(text);
        }
    }

    /// An error. What it quotes, a name or a file's text, may be anything; only the line feeds are ours.
    pub(crate) fn error(&self, text: &str) {
        let lines: Vec<_> = text.split('\n').map(printable).collect();
        self.foreign_stderr(format!("{}\n", lines.join("\n")).as_bytes());
    }

    /// A live line for one target, if there are live lines.
    pub(crate) fn watch(&self, name: &str) -> Line {
        Line::new(self.live.as_ref(), name)
    }

    /// Can stdout not be written to any more?
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get().is_some()
    }

    /// The exit code, given what the work came to.
    pub(crate) fn conclude(&self, code: u8) -> u8 {
        match self.broken.get() {
            Some(error) if code == exit::OK && error.kind() == io::ErrorKind::BrokenPipe => SIGPIPE,
            Some(_) if code == exit::OK => exit::FAILURE,
            _ => code,
        }
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
            .field("choice", &self.choice)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails in this way.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_told_only_by_the_exit_code() {
        let failing = |kind| Console::writing_to(Box::new(Failing(kind)), Box::new(io::sink()));
        let console = failing(io::ErrorKind::BrokenPipe);
        assert_eq!(console.conclude(exit::OK), exit::OK);
        console.line("web");
        assert!(console.is_broken());
        assert_eq!(console.conclude(exit::OK), 141);
        assert_eq!(console.conclude(exit::FAILURE), exit::FAILURE, "worse things come first");

        let console = failing(io::ErrorKind::StorageFull);
        console.line("web");
        assert_eq!(console.conclude(exit::OK), exit::FAILURE);
    }
}
