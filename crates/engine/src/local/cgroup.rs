//! The control groups of a container: `/gracefully/<id>` in every hierarchy.
//!
//! Below `/sys/fs/cgroup` is either one tree (version 2) or a directory of trees, one for each controller (version 1,
//! also beside version 2). A group can be removed with rmdir(2) when nobody is in it any more (cgroups(7)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use rustix::io::Errno;

use crate::error::Result;

use super::paths::io_error;

pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// The group in which all of ours are.
const PARENT: &str = "gracefully";

/// How long the kernel may take to clear a group after its last process has been reaped.
const CLEARING: Duration = Duration::from_secs(2);

/// As the OCI specification wants it.
pub(super) fn path_of(id: &str) -> PathBuf {
    Path::new("/").join(PARENT).join(id)
}

/// The container's group in each hierarchy.
pub(super) fn groups(id: &str) -> Vec<PathBuf> {
    hierarchies().into_iter().map(|hierarchy| hierarchy.join(PARENT).join(id)).collect()
}

/// Where each hierarchy is mounted.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let is_group = |dir: &Path| dir.join("cgroup.procs").exists();
    if is_group(root) {
        return vec![root.to_owned()];
    }
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    // Symbolic links are second names of hierarchies with several controllers.
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).filter(|dir| is_group(dir)).collect()
}

/// SIGKILL to whoever is in the container's groups, for a container of which nothing else is known. A pidfd is taken
/// first and the group is asked again, so that nobody else is hit.
pub(super) fn kill(id: &str) {
    for group in groups(id) {
        for pid in members(&group) {
            let Ok(process) = PidFd::open(pid) else { continue };
            if members(&group).contains(&pid) {
                // It may have ended in between.
                let _ = process.send(Signal::KILL);
            }
        }
    }
}

fn members(group: &Path) -> Vec<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Removes the container's groups, in which nobody is any more.
#[expect(clippy::disallowed_methods, reason = "nothing tells when the kernel has cleared a group")]
pub fn remove(id: &str) -> Result<()> {
    let end = Instant::now() + CLEARING;
    for group in groups(id) {
        loop {
            match fs::remove_dir(&group) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if is_busy(&error) && Instant::now() < end => sleep(Duration::from_millis(1)),
                // Where groups cannot be removed, none could be made.
                Err(error) if is_refused(&error) => break,
                Err(error) => return Err(io_error("remove", &group, error)),
            }
        }
    }
    Ok(())
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn is_busy(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::BUSY)
}
