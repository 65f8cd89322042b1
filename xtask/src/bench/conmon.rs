//! conmon watching one container of runc, as podman starts it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::workbench::Workbench;
use crate::command;

/// A running conmon with its container; dropping it kills the container, upon which conmon ends.
#[derive(Debug)]
pub(crate) struct Conmon {
    bundle: tempfile::TempDir,
    id: String,
    pid: u32,
}

impl Conmon {
    pub(crate) fn start(bench: &Workbench) -> Result<Self> {
        let bundle = tempfile::Builder::new().prefix("gracefully-conmon-").tempdir()?;
        let at = bundle.path();
        fs::create_dir(at.join("rootfs"))?;
        fs::copy(bench.victim(), at.join("rootfs/victim"))?;
        command::output(Command::new("runc").arg("spec").arg("--bundle").arg(at))?;
        let config = fs::read_to_string(at.join("config.json"))?;
        let config = config.replace("\"terminal\": true", "\"terminal\": false");
        let config = config.replace("\"sh\"", "\"/victim\", \"slow\", \"0\", \"0\"");
        fs::write(at.join("config.json"), config)?;

        let id = at.file_name().and_then(|name| name.to_str()).context("a name")?.to_string();
        let runc = command::find("runc").context("no runc")?;
        let pid_file = at.join("conmon.pid");
        // Without --full-attach conmon wants a directory of CRI-O's for its socket; podman gives it, too.
        command::output(
            Command::new("conmon")
                .arg("--full-attach")
                .args(["--cid", &id, "--cuuid", &id, "--name", &id, "--runtime"])
                .arg(runc)
                .arg("--bundle")
                .arg(at)
                .arg("--container-pidfile")
                .arg(at.join("container.pid"))
                .arg("--conmon-pidfile")
                .arg(&pid_file)
                .arg("--log-path")
                .arg(format!("k8s-file:{}", at.join("log").display()))
                .arg("--exit-dir")
                .arg(at),
        )?;
        let pid = wait_for_pid(&pid_file)?;
        let conmon = Self { bundle, id, pid };
        wait_for_pid(&conmon.bundle.path().join("container.pid"))?;
        // Conmon waits with its container created; podman, too, starts it in a second step.
        command::output(Command::new("runc").args(["start", &conmon.id]))?;
        Ok(conmon)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Conmon {
    fn drop(&mut self) {
        let _ = command::capture(Command::new("runc").args(["delete", "--force", &self.id]));
    }
}

fn wait_for_pid(file: &PathBuf) -> Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(pid) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(pid);
        }
        if Instant::now() > deadline {
            bail!("conmon wrote no {}", file.display());
        }
        std::thread::yield_now();
    }
}
