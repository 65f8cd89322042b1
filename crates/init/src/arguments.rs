//! What was asked for, on the command line and in the environment.
//!
//! The options are those of tini, and of dumb-init and catatonit where these have others, so that each of the three can be
//! replaced without touching what calls it. As with all of them, the first word that is no option begins the command: `init
//! app -c x` gives `-c x` to `app`.
//!
//! `docker run --init` passes no options. So whatever matters is a variable of the environment, too; an option wins over its
//! variable.

use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;
use core::time::Duration;

use gracefully_core::policy::{Timeout, Within};
use gracefully_core::signal::Signal;
use gracefully_core::time::parse_duration;

use crate::exits::Exits;
use crate::program::Command;
use crate::rewrites::Rewrites;
use crate::values;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// `-h`
    Help,
    /// `--version`
    Version,
    /// `-l`
    License,
    /// `status [PID]`: tell what the init with this PID is doing.
    Status(u32),
    /// Be an init.
    Run(Box<Options>),
}

/// How to be an init.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The program and its arguments.
    pub command: Vec<&'static CStr>,
    /// `-g`: pass signals on to main's process group.
    pub group: bool,
    /// `-p`: what the kernel sends us when our parent ends.
    pub on_parents_death: Option<Signal>,
    /// `-v`, as often as it was said.
    pub verbosity: u8,
    /// `-w`: say which orphans were reaped.
    pub warn_of_orphans: bool,
    /// `-r`
    pub rewrites: Rewrites,
    /// `-e`, `--map-exit`, `--clean-exit`
    pub exits: Exits,
    /// `--stop-signal`
    pub stop: StopSignals,
    /// `--grace`; `None`: nobody has said how long a stop may take.
    pub grace: Option<Timeout>,
    /// `--settle`
    pub settle: Option<Within>,
    /// `--drain`
    pub drain: Option<Ports>,
    /// `--on-stop`, in the order in which they run.
    pub hooks: Vec<Hook>,
    /// `--sidecar`
    pub sidecars: Vec<Command>,
    /// `--sidecar-after listen`: they are started once main listens.
    pub sidecars_wait: bool,
    /// `--sync`
    pub sync: Vec<CString>,
    /// `--report`
    pub report: Option<CString>,
    /// `--wait-all`: main's end alone is not the end.
    pub waits_for_all: bool,
}

/// The signals of a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopSignals {
    /// What main gets; `None`: what came, as it would be passed on.
    pub first: Option<Signal>,
    /// What main gets when its time is up, and the others in any case; `None`: SIGTERM, and main nothing more.
    pub then: Option<Signal>,
}

/// Whose connections are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// `auto`: wherever the program and its descendants listen.
    Auto,
    /// These local ports.
    These(Vec<u16>),
}

/// Something that is run when a stop begins.
#[derive(Debug, PartialEq, Eq)]
pub struct Hook {
    /// What.
    pub command: Command,
    /// It is killed if it takes longer; `None`: as long as the budget has for what comes before the stop signal.
    pub limit: Option<Duration>,
}

/// Why the command line cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for UsageError {}

type Result<T> = core::result::Result<T, UsageError>;

/// Understands the command line, of which the first word is our own name, and the environment.
pub fn parse(words: &[&'static CStr], environment: &[&'static CStr]) -> Result<Asked> {
    let mut options = Options::default();
    for variable in environment {
        options.obey_variable(variable)?;
    }
    // What the options say replaces what the variables said.
    let mut parser = Parser { rest: words.get(1..).unwrap_or_default(), options, hook_limit: None };
    if let Some(other) = parser.options()? {
        return Ok(other);
    }
    let Parser { rest, mut options, .. } = parser;
    if options.hooks.is_empty() && options.sidecars.is_empty() && rest.first() == Some(&c"status") {
        return status(&rest[1..]);
    }
    if rest.is_empty() {
        return Err(UsageError("no command: say which program to run".into()));
    }
    options.command = rest.strip_prefix(&[SEPARATOR]).unwrap_or(rest).to_vec();
    if options.command.is_empty() {
        return Err(UsageError("no command after --".into()));
    }
    Ok(Asked::Run(Box::new(options)))
}

const SEPARATOR: &CStr = c"--";

fn status(rest: &[&'static CStr]) -> Result<Asked> {
    match rest {
        [] => Ok(Asked::Status(1)),
        [pid] => {
            let pid = pid.to_str().ok().and_then(|pid| pid.parse().ok()).filter(|&pid| pid > 0);
            pid.map(Asked::Status).ok_or_else(|| UsageError("status takes the PID of an init".into()))
        }
        _ => Err(UsageError("status takes one PID".into())),
    }
}

struct Parser<'a> {
    rest: &'a [&'static CStr],
    options: Options,
    /// `--hook-limit`, for the hooks that follow.
    hook_limit: Option<Duration>,
}

