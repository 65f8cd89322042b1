//! What else is to be done in a stop: before the stop signal, and after the end.
//!
//! **First**, in the place where a registry is left: every sidecar is told to end, which is a registration agent's moment to
//! deregister; and the hooks run, one after the other. Only when all sidecars have ended and the last hook has, or when the
//! time for it is up, connections are waited for and main gets its signal. A hook that fails, hangs or cannot be started is
//! a line of the report and never stops the stop.
//!
//! **Last**, the file systems that were named are written to the disk. syncfs(2) takes as long as the disk does, so a child
//! does it, and PID 1 goes on.
//!
//! Hooks and sidecars are children like any others. They are in process groups of their own, so that a hook whose time is up
//! ends with what it has started.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;
use gracefully_linux::Errno;
use gracefully_linux::errno::Described;
use gracefully_linux::spawn::{Child, Failure, helper};
use rustix::fs::{Mode, OFlags, open, syncfs};

use crate::arguments::Options;
use crate::program::{Command, Inheritance};
use crate::say::say;

/// The chores of one init.
#[derive(Debug)]
pub struct Chores<'a> {
    options: &'a Options,
    sidecars: Vec<Sidecar<'a>>,
    first: First,
    /// When the time for what comes first is up; `None`: never.
    until: Option<Duration>,
    /// It is up.
    overdue: bool,
    /// The child that writes to the disk.
    sync: Option<Child>,
    /// What went wrong with the chores that come first.
    failures: Vec<String>,
}

#[derive(Debug)]
struct Sidecar<'a> {
    command: &'a Command,
    /// `None`: it has ended.
    child: Option<Child>,
}

/// Where the chores that come first are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    NotBegun,
    /// The hook with this number runs.
    Hook {
        number: usize,
        child: Child,
        limit: Option<Duration>,
    },
    /// All hooks have run; some sidecar may still be there.
    HooksDone,
    /// It was told that they are done.
    Told,
}

/// What an ended child was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// None of these.
    Other,
    /// A hook, or a sidecar that was told to end.
    Chore,
    /// A sidecar that was not told to end: what to say.
    SidecarLost(String),
    /// The child that writes to the disk, and how that went.
    Synced(Result<(), String>),
}

impl<'a> Chores<'a> {
    /// Those of these options.
    pub fn new(options: &'a Options) -> Self {
        Self {
            options,
            sidecars: Vec::new(),
            first: First::NotBegun,
            until: None,
            overdue: false,
            sync: None,
            failures: Vec::new(),
        }
    }

    /// Whether the programs of all commands are there: at the stop it would be too late to say so.
    pub fn check(&self, inheritance: &Inheritance<'_>) -> Result<(), String> {
        let hooks = self.options.hooks.iter().map(|hook| ("--on-stop", &hook.command));
        let sidecars = self.options.sidecars.iter().map(|command| ("--sidecar", command));
        for (option, command) in hooks.chain(sidecars) {
            command.find(inheritance).map_err(|errno| {
                format!("{option}: cannot execute {}: {}", command.name(), Described(errno))
            })?;
        }
        Ok(())
    }

    /// Starts the sidecars; what could not be started is said.
    pub fn start_sidecars(&mut self, inheritance: &Inheritance<'_>) {
        for command in &self.options.sidecars {
            let child = match command.start(inheritance) {
                Ok(child) => Some(child),
                Err(failure) => {
                    say(format_args!("sidecar {}: {}", command.name(), why(failure)));
                    None
                }
            };
            self.sidecars.push(Sidecar { command, child });
        }
    }

    /// Begins with what comes first, which may take until then.
    pub fn begin(&mut self, until: Option<Duration>, inheritance: &Inheritance<'_>, now: Duration) {
        self.until = until;
        for child in self.sidecars.iter().filter_map(|sidecar| sidecar.child) {
            // A shell as a sidecar passes nothing on, so its group is told.
            for signal in [Signal::TERM, Signal::CONT] {
                let _ = child.send_to_group(signal);
            }
        }
        self.start_hook(0, inheritance, now);
    }

    /// Starts the hook with this number, or the next that can be started.
    fn start_hook(&mut self, number: usize, inheritance: &Inheritance<'_>, now: Duration) {
        for (number, hook) in self.options.hooks.iter().enumerate().skip(number) {
            match hook.command.start(inheritance) {
                Ok(child) => {
                    let limit = hook.limit.map(|limit| now.saturating_add(limit));
                    self.first = First::Hook { number, child, limit };
                    return;
                }
                Err(failure) => {
                    self.failures.push(format!("hook {}: {}", hook.command.name(), why(failure)));
                }
            }
        }
        self.first = First::HooksDone;
    }

