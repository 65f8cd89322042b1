//! What is measured on: a release build, a private docker daemon, a state directory of its own.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gracefully_linux::netns::NetNs;

use crate::artifacts::{self, Artifacts, cargo, root, target_dir};
use crate::dockerd::{Dockerd, Options};
use crate::{command, images, setup};

/// Everything that a measurement needs.
#[derive(Debug)]
pub(crate) struct Workbench {
    gracefully: PathBuf,
    artifacts: Artifacts,
    directory: tempfile::TempDir,
    daemon: Dockerd,
    names: Cell<u32>,
}

impl Workbench {
    pub(crate) fn set_up() -> Result<Self> {
        setup::run()?;
        let artifacts = artifacts::build()?;
        let mut build = cargo();
        build.args(["build", "--quiet", "--release", "--package", "gracefully-cli"]).current_dir(root());
        command::run(&mut build)?;
        let gracefully = target_dir()?.join("release/gracefully");
        let (daemon, no_bridge) = Dockerd::start(&Options::default())
            .context("no private dockerd (it needs root and docker.io)")?;
        if let Some(why) = no_bridge {
            return Err(why).context("the private dockerd can publish no ports");
        }
        images::build(&daemon.host(), &artifacts)?;
        let directory = tempfile::Builder::new().prefix("gracefully-bench-").tempdir()?;
        std::os::unix::fs::symlink(&gracefully, directory.path().join("docker-gracefully"))?;
        Ok(Self { gracefully, artifacts, directory, daemon, names: Cell::new(0) })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Our program under its name as a docker plugin.
    pub(crate) fn plugin(&self) -> PathBuf {
        self.directory().join("docker-gracefully")
    }

    pub(crate) fn victim(&self) -> &Path {
        &self.artifacts.victim
    }

    /// Where the victim writes its stamp.
    pub(crate) fn stamp(&self) -> String {
        self.directory().join("stamp").display().to_string()
    }

    /// The time that it has written there, on the monotonic clock, in nanoseconds; it is removed.
    pub(crate) fn take_stamp(&self) -> Result<i128> {
        let stamp = std::fs::read_to_string(self.stamp()).context("the program left no stamp")?;
        std::fs::remove_file(self.stamp())?;
        Ok(stamp.trim().parse()?)
    }

    pub(crate) fn new_name(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("bench-{}", self.names.get())
    }

    /// Does something where the daemon's published ports are; what is started meanwhile stays there.
    pub(crate) fn on_dockers_host<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        NetNs::of(self.daemon.pid())?.inside(work)?
    }

    pub(crate) fn docker(&self, args: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.args(["--host", &self.daemon.host()]).args(args);
        docker
    }

    pub(crate) fn gracefully_on_docker(&self, args: &[&str]) -> Command {
        let mut gracefully = Command::new(&self.gracefully);
        gracefully.args(["--engine", "docker", "--host", &self.daemon.host()]).args(args);
        gracefully
    }

    /// On plain processes.
    pub(crate) fn gracefully_on_processes(&self, args: &[&str]) -> Command {
        let mut gracefully = Command::new(&self.gracefully);
        gracefully.args(args);
        gracefully
    }

    /// On the local engine.
    pub(crate) fn gracefully(&self, args: &[&str]) -> Command {
        let mut gracefully = Command::new(&self.gracefully);
        gracefully
            .args(["--engine", "local"])
            .args(args)
            .env("GRACEFULLY_STATE_DIR", self.directory().join("state"));
        gracefully
    }

    pub(crate) fn run_on_docker(&self, name: &str) -> Command {
        self.docker(&["run", "--detach", "--net=none", "--name", name, images::VICTIM, "slow", "0", "0"])
    }

    pub(crate) fn run_on_local(&self, name: &str, mode: &[&str]) -> Command {
        let mut run = self.gracefully(&["run", "-d", "--name", name, "--"]);
        run.arg(self.victim()).args(mode);
        run
    }

    /// Starts a program that is ready to be stopped.
    pub(crate) fn start_on_docker(&self) -> Result<String> {
        let name = self.new_name();
        command::output(&mut self.run_on_docker(&name))?;
        wait_until_started(|| self.docker(&["logs", &name]))?;
        Ok(name)
    }

    /// The same on the local engine.
    pub(crate) fn start_on_local(&self, mode: &[&str]) -> Result<String> {
        let name = self.new_name();
        command::output(&mut self.run_on_local(&name, mode))?;
        wait_until_started(|| self.gracefully(&["logs", &name]))?;
        Ok(name)
    }

    /// The process that watches a container of the local engine: the parent of its main process.
    pub(crate) fn monitor_of(&self, name: &str) -> Result<u32> {
        let inspect = command::output(&mut self.gracefully(&["inspect", name]))?;
        let pid = inspect.lines().find_map(|line| line.trim().strip_prefix("\"Pid\": ")).context("no PID")?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim_end_matches(',')))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).context("no parent")?;
        Ok(parent.trim().parse()?)
    }

    /// Which versions were measured.
    pub(crate) fn versions(&self) -> Result<String> {
        let docker = command::output(&mut self.docker(&[
            "version",
            "--format",
            "docker client {{.Client.Version}}, daemon {{.Server.Version}} (vfs)",
        ]))?;
        let ours = command::output(&mut self.gracefully(&["--version"])).unwrap_or_default();
        Ok(format!("{}; {}\n", docker.trim(), ours.trim()))
    }
}

/// The victim says `started` when its handlers are in place.
fn wait_until_started(logs: impl Fn() -> Command) -> Result<()> {
    wait_until_it_says("started", logs)
}

/// Looks into a log until these words are there.
pub(crate) fn wait_until_it_says(words: &str, logs: impl Fn() -> Command) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !command::output(&mut logs())?.contains(words) {
        if Instant::now() > deadline {
            bail!("{}: the program has not said {words:?}", command::words(&logs()));
        }
    }
    Ok(())
}
