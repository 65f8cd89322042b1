//! A program of the user's as a registry: for everything that is not here.
//!
//! `exec:///PATH?ttl=SECONDS&settle=SECONDS`. It is started for each step, with one word:
//!
//! | word | exit code 0 | exit code 3 |
//! |---|---|---|
//! | `register` | it is in, once, also if it was before | |
//! | `alive` | it is in, and lives on | it is not in any more |
//! | `deregister` | it was taken out | it was not in |
//! | `visible` | a consumer finds it | no consumer finds it |
//! | `drain` | it is hidden | there is no such thing |
//! | `undrain` | it is shown again | there is no such thing |
//!
//! Whatever else it exits with is a failure, and the last line of its standard error says why. About which instance it is, is in its
//! environment: `GRACEFULLY_ID`, `GRACEFULLY_SERVICE`, `GRACEFULLY_ADDRESS`, `GRACEFULLY_PORT`, `GRACEFULLY_METADATA` (JSON) and
//! `GRACEFULLY_TTL` (seconds). It gets nothing to read, and what it prints nobody sees. One that has not ended by its deadline is killed, with
//! what it has started.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::park_timeout;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::url::Url;
use crate::{Alive, Deadline, Error, Hints, Instance, Left, Registry, Result};

/// How long a registration lives without a word of us, and the shortest time: a program takes some to start.
const TTL: Duration = Duration::from_secs(10);
const LEAST: Duration = Duration::from_secs(2);

/// How long consumers take to hear of it, unless somebody says.
const SETTLE: Duration = Duration::from_secs(2);

/// The exit code for "no".
const NO: i32 = 3;

/// How often we look whether it has ended.
const LOOK: Duration = Duration::from_millis(2);

/// What is read of its errors, and how long we wait for it when it has ended: something that it has started may go on writing.
const ERRORS_AT_MOST: u64 = 16 << 10;
const ERRORS_WITHIN: Duration = Duration::from_millis(50);

/// A program that knows a registry.
#[derive(Debug)]
pub struct Exec {
    name: String,
    program: String,
    ttl: Duration,
    settle: Duration,
    entry: Option<Instance>,
}

impl Exec {
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        let mut settings = url.settings()?;
        let ttl = settings.ttl(TTL, LEAST)?;
        let settle = settings.seconds("settle")?.unwrap_or(SETTLE);
        settings.end()?;
        if !url.authority.is_empty() {
            return Err(
                url.error("a program is named by its whole path, as in exec:///usr/local/bin/registry")
            );
        }
        let is_program = |file: std::fs::Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
        if !std::fs::metadata(url.path).is_ok_and(is_program) {
            return Err(url.error(&format!("{:?} is no file that can be executed", url.path)));
        }
        Ok(Self { name: url.name(), program: url.path.to_owned(), ttl, settle, entry: None })
    }

    /// Has it do something. `false`: no.
    fn ask(&self, word: &str, deadline: Deadline) -> Result<bool> {
        let instance = self.entry.as_ref().ok_or(Error::NotRegistered)?;
        let failed =
            |why: String| Error::Failed { registry: self.name.clone(), why: format!("{word}: {why}") };
        let mut command = Command::new(&self.program);
        command
            .arg(word)
            .env("GRACEFULLY_ID", &instance.id)
            .env("GRACEFULLY_SERVICE", &instance.service)
            .env("GRACEFULLY_ADDRESS", &instance.address)
            .env("GRACEFULLY_PORT", instance.port.to_string())
            .env("GRACEFULLY_METADATA", instance.to_json()["metadata"].to_string())
            .env("GRACEFULLY_TTL", self.ttl.as_secs().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A group of its own, so that what it has started can be ended with it.
            .process_group(0);
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let errors = read_errors(&mut child);
        let status = ended_within(&mut child, deadline).map_err(|error| failed(error.to_string()))?;
        let status = status.ok_or_else(|| failed("it did not end in time, and was killed".into()))?;
        match (status.code(), status.signal()) {
            (Some(0), _) => Ok(true),
            (Some(NO), _) => Ok(false),
            (code, signal) => {
                let ended = match (code, signal) {
                    (Some(code), _) => format!("exit code {code}"),
                    (None, signal) => format!("ended by signal {}", signal.unwrap_or_default()),
                };
                let said = errors.recv_timeout(ERRORS_WITHIN).unwrap_or_default();
                let last = said.lines().rev().find(|line| !line.trim().is_empty());
                Err(failed(last.map_or_else(|| ended.clone(), |line| format!("{}: {ended}", line.trim()))))
            }
        }
    }
}

