//! Removing a container: everything that belongs to it.

use alloc::format;

use rustix::fd::AsFd;

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
    files::remove_all(&root, &home).map_err(Failure::of("remove", home))
}
