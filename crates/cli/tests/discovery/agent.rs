//! `gracefully register` as a process, and the program that it registers.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_linux::family::descendants;
use gracefully_servers::{eventually, free};

/// How long anything may take that takes no time.
const SOON: Duration = Duration::from_secs(20);

/// A place for a program, which is not started yet.
#[derive(Debug)]
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) at: SocketAddr,
    environment: Vec<(String, String)>,
}

/// A running agent. Dropping it kills it and its program.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    pidfd: PidFd,
    said: PathBuf,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
    pub(crate) said: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), at: free(), environment: Vec::new() }
    }

    /// With this in the environment of the agent, and nothing of ours that means something to it.
    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// A file that does not outlive the test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The server of `examples/hello`: it knows nothing of us, and has no handler for any signal.
    pub(crate) fn hello(&self) -> Vec<String> {
        let program = self.file("hello");
        if !program.exists() {
            symlink(env!("CARGO_BIN_EXE_gracefully"), &program).unwrap();
        }
        vec![program.display().to_string(), self.at.to_string()]
    }

    /// Registers `web` there, with these options and this command.
    #[track_caller]
    pub(crate) fn register(&self, urls: &[&str], options: &[&str], command: &[String]) -> Agent {
        let mut register = Command::new(env!("CARGO_BIN_EXE_gracefully"));
        for name in ["GRACEFULLY_GRACE", "ETCDCTL_USER", "ETCDCTL_PASSWORD", "ETCDCTL_CACERT"] {
            register.env_remove(name);
        }
        register
            .arg("register")
            .args(urls)
            .args(["--service", "web", "--address", "127.0.0.1", "--port"])
            .arg(self.at.port().to_string())
            .args(options)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if !command.is_empty() {
            register.arg("--").args(command);
        }
        Agent::start(&mut register, self.file("said"))
    }
}

impl Agent {
    /// What it says goes into this file.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, said: PathBuf) -> Self {
        let out = File::create(&said).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let child = command.spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        Self { child, pidfd, said }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// Waits until it has said this.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) {
        eventually(&format!("{words:?}, only: {}", self.said()), || {
            self.said().contains(words).then_some(())
        });
    }

    /// What the kernel would get back if it ended: memory that is its alone.
    pub(crate) fn private_memory_kb(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let numbers = rollup.lines().filter(|line| line.starts_with("Private_"));
        numbers.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.pidfd.has_exited()
    }

    pub(crate) fn send(&self, signal: Signal) {
        self.pidfd.send(signal).unwrap();
    }

    /// The program that it has started.
    #[track_caller]
    pub(crate) fn program(&self) -> PidFd {
        let pid = eventually("it has a child", || descendants(self.child.id()).first().copied());
        PidFd::open(pid).unwrap()
    }

    /// Sends it SIGTERM.
    #[track_caller]
    pub(crate) fn stop(self) -> Ended {
        self.send(Signal::TERM);
        self.ended()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < SOON, "it does not end: {}", self.said());
            park_timeout(Duration::from_millis(2));
        };
        Ended { code: status.code(), took: began.elapsed(), said: self.said() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        for child in descendants(self.child.id()) {
            let _ = PidFd::open(child).map(|pid| pid.send(Signal::KILL));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
