//! A Docker daemon of our own: own data, socket, cgroup, and a network namespace of its own, in which its bridge, its
//! firewall rules and its published ports are. Nothing of the host's daemon, if there is one, is touched, and nothing is
//! left behind.
//!
//! Whoever wants to reach a published port goes into the namespace of [`Dockerd::pid`], which is to its containers what
//! the host is to those of an ordinary daemon.
//!
//! The end-to-end suite uses this file too, for the daemon that dies in the middle of a stop.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long the daemon may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon, in a new namespace, whose loopback interface is still down.
const LOOPBACK: &str = "ip link set lo up && exec dockerd \"$@\"";

/// A running private daemon. Dropping it ends it with everything that it started.
#[derive(Debug)]
pub(crate) struct Dockerd {
    child: Child,
    directory: tempfile::TempDir,
    cgroup: String,
}

/// What may be different from a plain daemon.
#[derive(Debug, Default)]
pub(crate) struct Options<'a> {
    /// What `docker run --init` puts in front.
    pub(crate) init: Option<&'a Path>,
    /// Where it looks for programs first, such as another `iptables`.
    pub(crate) path: Option<&'a Path>,
}

impl Dockerd {
    /// Starts a daemon and waits until it answers; says why it has no bridge, and so no published ports,
    /// if it can have none.
    pub(crate) fn start(options: &Options<'_>) -> io::Result<(Self, Option<io::Error>)> {
        match Self::start_with(options, &[]) {
            Ok(daemon) => Ok((daemon, None)),
            Err(why) => {
                let no_network =
                    ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"];
                Ok((Self::start_with(options, &no_network)?, Some(why)))
            }
        }
    }

    fn start_with(options: &Options<'_>, words: &[&str]) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("gracefully-dockerd-").tempdir()?;
        let at = directory.path();
        let cgroup = at.file_name().and_then(OsStr::to_str).unwrap_or("gracefully-dockerd").to_string();
        fs::write(at.join("daemon.json"), "{}")?;
        let log = fs::File::create(at.join("log"))?;
        // If we are killed, the kernel ends the daemon, and the daemon its containers. A group of its own keeps the
        // terminal's Ctrl-C from it: we still need it to clean up.
        let child = Command::new("unshare")
            .args(["--net", "--", "setpriv", "--pdeathsig", "TERM", "--", "sh", "-c", LOOPBACK, "dockerd"])
            .args(["--storage-driver=vfs", "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent"])
            .arg(format!("/{cgroup}"))
            .args(words)
            .args(options.init.map(|init| format!("--init-path={}", init.display())))
            .arg("--config-file")
            .arg(at.join("daemon.json"))
            .arg("--data-root")
            .arg(at.join("data"))
            .arg("--exec-root")
            .arg(at.join("exec"))
            .arg("--pidfile")
            .arg(at.join("docker.pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket(at).display()))
            .env("PATH", path(options.path))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let mut daemon = Self { child, directory, cgroup };
        weigh(&daemon.cgroup);
        let at = daemon.directory.path();
        wait_until_it_answers(&mut daemon.child, &socket(at), &at.join("log"))?;
        Ok(daemon)
    }

    /// Its address, for `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", socket(self.directory.path()).display())
    }

    /// The daemon's own process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Ours, behind this one.
fn path(first: Option<&Path>) -> OsString {
    let ours = std::env::var_os("PATH").unwrap_or_default();
    match first {
        Some(first) => [first.as_os_str(), &*ours].join(OsStr::new(":")),
        None => ours,
    }
}

impl Drop for Dockerd {
    /// Every container is killed, the daemon asked to end, then whatever is left of the two removed. Each step is
    /// made whatever became of the one before.
    fn drop(&mut self) {
        for pid in members_of(&self.cgroup) {
            signal(pid, Signal::KILL);
        }
        end(&mut self.child);
        // A daemon that was killed leaves containerd's shims, its containers, and mounts.
        let at = self.directory.path();
        kill_all(|| [processes_that_name(at), members_of(&self.cgroup)].concat());
        unmount_below(at);
        for root in cgroups(&self.cgroup) {
            remove_cgroup(&root);
        }
    }
}

/// Waits until a daemon answers; the error has the last words of its log.
pub(crate) fn wait_until_it_answers(daemon: &mut Child, socket: &Path, log: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if ping(socket).is_ok() {
            return Ok(());
        }
        let ended = daemon.try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            let why = ended.map_or("it does not answer".to_string(), |status| status.to_string());
            return Err(io::Error::other(format!("{why}; its last words: {}", last.join(" | "))));
        }
        pause();
    }
}

