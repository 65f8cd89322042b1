//! The embedded engine, with containers of the test's own.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// An engine of the test's own. Dropping it removes its containers.
#[derive(Debug)]
pub(crate) struct Local {
    directory: tempfile::TempDir,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// A file that does not outlive the test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The server of `examples/hello` at this address.
    pub(crate) fn hello(&self, at: SocketAddr) -> Vec<String> {
        let program = self.file("hello");
        if !program.exists() {
            symlink(env!("CARGO_BIN_EXE_gracefully"), &program).unwrap();
        }
        vec![program.display().to_string(), at.to_string()]
    }

    /// Runs a container. The error says why this machine cannot.
    pub(crate) fn run(&self, name: &str, command: &[String]) -> Result<(), String> {
        let mut run = self.command(&["run", "-d", "--name", name, "--"]);
        let run = run.args(command).output().unwrap();
        if run.status.success() {
            Ok(())
        } else {
            Err(format!("the embedded engine cannot run it: {}", said(&run)))
        }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gracefully"));
        command
            .args(["--engine", "local"])
            .args(words)
            .env("GRACEFULLY_STATE_DIR", self.file("state"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn gracefully(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let Ok(all) = self.command(&["ps", "-aq"]).output() else { return };
        for id in String::from_utf8_lossy(&all.stdout).lines() {
            let _ = self.command(&["rm", "-f", id]).output();
        }
    }
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
