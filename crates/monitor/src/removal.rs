//! Removing a container: everything that belongs to it.

use alloc::format;

use gracefully_linux::Errno;
use rustix::fd::AsFd;
use rustix::fs::renameat;

use crate::cgroup;
use crate::failure::{Failure, Result};
use crate::files;
use crate::names::Alone;

/// Removes processes, control groups, names and files of the container `id`. `root` is the engine's directory; the
/// caller is in charge of the container.
///
/// There is no mount in the container's directory and nothing of the container's: the root is mounted elsewhere, in the
/// container's own mount namespace.
pub fn remove(root: impl AsFd, id: &str) -> Result<()> {
    cgroup::kill(id);
    cgroup::remove(id)?;
    let alone = Alone::wait(&root).map_err(Failure::of("lock", "names"))?;
    alone.release(id).map_err(Failure::of("release", "names"))?;
    let home = format!("containers/{id}");
    remove_files(root, &home, &format!("containers/.{id}")).map_err(Failure::of("remove", home))
}

/// Under another name first, where nobody finds it who has just looked the container up: to open its lock makes that file
/// anew, and then the directory is not empty in the end. What has such a name is swept away if we are killed.
fn remove_files(root: impl AsFd, home: &str, hidden: &str) -> Result<(), Errno> {
    files::remove_all(&root, hidden)?;
    match renameat(&root, home, &root, hidden) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    // Whoever was on their way into the directory at that moment comes once.
    match files::remove_all(&root, hidden) {
        Err(Errno::NOTEMPTY) => files::remove_all(&root, hidden),
        removed => removed,
    }
}