/// Asks a daemon to end, and ends it if it does not.
pub(crate) fn end(daemon: &mut Child) {
    signal(daemon.id(), Signal::TERM);
    let deadline = Instant::now() + PATIENCE;
    while !matches!(daemon.try_wait(), Ok(Some(_)) | Err(_)) {
        if Instant::now() > deadline {
            let _ = daemon.kill();
        }
        pause();
    }
}

/// SIGKILL to those who are left, until nobody is.
pub(crate) fn kill_all(left: impl Fn() -> Vec<u32>) {
    for _ in 0..100 {
        let left = left();
        if left.is_empty() {
            return;
        }
        for pid in left {
            signal(pid, Signal::KILL);
        }
        pause();
    }
}

/// Unmounts what is mounted below a directory, the innermost first.
pub(crate) fn unmount_below(directory: &Path) {
    for mount in mounts_below(directory) {
        let _ = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("docker.sock")
}

/// Does the daemon answer?
fn ping(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    if &head[9..] == b"200" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Sends a signal through a pidfd; a process that is gone is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let fd = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    if let Some(Ok(fd)) = fd {
        let _ = pidfd_send_signal(fd, signal);
    }
}

/// The directory of a cgroup in every hierarchy, v1 and v2, where it exists.
pub(crate) fn cgroups(name: &str) -> Vec<PathBuf> {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from("/sys/fs/cgroup"))
        .chain(hierarchies)
        .map(|hierarchy| hierarchy.join(name))
        .filter(|directory| directory.is_dir())
        .collect()
}

/// Makes a cgroup that has as much of the processors as many processes: else all containers together get no more than one
/// process of the tests, which are in no group (cgroups(7)), and on a busy machine no container answers in time. Where there is
/// no such controller, or it is not ours to use, they have to do without.
fn weigh(cgroup: &str) {
    // As heavy as twenty processes with the usual weight.
    for (hierarchy, weight, heavy) in [("cpu", "cpu.shares", "20480"), ("", "cpu.weight", "2000")] {
        let hierarchy = Path::new("/sys/fs/cgroup").join(hierarchy);
        let directory = hierarchy.join(cgroup);
        if hierarchy.join("cgroup.procs").exists() && fs::create_dir(&directory).is_ok() {
            let _ = fs::write(directory.join(weight), heavy);
        }
    }
}

/// Every process in a cgroup or below it.
fn members_of(cgroup: &str) -> Vec<u32> {
    fn collect(directory: &Path, pids: &mut Vec<u32>) {
        let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
        for child in subdirectories(directory) {
            collect(&child, pids);
        }
    }
    let mut pids = Vec::new();
    for directory in cgroups(cgroup) {
        collect(&directory, &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn remove_cgroup(directory: &Path) {
    for child in subdirectories(directory) {
        remove_cgroup(&child);
    }
    let _ = fs::remove_dir(directory);
}

fn subdirectories(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
}

/// Processes with our directory in their command line: containerd and its shims, conmon.
pub(crate) fn processes_that_name(directory: &Path) -> Vec<u32> {
    let needle = directory.as_os_str().as_encoded_bytes();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            *pid != std::process::id() && line.windows(needle.len()).any(|window| window == needle)
        })
        .collect()
}

/// Mount points below a directory, the innermost first.
fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(directory)).collect();
    below.reverse();
    below
}

/// Between two looks at something that cannot be waited for.
#[expect(clippy::disallowed_methods, reason = "the interval of a poll, bounded by the caller's deadline")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