    /// A child has ended.
    pub fn ended(
        &mut self,
        pid: u32,
        status: ExitStatus,
        inheritance: &Inheritance<'_>,
        now: Duration,
    ) -> Ended {
        if let First::Hook { number, child, .. } = self.first
            && child.pid() == pid
        {
            if status != ExitStatus::Code(0) {
                let name = self.options.hooks[number].command.name();
                self.failures.push(format!("hook {name}: {status}"));
            }
            self.start_hook(number + 1, inheritance, now);
            return Ended::Chore;
        }
        if self.sync.is_some_and(|child| child.pid() == pid) {
            self.sync = None;
            return Ended::Synced(synced(status));
        }
        let mut sidecars = self.sidecars.iter_mut();
        let Some(sidecar) = sidecars.find(|sidecar| sidecar.child.is_some_and(|child| child.pid() == pid))
        else {
            return Ended::Other;
        };
        sidecar.child = None;
        let name = sidecar.command.name();
        if self.first == First::NotBegun {
            return Ended::SidecarLost(format!("sidecar {name}: {status}, unasked"));
        }
        // One that has no handler has ended as it was told to.
        if !matches!(status, ExitStatus::Code(0) | ExitStatus::Signal(Signal::TERM)) {
            self.failures.push(format!("sidecar {name}: {status}"));
        }
        Ended::Chore
    }

    /// When something is due.
    pub fn due(&self) -> Option<Duration> {
        match self.first {
            First::NotBegun => None,
            First::Hook { limit, .. } => [limit, self.until()].into_iter().flatten().min(),
            First::HooksDone | First::Told => self.until(),
        }
    }

    /// When the time for what comes first is up, if it is not.
    fn until(&self) -> Option<Duration> {
        self.until.filter(|_| !self.overdue)
    }

    /// Kills the hook whose time is up, and when the time of all is up, runs no more.
    pub fn on_time(&mut self, now: Duration) {
        let over = |limit: Option<Duration>| limit.is_some_and(|limit| limit <= now);
        self.overdue |= over(self.until);
        let First::Hook { number, child, limit } = self.first else { return };
        if over(limit) || self.overdue {
            let _ = child.send_to_group(Signal::KILL);
            let name = self.options.hooks[number].command.name();
            self.failures.push(format!("hook {name}: took longer than it may"));
            // Its end is told like any other, and the next one follows.
            self.first = First::Hook { number, child, limit: None };
        }
        if self.overdue {
            let left = self.options.hooks.iter().skip(number + 1);
            self.failures.extend(left.map(|hook| format!("hook {}: not run, no time", hook.command.name())));
            self.first = First::HooksDone;
        }
    }

    /// Does a hook run?
    pub fn hook_runs(&self) -> bool {
        matches!(self.first, First::Hook { .. })
    }

    /// Nobody else is left, and their time is up: kills what is there.
    pub fn give_up(&self) {
        if !self.overdue {
            return;
        }
        for child in self.sidecars.iter().filter_map(|sidecar| sidecar.child) {
            let _ = child.send_to_group(Signal::KILL);
        }
    }

    /// Once, when all that comes first is done: how it went.
    pub fn first_done(&mut self) -> Option<Result<(), String>> {
        let done =
            self.first == First::HooksDone && self.sidecars.iter().all(|sidecar| sidecar.child.is_none());
        if !done {
            return None;
        }
        self.first = First::Told;
        let failures = core::mem::take(&mut self.failures);
        Some(if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) })
    }

    /// The children that are chores, and have been told what they are to be told.
    pub fn children(&self) -> Vec<u32> {
        let hook = match self.first {
            First::Hook { child, .. } => Some(child),
            First::NotBegun | First::HooksDone | First::Told => None,
        };
        let sidecars = self.sidecars.iter().filter_map(|sidecar| sidecar.child);
        sidecars.chain(hook).chain(self.sync).map(Child::pid).collect()
    }

    /// Writes to the disk what is to be written; `None`: a child does it, whose end will tell.
    pub fn sync(&mut self) -> Option<Result<(), String>> {
        if self.options.sync.is_empty() {
            return Some(Ok(()));
        }
        let sync = |path| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).and_then(syncfs);
        match helper(|| self.options.sync.iter().try_for_each(sync)) {
            Ok(child) => {
                self.sync = Some(child);
                None
            }
            Err(errno) => Some(Err(Described(errno).to_string())),
        }
    }
}

fn synced(status: ExitStatus) -> Result<(), String> {
    match status {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(errno) => Err(Described(Errno::from_raw_os_error(errno.into())).to_string()),
        ExitStatus::Signal(_) | ExitStatus::Unknown => Err(status.to_string()),
    }
}

fn why(failure: Failure) -> String {
    let (Failure::NoChild(errno) | Failure::NoProgram(errno)) = failure;
    Described(errno).to_string()
}
