//! Executing programs: main, and the commands of hooks and sidecars.
//!
//! A program is looked for as a shell does it (execvp(3)): in the directories of `PATH`, unless its name has a slash; and a
//! file that is executable but no program is a script for `/bin/sh`.
//!
//! **What main finds** is what we found: the blocked and the ignored signals, the working directory, the terminal, the
//! environment, and every descriptor, also those that we close. Only `LISTEN_PID`, which is meant for whoever is executed by
//! its number (`sd_listen_fds(3)`), is changed if it was ours.
//!
//! **No signal is lost at the start.** The child is made while everything is blocked; what comes for it before it executes
//! waits and then does to it what it does to a program without handlers. What comes for us waits until it has executed.

use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;

use gracefully_core::exit;
use gracefully_core::signal::Signal;
use gracefully_linux::Errno;
use gracefully_linux::errno::Described;
use gracefully_linux::signals::{self, Mask};
use gracefully_linux::spawn::{self, Child, Strings, child, execute};
use gracefully_linux::standard;
use rustix::fs::{Access, CWD, Mode, OFlags, access, openat};
use rustix::process::{getpid, setpgid};

use crate::FAILURE;
use crate::terminal::Terminal;
use crate::values;

/// Where programs are if nobody says where.
const PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

const SHELL: &CStr = c"/bin/sh";

/// What a child gets from us besides its program.
#[derive(Debug)]
pub struct Inheritance<'a> {
    /// Our environment.
    pub environment: &'a [&'static CStr],
    /// What was blocked when we began.
    pub mask: Mask,
    /// SIGCHLD was ignored when we began. We must not: the kernel would reap our children itself (wait(2)).
    pub ignores_children: bool,
}

impl<'a> Inheritance<'a> {
    /// What we have found. From here on SIGCHLD does what it does by default.
    pub fn take(environment: &'a [&'static CStr], mask: Mask) -> Result<Self, Errno> {
        let ignores_children = signals::is_ignored(Signal::CHLD)?;
        if ignores_children {
            signals::set_ignored(Signal::CHLD, false)?;
        }
        Ok(Self { environment, mask, ignores_children })
    }

    /// In a child: undoes what we have done to signals.
    fn restore(&self) -> Result<(), Errno> {
        if self.ignores_children {
            signals::set_ignored(Signal::CHLD, true)?;
        }
        self.mask.restore()
    }

    /// Where to look for programs.
    fn path(&self) -> &'static [u8] {
        let variable = |variable: &&'static CStr| variable.to_bytes().strip_prefix(b"PATH=");
        self.environment.iter().find_map(variable).unwrap_or(PATH)
    }
}

/// A command of ours: a program with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Command(Vec<CString>);

impl Command {
    /// In the form that [`values::command`] describes.
    pub fn parse(text: &str) -> Option<Self> {
        let words = values::command(text)?.into_iter().map(CString::new);
        words.collect::<Result<_, _>>().ok().map(Self)
    }

    /// For people.
    pub fn name(&self) -> impl fmt::Display {
        // What a shell is to do says more than the shell.
        let words: Vec<_> = match &self.0[..] {
            [shell, flag, script] if shell.as_c_str() == SHELL && flag.as_c_str() == c"-c" => {
                [script.to_string_lossy()].into()
            }
            words => words.iter().map(|word| word.to_string_lossy()).collect(),
        };
        words.join(" ")
    }

    /// Whether its program is there and executable, before it is needed.
    pub fn find(&self, inheritance: &Inheritance<'_>) -> Result<(), Errno> {
        let mut why = Errno::NOENT;
        for place in places(self.0[0].to_bytes(), inheritance.path()) {
            match access(&place, Access::EXEC_OK) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => why = errno,
            }
        }
        Err(why)
    }

    /// Starts it, in a process group of its own, with nothing to read.
    pub fn start(&self, inheritance: &Inheritance<'_>) -> Result<Child, spawn::Failure> {
        child(|| {
            // Where there is no /dev/null it reads what we could.
            if let Ok(null) = openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                let _ = standard::set_input(null);
            }
            let _ = setpgid(None, None);
            if let Err(errno) = inheritance.restore() {
                return errno;
            }
            let words: Vec<&CStr> = self.0.iter().map(CString::as_c_str).collect();
            become_program(&words, inheritance.environment, inheritance.path())
        })
    }
}

/// Why main does not run.
#[derive(Debug)]
pub struct NotStarted {
    what: CString,
    why: spawn::Failure,
}

