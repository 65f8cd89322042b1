//! What else this executable is, besides the program that a user calls.
//!
//! * the **launcher**, which makes a container: see `gracefully_engine::local::launcher`
//! * the **conductor**, which walks the stop of one: see [`conductor`]
//! * the **agent** of a registration, which has understood its command line: see [`commands`]
//! * the **monitor**, where the program `gracefully-monitor` is not beside this one: see [`gracefully_monitor`]

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use gracefully_engine::local::launcher;

use crate::{commands, conductor};

/// The main function of these; `None` if this process is none of them.
pub(crate) fn main(argv: &[OsString]) -> Option<ExitCode> {
    if let Some(code) = commands::resume() {
        return Some(code);
    }
    let (role, words) = argv.get(1..)?.split_first()?;
    match (role.to_str()?, words) {
        ("monitor", [_, _, _]) => {
            let words: Vec<CString> =
                words.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect();
            let word = |place: usize| words.get(place).map(CString::as_c_str);
            Some(ExitCode::from(gracefully_monitor::main([word(0), word(1), word(2)])))
        }
        ("launch", [home, monitor]) => {
            Some(launcher::main(Path::new(home), monitor.to_str().and_then(|pid| pid.parse().ok())?))
        }
        ("conduct", [_home]) => Some(conductor::main()),
        _ => None,
    }
}
