//! The process that minds one container of the local engine, from its start until it has ended for good.
//!
//! It owns the pipes into which the program writes, waits for its end, starts it again if the restart policy says so,
//! and answers clients. A stop it has walked by a **conductor**, a process that it starts for it; should that be lost,
//! it ends the stop by itself. So a client that dies changes nothing, and neither does a conductor.
//!
//! ```text
//!            control.sock                                        socket
//! clients ◄──────────────► Clients ◄──► Watch ◄──► Child ◄───────────────────► launcher, conductor
//!                                       │   ▲
//!                               actions │   │ events          (Watch does, Supervisor decides)
//!                                       │   ▼
//!                       program, log ◄──┘ Supervisor
//! ```
//!
//! There is one monitor for every container, so it must be small: it is a program of its own without the standard
//! library and without the C library (see `gracefully-start`), has one thread, and sleeps unless something happens. The
//! same code is in `gracefully`, for whoever has only that.
//!
//! It does not die of SIGHUP, SIGPIPE, SIGINT or SIGTERM; the latter two make it stop its container gracefully. If it
//! is killed, the program runs on and the next command that looks at the container notices.
//!
//! The crate is also where the engine finds the forms of everything that both read or write: the [`record`], the
//! [`protocol`], the [`log`], the [`names`], the [control groups](cgroup).
#![no_std]

extern crate alloc;

pub mod cgroup;
pub mod failure;
pub mod files;
pub mod log;
pub mod names;
pub mod protocol;
pub mod record;
pub mod removal;

mod backoff;
mod children;
mod clients;
mod home;
mod inherit;
mod pipes;
mod supervisor;
#[cfg(test)]
mod testing;
mod watch;

use alloc::string::{String, ToString};
use core::ffi::CStr;

use gracefully_core::exit;
use gracefully_linux::errno::Described;

use self::home::Home;
use self::inherit::Inherited;
use self::watch::{Watch, complain};

/// Which build this is: the version, and a digest of this crate's sources. Whoever starts a monitor says which one it
/// means, so that a file that was left from another version is not taken for it.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("GRACEFULLY_MONITOR_DIGEST"));

/// The exit code of a monitor that is of another build than its starter. It has done nothing then.
pub const OTHER_BUILD: u8 = 64;

/// The name of the program, which is looked for beside `gracefully`.
pub const PROGRAM: &str = "gracefully-monitor";

/// The monitor's main function: the build that is meant, the container's directory, and the number of the descriptor
/// under which `gracefully` is open.
pub fn main(arguments: [Option<&CStr>; 3]) -> u8 {
    let [Some(build), Some(home), Some(gracefully)] = arguments else {
        complain(concat!(
            "gracefully-monitor ",
            env!("CARGO_PKG_VERSION"),
            ": gracefully starts it for every container"
        ));
        return exit::USAGE;
    };
    if build.to_bytes() != BUILD.as_bytes() {
        return OTHER_BUILD;
    }
    match prepare(home, gracefully) {
        Ok(watch) => {
            watch.run();
            exit::OK
        }
        Err(why) => {
            complain(&why);
            exit::FAILURE
        }
    }
}

fn prepare(home: &CStr, gracefully: &CStr) -> Result<Watch, String> {
    let number = gracefully.to_str().ok().and_then(|number| number.parse().ok()).ok_or("no descriptor")?;
    let inherited = Inherited::take_over(number)
        .map_err(|errno| alloc::format!("cannot take over from the starter: {}", Described(errno)))?;
    let home = Home::open(home.into()).map_err(|failure| failure.to_string())?;
    Watch::new(home, inherited)
}
