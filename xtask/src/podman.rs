//! A Podman of our own behind a socket, where it answers to docker's API: own data, no network, nothing of the host's.
//!
//! Podman is no daemon: if we are killed, its containers go on. Whatever else happens they are removed.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::dockerd;

/// A running service. Dropping it ends it with everything that it started.
#[derive(Debug)]
pub(crate) struct Podman {
    child: Child,
    directory: tempfile::TempDir,
}

impl Podman {
    /// Starts the service and waits until it answers.
    pub(crate) fn start() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("gracefully-podman-").tempdir()?;
        let at = directory.path();
        fs::write(at.join("containers.conf"), CONTAINERS)?;
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/data\"\nrunroot = \"{0}/run\"\n",
            at.display()
        );
        fs::write(at.join("storage.conf"), storage)?;
        let log = fs::File::create(at.join("log"))?;
        let mut service = Command::new("setpriv");
        service.args(["--pdeathsig", "TERM", "--", "podman"]);
        let child = ours(&mut service, at)
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", at.join("podman.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let mut podman = Self { child, directory };
        let at = podman.directory.path();
        dockerd::wait_until_it_answers(&mut podman.child, &at.join("podman.sock"), &at.join("log"))?;
        Ok(podman)
    }

    /// Its address, for `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.directory.path().join("podman.sock").display())
    }

    /// The service's own process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let at = self.directory.path();
        let mut remove = Command::new("podman");
        let remove = ours(&mut remove, at).args(["rm", "--all", "--force", "--time", "0"]);
        let _ = remove.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        dockerd::end(&mut self.child);
        dockerd::kill_all(|| dockerd::processes_that_name(at));
        dockerd::unmount_below(at);
        // Podman's groups for all containers; they stay if another Podman has some.
        for group in ["libpod_parent/conmon", "libpod_parent"].into_iter().flat_map(dockerd::cgroups) {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Only what this machine allows: root may lack the right to raise limits, and crun needs cgroups v2. The locks are files,
/// because those in shared memory would be the host's.
const CONTAINERS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
"#;

/// Makes it the Podman of this directory.
fn ours<'a>(command: &'a mut Command, at: &Path) -> &'a mut Command {
    command
        .env("CONTAINERS_CONF", at.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", at.join("storage.conf"))
        .arg("--tmpdir")
        .arg(at.join("tmp"))
}
