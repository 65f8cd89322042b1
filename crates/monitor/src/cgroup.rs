//! The control groups of a container: `/gracefully/<id>` in every hierarchy.
//!
//! Below `/sys/fs/cgroup` is either one tree (version 2) or a directory of trees, one for each controller (version 1,
//! also beside version 2). A group can be removed with rmdir(2) when nobody is in it any more (cgroups(7)).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::signal::Signal;
use gracefully_linux::{Errno, PidFd};
use rustix::event::{Timespec, poll};
use rustix::fs::{Access, CWD, FileType, access, lstat, rmdir};
use rustix::time::{ClockId, clock_gettime};

use crate::failure::{Failure, Result};
use crate::files;

/// Where the hierarchies are mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// The group in which all of ours are.
const PARENT: &str = "gracefully";

/// How long the kernel may take to clear a group after its last process has been reaped.
const CLEARING: Duration = Duration::from_secs(2);

/// As the OCI specification wants it.
pub fn path_of(id: &str) -> String {
    format!("/{PARENT}/{id}")
}

/// The container's group in each hierarchy.
pub fn groups(id: &str) -> Vec<String> {
    hierarchies().iter().map(|hierarchy| format!("{hierarchy}/{PARENT}/{id}")).collect()
}

/// Where each hierarchy is mounted.
fn hierarchies() -> Vec<String> {
    let is_group = |dir: &str| access(format!("{dir}/cgroup.procs"), Access::EXISTS).is_ok();
    if is_group(ROOT) {
        return Vec::from([String::from(ROOT)]);
    }
    let names = files::open_dir(CWD, ROOT).and_then(files::names).unwrap_or_default();
    // Symbolic links are second names of hierarchies with several controllers.
    let is_dir =
        |dir: &str| lstat(dir).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    let dirs = names.iter().map(|name| format!("{ROOT}/{name}"));
    dirs.filter(|dir| is_dir(dir) && is_group(dir)).collect()
}

/// SIGKILL to whoever is in the container's groups, for a container of which nothing else is known. A pidfd is taken
/// first and the group is asked again, so that nobody else is hit.
pub fn kill(id: &str) {
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

fn members(group: &str) -> Vec<u32> {
    let text = files::read(CWD, &format!("{group}/cgroup.procs"), 1024 * 1024).unwrap_or_default();
    let lines = text.split(|&b| b == b'\n');
    lines.filter_map(|line| str::from_utf8(line).ok()?.parse().ok()).collect()
}

/// Removes the container's groups, in which nobody is any more.
pub fn remove(id: &str) -> Result<()> {
    let end = now() + CLEARING;
    for group in groups(id) {
        loop {
            match rmdir(&*group) {
                Err(Errno::BUSY) if now() < end => pause(),
                // The last three: where groups cannot be removed, none could be made.
                Ok(()) | Err(Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::ROFS) => break,
                Err(errno) => return Err(Failure { what: "remove", whom: group, errno }),
            }
        }
    }
    Ok(())
}

/// Nothing tells when the kernel has cleared a group: it is asked again after a moment.
fn pause() {
    let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}
