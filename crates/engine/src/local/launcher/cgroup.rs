//! libcontainer cannot leave the control groups alone: where they are not writable they are hidden from it.

use std::fs;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::local::cgroup::{self, ROOT};

use super::rootless::mounts_are_ours;

/// Can groups be made in every hierarchy? Asked by making one: the permission bits tell nothing of a read-only mount
/// or of a namespace.
pub(super) fn is_writable() -> bool {
    let name = format!("gracefully-probe-{}", std::process::id());
    cgroup::hierarchies().iter().all(|hierarchy| {
        let probe = hierarchy.join(&name);
        fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).is_ok()
    })
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