impl NotStarted {
    /// The exit code that a shell would give (bash(1), "EXIT STATUS").
    pub fn code(&self) -> u8 {
        match self.why {
            spawn::Failure::NoProgram(Errno::NOENT | Errno::NOTDIR) => exit::NOT_FOUND,
            spawn::Failure::NoProgram(Errno::ACCESS | Errno::ISDIR) => exit::NOT_EXECUTABLE,
            spawn::Failure::NoProgram(_) | spawn::Failure::NoChild(_) => FAILURE,
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.to_string_lossy();
        match self.why {
            spawn::Failure::NoProgram(errno) => write!(f, "cannot execute {what}: {}", Described(errno)),
            spawn::Failure::NoChild(errno) => {
                write!(f, "cannot make a process for {what}: {}", Described(errno))
            }
        }
    }
}

/// Starts main.
pub fn start_main(
    command: &[&'static CStr],
    inheritance: &Inheritance<'_>,
    terminal: &Terminal,
) -> Result<Child, NotStarted> {
    let started = child(|| {
        terminal.hand_to_ourselves();
        if let Err(errno) = inheritance.restore() {
            return errno;
        }
        let own = own_listen_pid(inheritance.environment);
        let environment: Vec<&CStr> = inheritance
            .environment
            .iter()
            .map(|&variable| {
                own.as_ref()
                    .filter(|own| is_listen_pid(variable) && is_listen_pid(own))
                    .map_or(variable, |own| own)
            })
            .collect();
        become_program(command, &environment, inheritance.path())
    });
    started.map_err(|why| NotStarted { what: command[0].into(), why })
}

/// In the child of the process that `LISTEN_PID` means: the variable that means the child.
fn own_listen_pid(environment: &[&CStr]) -> Option<CString> {
    let number = |pid: rustix::process::Pid| format!("LISTEN_PID={}", pid.as_raw_nonzero());
    let parents = number(rustix::process::getppid()?);
    environment.iter().any(|variable| variable.to_bytes() == parents.as_bytes()).then_some(())?;
    CString::new(number(getpid())).ok()
}

fn is_listen_pid(variable: &CStr) -> bool {
    variable.to_bytes().starts_with(b"LISTEN_PID=")
}

/// Becomes the program. Returns only if that fails, with the reason that a shell would give.
fn become_program(words: &[&CStr], environment: &[&CStr], path: &[u8]) -> Errno {
    let arguments = Strings::new(words.iter().copied());
    let environment = Strings::new(environment.iter().copied());
    let mut why = Errno::NOENT;
    for place in places(words[0].to_bytes(), path) {
        match execute(&place, &arguments, &environment) {
            Errno::NOEXEC => {
                let script = [SHELL, &place].into_iter().chain(words[1..].iter().copied());
                return execute(SHELL, &Strings::new(script), &environment);
            }
            // It may be in the next one; but that it is here says more than that it is not there. Where it is not, the
            // directory is closed to us.
            Errno::ACCESS if access(&place, Access::EXISTS).is_ok() => why = Errno::ACCESS,
            Errno::ACCESS | Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
            errno => return errno,
        }
    }
    why
}

/// Where a program of this name may be.
fn places(name: &[u8], path: &[u8]) -> Vec<CString> {
    if name.is_empty() {
        return Vec::new();
    }
    let directories: Vec<&[u8]> =
        if name.contains(&b'/') { [&b""[..]].into() } else { path.split(|&byte| byte == b':').collect() };
    let place = |directory: &[u8]| {
        // An empty one is the working directory.
        let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        CString::new([directory, slash, name].concat()).ok()
    };
    directories.into_iter().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_program_is_looked_for() {
        assert_eq!(places(b"ls", b"/a:/b"), [c"/a/ls".into(), CString::from(c"/b/ls")]);
        assert_eq!(places(b"./ls", b"/a:/b"), [CString::from(c"./ls")]);
        assert_eq!(places(b"ls", b":/a"), [c"ls".into(), CString::from(c"/a/ls")]);
        assert!(places(b"", b"/a").is_empty());
    }

    #[test]
    fn what_a_command_is_called() {
        use alloc::string::ToString;
        assert_eq!(Command::parse("a; b").unwrap().name().to_string(), "a; b");
        assert_eq!(Command::parse(r#"["a", "b"]"#).unwrap().name().to_string(), "a b");
        assert_eq!(Command::parse("a\0b"), None);
    }
}
