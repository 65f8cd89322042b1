//! libcontainer cannot leave the control groups alone: where they are not writable they are hidden from it.

use std::fs;
use std::io;
use std::path::Path;

use gracefully_monitor::cgroup::{self, ROOT};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::rootless::mounts_are_ours;

/// Makes the container's groups and says whether that worked in every hierarchy. The permission bits tell nothing of a
/// read-only mount or of a namespace; and what is left of a launcher that is killed is removed with the container.
pub(super) fn make(id: &str) -> bool {
    let made = cgroup::groups(id).iter().all(|group| fs::create_dir_all(group).is_ok());
    if !made {
        // Those that could be made can be removed, too.
        let _ = cgroup::remove(id);
    }
    made
}

/// Puts an empty file system over the hierarchies, for this process and for what it makes. libcontainer then finds no
/// controller and does nothing. The container sees none either.
pub(super) fn hide() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mounts_are_ours()?;
    // Detached, because hierarchies are mounted below it. It fails if nothing is mounted, which is as good.
    let _ = unmount(ROOT, UnmountFlags::DETACH);
    if Path::new(ROOT).exists() {
        mount("none", ROOT, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
    }
    Ok(())
}
