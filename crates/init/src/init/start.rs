//! From the options to a main that runs.

use alloc::format;
use alloc::string::String;
use core::ffi::CStr;
use core::fmt;
use core::time::Duration;

use gracefully_linux::errno::Described;
use gracefully_linux::signals::Mask;
use gracefully_linux::spawn::signal_on_parents_death;
use gracefully_linux::standard;
use rustix::fd::{AsFd, AsRawFd};
use rustix::process::{chdir, getpid, set_child_subreaper};

use super::Init;
use crate::FAILURE;
use crate::account::ReportFile;
use crate::arguments::Options;
use crate::chores::Chores;
use crate::clock::now;
use crate::program::{Inheritance, NotStarted, start_main};
use crate::relatives::Relatives;
use crate::status::{Board, State, Status};
use crate::terminal::Terminal;

/// When main has had time to install its handlers, and it is worth a line if it has none.
const HAD_TIME: Duration = Duration::from_secs(5);

/// Why there is no main.
#[derive(Debug)]
pub(crate) enum Failure {
    NotStarted(NotStarted),
    /// Something that was asked for cannot be done.
    Option(String),
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::NotStarted(failure) => failure.code(),
            Self::Option(_) => FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(failure) => failure.fmt(f),
            Self::Option(why) => f.write_str(why),
        }
    }
}

impl<'a> Init<'a> {
    /// Starts main. All signals are blocked; `mask` is what was blocked before.
    pub(crate) fn start(
        options: &'a Options,
        environment: &'a [&'static CStr],
        mask: Mask,
    ) -> Result<Self, Failure> {
        let system = |what: &str, errno| Failure::Option(format!("{what}: {}", Described(errno)));
        standard::hold_places();
        if let Some(signal) = options.on_parents_death {
            signal_on_parents_death(signal).map_err(|errno| system("-p", errno))?;
        }
        // Whoever is not PID 1 gets no orphans unless it asks for them. There is nothing to do if it may not.
        let _ = set_child_subreaper(Some(getpid()));
        let inheritance = Inheritance::take(environment, mask).map_err(|errno| system("SIGCHLD", errno))?;
        let mut chores = Chores::new(options);
        chores.check(&inheritance).map_err(Failure::Option)?;
        let report = options.report.as_ref().map(|path| {
            ReportFile::open(path)
                .map_err(|errno| system(&format!("--report {}", path.to_string_lossy()), errno))
        });
        let report = report.transpose()?;

        let terminal = Terminal::find();
        let main = start_main(&options.command, &inheritance, &terminal).map_err(Failure::NotStarted)?;
        // A directory that we are in cannot be unmounted, and what we have open is never at its end.
        let _ = chdir("/");
        close_inherited(report.as_ref(), &terminal);

        let us = getpid().as_raw_nonzero().get().cast_unsigned();
        let board = Board::new();
        board.show(&Status::new(State::Running, main.pid(), &[]));
        let waits = options.sidecars_wait && !options.sidecars.is_empty();
        if !waits {
            chores.start_sidecars(&inheritance);
        }
        Ok(Self {
            options,
            inheritance,
            us,
            main,
            ended: None,
            terminal,
            relatives: Relatives::new(us),
            chores,
            report,
            board,
            stop: None,
            passed_on: 0,
            said_refused: false,
            check_at: Some(now() + HAD_TIME),
            listener_at: waits.then(now),
            unreaped: false,
        })
    }
}

/// Closes what our parent has left open: main has it, and whoever is at the other end waits for main, not for us.
fn close_inherited(report: Option<&ReportFile>, terminal: &Terminal) {
    let kept = [report.map(AsFd::as_fd), terminal.as_fd()];
    let mut kept = kept.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd()));
    kept.sort_unstable();
    // Where the kernel is too old for it (before Linux 5.9) they stay open.
    let _ = standard::close_all_but(&kept);
}
