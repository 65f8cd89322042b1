//! PID 1 of a container: `ENTRYPOINT ["/gracefully-init", "--"]`.
//!
//! A program that is PID 1 gets no signal that it has no handler for, and is given every orphan of the container to reap.
//! Programs are not written for that, so an init is put in front. This one does what tini does, takes its options, and
//! ends the container differently: it waits for *everyone*, within one budget, and says what happened.
//!
//! ```text
//!                       kernel                             the program and all its descendants
//!                         │ every signal, blocked                     ▲            │
//!                         ▼                                           │ signals    │ ends (SIGCHLD)
//!   Asked ──► Init ── signals::next(until something is due) ──────────┘            │
//!  (options)   │  ▲                                                                │
//!              │  └────────────────────────────────────────────────────────────────┘
//!              │ events            ▲ actions
//!              ▼                   │
//!            Sequence (core): Deregister → Settle → Drain → Terminate → Flush → Kill
//! ```
//!
//! **One system call waits.** All signals are blocked from the first instruction on, and `rt_sigtimedwait(2)` takes them
//! one by one, with a limit if something is due. So there is no handler that a child could inherit for a moment, no
//! descriptor to watch, no wake-up when nothing happens, and nothing is allocated for a signal that is passed on.
//!
//! **A stop** begins when the stop signal comes. What is to be done, and when, is decided by the same state machine that
//! the command line tool uses ([`Sequence`](gracefully_core::sequence)); here are the means:
//!
//! * [`chores`]: what comes first and last: hooks, sidecars, syncfs(2).
//! * [`traffic`]: wait until no new connection comes and none has a request under way, by the kernel's socket table.
//! * [`relatives`]: the descendants that main leaves behind are told once each, and killed at the end.
//! * [`account`]: one line, and a report as JSON.
//!
//! **A crash**, main's end that nobody asked for, takes the same way from the middle on: the others get the stop signal
//! and their time.
//!
//! What belongs to the start: [`arguments`], [`main`](mod@program) and the [`terminal`].
//!
//! `no_std`, so that the program is smaller than tini; there is no unsafe code here, it is all in `gracefully-linux`.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod account;
pub mod arguments;
pub mod chores;
pub mod exits;
pub mod program;
pub mod relatives;
pub mod rewrites;
pub mod terminal;
pub mod traffic;
pub mod usage;
pub mod values;

mod clock;
mod init;
mod say;
mod status;
#[cfg(test)]
mod testing;

use alloc::vec::Vec;
use core::ffi::CStr;

use gracefully_linux::signals;

use self::arguments::Asked;
use self::init::Init;
use self::say::{say, write_out};

/// The name of the program.
pub const PROGRAM: &str = "gracefully-init";

/// The exit code for a command line that cannot be understood, and for everything that goes wrong before the program runs
/// and is not its absence: as of tini and dumb-init.
pub const FAILURE: u8 = 1;

/// The program, from its first instruction to its exit code. `inherited` gives arguments and environment.
pub fn main(inherited: impl FnOnce() -> (Vec<&'static CStr>, Vec<&'static CStr>)) -> u8 {
    // Before anything else: to PID 1, a signal that is neither blocked nor handled is lost.
    let mask = signals::block_all();
    let (words, environment) = inherited();
    let mask = match mask {
        Ok(mask) => mask,
        Err(errno) => return complain(format_args!("signals cannot be blocked: {errno}")),
    };
    match arguments::parse(&words, &environment) {
        Ok(Asked::Help) => write_out(usage::HELP),
        Ok(Asked::License) => write_out(usage::LICENSE),
        Ok(Asked::Version) => write_out(usage::version(words.first().copied())),
        Ok(Asked::Status(pid)) => status::show(pid),
        Ok(Asked::Run(options)) => match Init::start(&options, &environment, mask) {
            Ok(init) => init.run(),
            Err(failure) => {
                say(format_args!("{failure}"));
                failure.code()
            }
        },
        Err(error) => complain(format_args!("{error}\nTry gracefully-init --help.")),
    }
}

fn complain(what: core::fmt::Arguments<'_>) -> u8 {
    say(what);
    FAILURE
}
