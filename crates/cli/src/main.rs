//! The program `gracefully`, alone or as the docker command `docker gracefully`.
//!
//! From words to work: [`usage`] understands the command line as docker would ([`args`]), [`settings`] is what that
//! means on this machine, and [`commands`] has one file a verb. What is shown goes through [`display`].

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use gracefully_core::exit;

use crate::settings::Settings;
use crate::usage::{Parsed, Program};

mod args;
mod commands;
mod conductor;
mod discovery;
mod display;
mod drive;
mod engines;
mod interrupt;
mod lookup;
mod parallel;
mod plugin;
mod roles;
mod settings;
mod target;
mod template;
#[cfg(test)]
mod testing;
mod usage;
mod values;

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    // Before everything else: these are processes for which time or memory counts.
    if let Some(code) = roles::main(&line) {
        return code;
    }
    // The demo's programs are in this executable, under links of their own names.
    match line.first().and_then(|name| Path::new(name).file_name()).and_then(OsStr::to_str) {
        Some("seed") => return seed::run(),
        Some("hello") => return hello::run(),
        _ => {}
    }
    let program = Program::from_argv0(line.first());
    ExitCode::from(match plugin::answer(program, &line) {
        Some(code) => code,
        None => work(program, line),
    })
}

fn work(program: Program, line: Vec<OsString>) -> u8 {
    let args = match usage::parse(program, line) {
        Ok(Parsed::Do(args)) => *args,
        Ok(Parsed::Say(text)) => {
            // Nobody reads it: then nobody needs it.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            return exit::OK;
        }
        Err(refusal) => {
            let _ = writeln!(std::io::stderr().lock(), "{}", refusal.text);
            return refusal.code;
        }
    };
    let settings = Settings::new(program, args.global);
    let code = commands::execute(&settings, args.verb).unwrap_or_else(|error| {
        settings.console.error(&format!("{error:#}"));
        exit::FAILURE
    });
    settings.console.conclude(code)
}