impl Parser<'_> {
    /// Takes all options. A word that asks for something else than an init is the answer.
    fn options(&mut self) -> Result<Option<Asked>> {
        while let [word, after @ ..] = self.rest {
            let word: &'static CStr = word;
            let other = match word.to_bytes() {
                // It stays, to tell `-- status` from `status`.
                b"--" => return Ok(None),
                [b'-', b'-', ..] => {
                    self.rest = after;
                    self.long(word)?
                }
                [b'-', _, ..] => {
                    self.rest = after;
                    self.short(word)?
                }
                _ => return Ok(None),
            };
            if other.is_some() {
                return Ok(other);
            }
        }
        Ok(None)
    }

    /// `-gv`, `-pTERM`, `-p TERM`
    fn short(&mut self, word: &'static CStr) -> Result<Option<Asked>> {
        let text = text(word)?;
        for (at, letter) in text[1..].char_indices() {
            let name = match letter {
                'h' => return Ok(Some(Asked::Help)),
                'V' => return Ok(Some(Asked::Version)),
                'l' => return Ok(Some(Asked::License)),
                'v' => "verbose",
                'w' => "warn",
                'g' => "group",
                's' => "subreaper",
                'c' => "single-child",
                'p' => "parent-death",
                'e' => "remap-exit",
                'r' => "rewrite",
                'P' => {
                    return Err(UsageError("-P, catatonit's pause, is for pods of Podman: not here".into()));
                }
                _ => return Err(UsageError(format!("unknown option -{letter}"))),
            };
            if takes_value(name) {
                let attached = &text[1 + at + letter.len_utf8()..];
                let value = if attached.is_empty() { None } else { Some(attached) };
                self.obey(name, value)?;
                return Ok(None);
            }
            self.obey(name, None)?;
        }
        Ok(None)
    }

    /// `--grace=10s`, `--grace 10s`
    fn long(&mut self, word: &'static CStr) -> Result<Option<Asked>> {
        let text = text(word)?;
        let (name, value) = match text[2..].split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (&text[2..], None),
        };
        match name {
            "help" => return Ok(Some(Asked::Help)),
            "version" => return Ok(Some(Asked::Version)),
            "license" => return Ok(Some(Asked::License)),
            _ => {}
        }
        self.obey(name, value)?;
        Ok(None)
    }

    /// Does what an option says; its value is the next word if it has none attached.
    fn obey(&mut self, name: &str, attached: Option<&'static str>) -> Result<()> {
        if self.options.flag(name) {
            return match attached {
                Some(_) => Err(UsageError(format!("--{name} takes no value"))),
                None => Ok(()),
            };
        }
        if !takes_value(name) {
            return Err(UsageError(format!("unknown option --{name}")));
        }
        let value = match (attached, self.rest) {
            (Some(value), _) => value,
            (None, [value, after @ ..]) => {
                self.rest = after;
                text(value)?
            }
            (None, []) => return Err(UsageError(format!("{} needs a value", shown(name)))),
        };
        match name {
            "hook-limit" => {
                self.hook_limit = Some(needed(parse_duration(value), name, value, "a time such as 3s")?);
                Ok(())
            }
            "on-stop" => {
                let command = Command::parse(value).ok_or_else(|| not_a_command(name, value))?;
                self.options.hooks.push(Hook { command, limit: self.hook_limit });
                Ok(())
            }
            _ => self.options.set(name, value),
        }
    }
}

fn takes_value(name: &str) -> bool {
    matches!(
        name,
        "parent-death"
            | "remap-exit"
            | "rewrite"
            | "map-exit"
            | "grace"
            | "stop-signal"
            | "settle"
            | "drain"
            | "on-stop"
            | "hook-limit"
            | "sidecar"
            | "sidecar-after"
            | "sync"
            | "report"
    )
}

