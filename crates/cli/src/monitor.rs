//! The process that looks after one container of the local engine, from its start until it has ended for good.
//!
//! It owns the pipes into which the program writes, waits for its end, starts it again if the restart policy says so,
//! and carries out stops for clients: a client that dies changes nothing. It is single-threaded, never calls
//! libcontainer (a launcher does, see `gracefully_engine::local`) and allocates little, because there is one of it for
//! every container.
//!
//! ```text
//!            control.sock                    mpsc                      watch, mpsc
//! clients ◄──────────────► clients::serve ◄────────► Supervisor ◄──────────────────► Contained ◄── drive::walk
//!                                                     │      ▲                       (an Instance, one task per stop)
//!                                              launch │      │ output, SIGCHLD
//!                                                     ▼      │
//!                                                    the program
//! ```
//!
//! It does not die of SIGHUP, SIGPIPE, SIGINT or SIGTERM; the latter two make it stop its container gracefully. If it
//! is killed, the program runs on and the next command that looks at the container notices.

mod backoff;
mod clients;
mod contained;
mod program;
mod supervisor;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use gracefully_engine::local::{Home, Inherited, launcher};

use self::supervisor::Supervisor;

/// The main function of the monitor and of its launcher; `None` if this process is neither.
pub(crate) fn main(argv: &[impl AsRef<OsStr>]) -> Option<ExitCode> {
    match argv {
        [_, role, home] if role.as_ref() == "monitor" => Some(monitor(Path::new(home.as_ref()))),
        [_, role, home, monitor] if role.as_ref() == "launch" => {
            let monitor = monitor.as_ref().to_str()?.parse().ok()?;
            Some(launcher::main(Path::new(home.as_ref()), monitor))
        }
        _ => None,
    }
}

fn monitor(home: &Path) -> ExitCode {
    match try_monitor(home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is a file in the container's directory.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_monitor(home: &Path) -> anyhow::Result<()> {
    let inherited = Inherited::take_over()?;
    let home =
        Home::at(home).ok_or_else(|| anyhow::anyhow!("{} is no container's directory", home.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Supervisor::new(home, inherited)?.supervise().await })
}