/// Reads on a thread that ends with the last one who may write.
fn read_errors(child: &mut Child) -> Receiver<String> {
    let (tell, errors) = channel();
    if let Some(pipe) = child.stderr.take() {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = pipe.take(ERRORS_AT_MOST).read_to_end(&mut said);
            let _ = tell.send(String::from_utf8_lossy(&said).into_owned());
        });
    }
    errors
}

/// Waits for a child that was started in a process group of its own. `None`: its time was up, and it was killed, with what it has started.
pub fn ended_within(child: &mut Child, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if deadline.left().is_zero() {
            break;
        }
        park_timeout(LOOK.min(deadline.left()));
    }
    // The number of the group is its own until it is waited for.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait()?;
    Ok(None)
}

impl Registry for Exec {
    fn register(&mut self, instance: &Instance, deadline: Deadline) -> Result<()> {
        // From here on there may be something to be taken out.
        self.entry = Some(instance.clone());
        if self.ask("register", deadline)? {
            return Ok(());
        }
        let why = "register: exit code 3, which means nothing here".into();
        Err(Error::Failed { registry: self.name.clone(), why })
    }

    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
        Ok(if self.ask("alive", deadline)? { Alive::Yes } else { Alive::Lost })
    }

    fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
        Ok(if self.ask("deregister", deadline)? { Left::Now } else { Left::Before })
    }

    fn is_visible(&mut self, deadline: Deadline) -> Result<bool> {
        self.ask("visible", deadline)
    }

    fn adopt(&mut self, instance: &Instance) -> std::result::Result<(), &'static str> {
        self.entry = Some(instance.clone());
        Ok(())
    }

    fn drain(&mut self, _: &str, deadline: Deadline) -> Result<bool> {
        self.ask("drain", deadline)
    }

    fn undrain(&mut self, deadline: Deadline) -> Result<bool> {
        self.ask("undrain", deadline)
    }

    fn hints(&self) -> Hints {
        Hints { beat: self.ttl / 3, settle: self.settle, crash_after: self.ttl }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Instant;

    use super::*;

    /// A registry of this script. It is written by another process: one that forks while we had it open for writing would keep it so, and it
    /// could not be executed (ETXTBSY).
    fn exec(directory: &tempfile::TempDir, script: &str) -> Exec {
        let path = directory.path().join("registry");
        let text = format!("#!/bin/sh\n{script}\n");
        fs::write(directory.path().join("text"), text).unwrap();
        let copied = Command::new("cp").arg(directory.path().join("text")).arg(&path).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let mut exec = Exec::open(&Url::parse(&format!("exec://{}", path.display())).unwrap()).unwrap();
        exec.entry = Some(Instance::new("web", "127.0.0.1", 80));
        exec
    }

    #[test]
    fn exit_codes_and_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let soon = || Deadline::within(Duration::from_secs(20));
        let script = "case $1 in alive) exit 0;; visible) exit 3;; drain) echo a >&2; echo 'no such service' >&2; exit 1;; \
                      *) kill -9 $$;; esac";
        let mut exec = exec(&directory, script);
        assert_eq!(exec.keep_alive(soon()).unwrap(), Alive::Yes);
        assert!(!exec.is_visible(soon()).unwrap());
        let name = exec.name.clone();
        let why = exec.drain("", soon()).unwrap_err().to_string();
        assert_eq!(why, format!("{name}: drain: no such service: exit code 1"));
        let why = exec.undrain(soon()).unwrap_err().to_string();
        assert_eq!(why, format!("{name}: undrain: ended by signal 9"));
    }

    #[test]
    fn one_that_hangs_is_killed_with_what_it_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        // Who reads it hears of the end of the last one that has it open.
        let mut exec = exec(&directory, &format!("(sleep 1000 > {0}) & sleep 1000", fifo.display()));
        let reads = std::thread::spawn(move || File::open(fifo).unwrap().read_to_end(&mut Vec::new()));
        let began = Instant::now();
        let why = exec.deregister(Deadline::within(Duration::from_millis(500))).unwrap_err().to_string();
        assert!(why.ends_with("deregister: it did not end in time, and was killed"), "{why}");
        reads.join().unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_is_no_program_is_named() {
        for (url, why) in [
            ("exec:///no/such/file", "\"/no/such/file\" is no file that can be executed"),
            ("exec:///tmp", "\"/tmp\" is no file"),
            ("exec:///etc/passwd", "\"/etc/passwd\" is no file that can be executed"),
            ("exec://registry", "by its whole path"),
        ] {
            let error = Exec::open(&Url::parse(url).unwrap()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