impl Options {
    /// Does what an option without a value says; `false`: it is none.
    fn flag(&mut self, name: &str) -> bool {
        match name {
            "verbose" => self.verbosity = self.verbosity.saturating_add(1),
            "warn" => self.warn_of_orphans = true,
            "group" => self.group = true,
            "clean-exit" => self.exits.clean(),
            "wait-all" => self.waits_for_all = true,
            // We are always the one who gets the orphans, and pass signals on to main alone unless told otherwise.
            "subreaper" | "single-child" => {}
            _ => return false,
        }
        true
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "parent-death" => {
                self.on_parents_death = Some(needed(values::signal(value), name, value, "a signal")?);
            }
            "remap-exit" => {
                self.exits.always_zero(needed(
                    values::exit_code(value),
                    name,
                    value,
                    "an exit code from 0 to 255",
                )?);
            }
            "rewrite" => {
                needed(
                    self.rewrites.add(value),
                    name,
                    value,
                    "a rewrite such as TERM:QUIT or 15:3 or INT:0",
                )?;
            }
            "map-exit" => {
                needed(self.exits.map(value), name, value, "a pair of exit codes such as 143=0")?;
            }
            "grace" => {
                self.grace =
                    Some(needed(values::timeout(value), name, value, "a time such as 30s, or -1 for ever")?);
            }
            "stop-signal" => self.stop = stop_signals(value)?,
            "settle" => {
                self.settle = Some(needed(values::within(value), name, value, "auto or a time such as 5s")?);
            }
            "drain" if value == "auto" => self.drain = Some(Ports::Auto),
            "drain" => {
                let ports = needed(values::ports(value), name, value, "auto, or ports such as 80,8080")?;
                self.drain = Some(Ports::These(ports));
            }
            "sidecar" => {
                self.sidecars.push(Command::parse(value).ok_or_else(|| not_a_command(name, value))?);
            }
            "sidecar-after" => {
                let listens = match value {
                    "listen" => Some(true),
                    "start" => Some(false),
                    _ => None,
                };
                self.sidecars_wait = needed(listens, name, value, "start or listen")?;
            }
            "sync" => self.sync.push(path(name, value)?),
            "report" => self.report = Some(path(name, value)?),
            _ => return Err(UsageError(format!("unknown option --{name}"))),
        }
        Ok(())
    }

    /// One variable of the environment: `NAME=value`.
    fn obey_variable(&mut self, variable: &'static CStr) -> Result<()> {
        // Others may be anything.
        let Ok(variable) = variable.to_str() else { return Ok(()) };
        let Some((name, value)) = variable.split_once('=') else { return Ok(()) };
        // An empty one counts as not set, as in a compose file without a value.
        let option = match name {
            "TINI_KILL_PROCESS_GROUP" => {
                self.group = true;
                return Ok(());
            }
            "TINI_VERBOSITY" => {
                self.verbosity = value.parse().unwrap_or(self.verbosity);
                return Ok(());
            }
            "GRACEFULLY_CLEAN_EXIT" if value == "1" => {
                self.exits.clean();
                return Ok(());
            }
            "GRACEFULLY_GRACE" => "grace",
            "GRACEFULLY_STOP_SIGNAL" => "stop-signal",
            "GRACEFULLY_SETTLE" => "settle",
            "GRACEFULLY_DRAIN" => "drain",
            "GRACEFULLY_REPORT" => "report",
            _ => return Ok(()),
        };
        if value.is_empty() {
            return Ok(());
        }
        self.set(option, value).map_err(|error| UsageError(format!("{name}: {error}")))
    }
}

/// `QUIT` or `QUIT,TERM`. What nobody can catch is no request.
fn stop_signals(value: &str) -> Result<StopSignals> {
    let (first, then) = match value.split_once(',') {
        Some((first, then)) => (first, Some(then)),
        None => (value, None),
    };
    let catchable = |signal: &Signal| *signal != Signal::KILL && *signal != Signal::STOP;
    let signal = |text| {
        let signal = values::signal(text).filter(catchable);
        needed(signal, "stop-signal", value, "one or two signals that can be handled, such as QUIT,TERM")
    };
    Ok(StopSignals { first: Some(signal(first)?), then: then.map(signal).transpose()? })
}

fn path(name: &str, value: &str) -> Result<CString> {
    needed(CString::new(value).ok().filter(|path| !path.is_empty()), name, value, "a path")
}

fn needed<T>(parsed: Option<T>, name: &str, value: &str, what: &str) -> Result<T> {
    parsed.ok_or_else(|| UsageError(format!("{} {value:?}: not {what}", shown(name))))
}

/// An option as `--help` has it.
fn shown(name: &str) -> String {
    match name {
        "remap-exit" => "-e".into(),
        "parent-death" => "-p".into(),
        _ => format!("--{name}"),
    }
}

fn not_a_command(name: &str, value: &str) -> UsageError {
    UsageError(format!("--{name} {value:?}: neither a command nor a JSON array of words"))
}

/// Options are texts; only the command may have words that are not UTF-8.
fn text(word: &'static CStr) -> Result<&'static str> {
    word.to_str().map_err(|_| UsageError(format!("{word:?} is not UTF-8")))
}

#[cfg(test)]
mod tests;
