//! Every exit code of our programs. Exit codes are API: a changed meaning is a breaking change.
//!
//! They are docker's, so that a script may say `gracefully` where it said `docker`; the only addition is
//! [`NOT_GRACEFUL`], and only under `--strict`.

/// Everything asked for was done.
pub const OK: u8 = 0;

/// The engine refused or failed at least one of the targets; the others were still handled.
pub const FAILURE: u8 = 1;

/// `--strict` only: everything was stopped, but something had to be killed or was cut.
pub const NOT_GRACEFUL: u8 = 3;

/// `inspect --format` only: the format cannot be understood.
pub const TEMPLATE: u8 = 64;

/// The command line is wrong (every verb), or `run` failed before the program was started.
pub const USAGE: u8 = 125;

/// `run` only: the command was found but cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;

/// `run` only: the command was not found.
pub const NOT_FOUND: u8 = 127;

/// Added to the number of the signal that ended a process, as a shell does.
pub const SIGNAL_BASE: u8 = 128;

/// We were interrupted by SIGINT (128 + 2).
pub const INTERRUPTED: u8 = SIGNAL_BASE + 2;

/// We were ended by SIGTERM (128 + 15).
pub const TERMINATED: u8 = SIGNAL_BASE + 15;
