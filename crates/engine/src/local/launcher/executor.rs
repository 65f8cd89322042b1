//! The last steps of PID 1 before it becomes the program.
//!
//! libcontainer's own executor reports every failure as exit code 255, hands a file that is no program to `/bin/sh`,
//! checks permissions as root whatever the user, and leaves a user other than root its capabilities. This one asks the
//! kernel as the program's user would, and sends the kernel's answer to the launcher: [`Failure`] through a pipe that
//! is closed by the execution. Nothing in the pipe means that the program runs.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use gracefully_core::exit::{NOT_EXECUTABLE, NOT_FOUND, USAGE};
use gracefully_linux::PidFd;
use gracefully_monitor::record::Record;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor as Workload, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::sys::signal::SigSet;
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;
use rustix::process::{Gid, Signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups};

use super::Refusal;
use super::user::User;

/// Where a command without a slash is looked for if the environment does not say: docker's default.
pub(in crate::local) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Debug)]
pub(super) struct Executor(Rc<Job>);

#[derive(Debug)]
struct Job {
    report: OwnedFd,
    monitor: PidFd,
    command: Vec<CString>,
    env: Vec<CString>,
    path: String,
    groups: Option<Vec<Gid>>,
    keeps_capabilities: bool,
}

impl Executor {
    /// `report` takes the failure; `monitor` is whom the program must not outlive until it is executed.
    pub(super) fn new(report: OwnedFd, monitor: PidFd, record: &Record, user: &User) -> Self {
        let c_strings =
            |words: &[String]| words.iter().filter_map(|word| CString::new(word.as_str()).ok()).collect();
        let mut env = record.env.clone();
        let is_set =
            |name: &str| env.iter().any(|entry| entry.split_once('=').is_some_and(|(key, _)| key == name));
        if !is_set("HOME") {
            env.push(format!("HOME={}", user.home));
        }
        let path =
            env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH).to_owned();
        Self(Rc::new(Job {
            report,
            monitor,
            command: c_strings(&record.spec.command),
            env: c_strings(&env),
            path,
            groups: user.groups.clone(),
            keeps_capabilities: user.uid == 0,
        }))
    }
}

/// What did not work, and the kernel's reason: eight bytes in the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    step: Step,
    errno: Errno,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Prepare = 1,
    Execute = 2,
}

impl Failure {
    /// Waits for the end of the pipe; `None` if there was no failure.
    pub(super) fn read(pipe: &mut File, record: &Record) -> Option<Refusal> {
        let mut bytes = [0; 5];
        pipe.read_exact(&mut bytes).ok()?;
        let errno = Errno::from_raw_os_error(i32::from_ne_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]));
        let step = if bytes[0] == Step::Execute as u8 { Step::Execute } else { Step::Prepare };
        let command = record.spec.command.first().map_or("", String::as_str);
        Some(Self { step, errno }.refusal(command))
    }

    fn write(self, pipe: &OwnedFd) {
        let [a, b, c, d] = self.errno.raw_os_error().to_ne_bytes();
        // Fewer bytes than a pipe writes at once; if the launcher is gone, nobody needs them.
        let _ = rustix::io::write(pipe, &[self.step as u8, a, b, c, d]);
    }

    /// As docker words it.
    fn refusal(self, command: &str) -> Refusal {
        let (code, why) = match (self.step, self.errno) {
            (Step::Prepare, errno) => {
                return Refusal {
                    code: USAGE,
                    message: format!("cannot become the container's user: {errno}"),
                };
            }
            (Step::Execute, Errno::NOENT) if command.contains('/') => {
                (NOT_FOUND, "no such file or directory".into())
            }
            (Step::Execute, Errno::NOENT) => (NOT_FOUND, "executable file not found in $PATH".into()),
            (Step::Execute, Errno::ACCESS) => (NOT_EXECUTABLE, "permission denied".into()),
            (Step::Execute, Errno::ISDIR) => (NOT_EXECUTABLE, "is a directory".into()),
            (Step::Execute, Errno::NOEXEC) => (NOT_EXECUTABLE, "exec format error".into()),
            (Step::Execute, errno) => (NOT_EXECUTABLE, errno.to_string()),
        };
        Refusal { code, message: format!("exec: {command:?}: {why}") }
    }
}

impl Job {
    fn prepare(&self) -> Result<(), Errno> {
        if let Some(groups) = &self.groups {
            set_thread_groups(groups)?;
        }
        if !self.keeps_capabilities {
            // libcontainer keeps them across the change of the user.
            let none = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        }
        // A blocked signal stays blocked across execve(2).
        SigSet::empty().thread_set_mask().map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        // After the change of the user, which resets it. The monitor may have died before: then nobody sends it.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if self.monitor.has_exited() { Err(Errno::SRCH) } else { Ok(()) }
    }

    /// The file to execute, or the kernel's most telling reason why there is none.
    fn find(&self) -> Result<CString, Errno> {
        let command = self.command.first().ok_or(Errno::NOENT)?;
        if command.as_bytes().contains(&b'/') {
            return executable(command).map(|()| command.clone());
        }
        let mut why = Errno::NOENT;
        for dir in self.path.split(':') {
            let dir = if dir.is_empty() { "." } else { dir };
            let file = [dir.as_bytes(), b"/", command.as_bytes()].concat();
            let file = CString::new(file).map_err(|_| Errno::INVAL)?;
            match executable(&file) {
                Ok(()) => return Ok(file),
                Err(Errno::ACCESS) => why = Errno::ACCESS,
                Err(_) => {}
            }
        }
        Err(why)
    }
}

fn executable(file: &CStr) -> Result<(), Errno> {
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS)?;
    match FileType::from_raw_mode(stat(file)?.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        _ => Ok(()),
    }
}

impl Workload for Executor {
    /// In PID 1, in its namespaces, as its user, before it waits for the order to start.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let refused = |step, errno| {
            Failure { step, errno }.write(&self.0.report);
            ExecutorValidationError::ArgValidationError(errno.to_string())
        };
        self.0.prepare().map_err(|errno| refused(Step::Prepare, errno))?;
        self.0.find().map(drop).map_err(|errno| refused(Step::Execute, errno))
    }

    /// The environment is given to execve(2).
    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let job = &self.0;
        // The monitor has written our PID down: from here on the program may outlive it.
        let errno = match set_parent_process_death_signal(None).and_then(|()| job.find()) {
            Ok(file) => match nix::unistd::execve(&file, &job.command, &job.env) {
                Err(errno) => Errno::from_raw_os_error(errno as i32),
            },
            Err(errno) => errno,
        };
        Failure { step: Step::Execute, errno }.write(&job.report);
        Err(ExecutorError::Other(errno.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_reasons_in_dockers_words() {
        let say = |errno, command| {
            let Refusal { code, message } = Failure { step: Step::Execute, errno }.refusal(command);
            (code, message)
        };
        let expected = (127, r#"exec: "nope": executable file not found in $PATH"#.to_owned());
        assert_eq!(say(Errno::NOENT, "nope"), expected);
        assert_eq!(
            say(Errno::NOENT, "./nope"),
            (127, r#"exec: "./nope": no such file or directory"#.to_owned())
        );
        assert_eq!(
            say(Errno::ACCESS, "/etc/passwd"),
            (126, r#"exec: "/etc/passwd": permission denied"#.to_owned())
        );
        assert_eq!(say(Errno::ISDIR, "/etc"), (126, r#"exec: "/etc": is a directory"#.to_owned()));
        assert_eq!(say(Errno::NOEXEC, "/x"), (126, r#"exec: "/x": exec format error"#.to_owned()));
    }
}
