//! Who has which name: `names/<name>` is a symbolic link whose target is the id of a container.
//!
//! symlink(2) fails if there is one, which makes it the reservation. Names are given and taken by one process at a
//! time ([`Alone`]), so that two who find the same stale link do not remove each other's new one.

use alloc::string::String;
use alloc::vec::Vec;

use gracefully_linux::Errno;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, flock, readlinkat, unlinkat};

use crate::files;

/// The directory of the names, with nobody else making, naming or removing containers until it is closed.
#[derive(Debug)]
pub struct Alone(OwnedFd);

impl Alone {
    /// Waits until nobody else is. `root` is the engine's directory.
    pub fn wait(root: impl AsFd) -> Result<Self, Errno> {
        let names = files::open_dir(root, "names")?;
        flock(&names, FlockOperation::LockExclusive)?;
        Ok(Self(names))
    }

    /// Gives back every name that the container `id` has.
    pub fn release(&self, id: &str) -> Result<(), Errno> {
        for name in of(&self.0, id) {
            match unlinkat(&self.0, &*name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Every name that the container `id` has. `names` is their directory.
pub fn of(names: impl AsFd, id: &str) -> Vec<String> {
    let all = files::names(&names).unwrap_or_default();
    all.into_iter().filter(|name| owner(&names, name).as_deref() == Some(id)).collect()
}

/// Who has the name.
pub fn owner(names: impl AsFd, name: &str) -> Option<String> {
    readlinkat(names, name, Vec::new()).ok()?.into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use rustix::fs::symlinkat;

    #[test]
    fn a_container_gives_back_its_own_names() {
        let root = Scratch::new();
        files::make_dirs(&root, "names").unwrap();
        for (name, id) in [("web", "a1"), ("old-web", "a1"), ("db", "b2")] {
            symlinkat(id, &root, alloc::format!("names/{name}")).unwrap();
        }
        let names = files::open_dir(&root, "names").unwrap();
        assert_eq!(owner(&names, "db").as_deref(), Some("b2"));
        assert_eq!(of(&names, "a1").len(), 2);
        Alone::wait(&root).unwrap().release("a1").unwrap();
        assert_eq!(files::names(&names).unwrap(), ["db"]);
        assert_eq!(owner(&names, "web"), None);
    }
}
