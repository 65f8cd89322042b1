//! Where the engine keeps its containers, and who may look.
//!
//! ```text
//! $GRACEFULLY_STATE_DIR, else /run/gracefully (root), $XDG_RUNTIME_DIR/gracefully (others); mode 0700
//! ├── containers/<id>/   one container, see `Home`
//! ├── names/<name>       a symbolic link whose target is the id; symlink(2) fails if it exists: the reservation
//! └── rootfs/            empty; every container mounts its root here, inside its own mount namespace
//! ```
//!
//! Nobody but the owner can enter the directory, so everything below it can be used by path. That is also why it must
//! not be a symbolic link and must belong to us: who could rename it could show us a directory of their own.
//!
//! It is run-time state: no process survives a restart of the machine, so nothing is synced to the disk. A record that
//! such a restart has torn is reported and can be removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use gracefully_monitor::names::Alone;
use rustix::process::geteuid;

use crate::error::{Error, Result};

use super::home::Home;

/// The directory below which all containers of one user are.
#[derive(Clone, Debug)]
pub struct StateRoot {
    path: PathBuf,
}

impl StateRoot {
    /// Where it is if nobody says anything else.
    ///
    /// Fails with [`Error::Unsupported`] for a user without `XDG_RUNTIME_DIR`.
    pub fn default_path() -> Result<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = set("GRACEFULLY_STATE_DIR") {
            return Ok(path);
        }
        if geteuid().is_root() {
            return Ok(PathBuf::from("/run/gracefully"));
        }
        set("XDG_RUNTIME_DIR").map(|dir| dir.join("gracefully")).ok_or_else(|| Error::Unsupported {
            what: "there is no directory for the state of containers: XDG_RUNTIME_DIR is not set. \
                   Set it, or GRACEFULLY_STATE_DIR"
                .to_owned(),
        })
    }

    /// Opens the directory, and makes it if it is missing.
    ///
    /// Fails with [`Error::Unsupported`] if it is a symbolic link, belongs to somebody else or is open to others.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|source| io_error("find", path, source))?;
        make_dir(&path)?;
        check(&path)?;
        for name in ["containers", "names", "rootfs"] {
            make_dir(&path.join(name))?;
        }
        Ok(Self { path })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The home of one container, whether it exists or not.
    pub fn home(&self, id: &str) -> Home {
        Home::new(&self.containers(), id)
    }

    /// The homes of all containers, in no order.
    pub fn homes(&self) -> Result<Vec<Home>> {
        Ok(self
            .entries()?
            .into_iter()
            .filter(|name| !name.starts_with('.'))
            .map(|id| self.home(&id))
            .collect())
    }

    /// Nobody else makes, names or removes containers until it is dropped.
    pub(super) fn alone(&self) -> Result<Alone> {
        Alone::wait(self.open_dir()?).map_err(|errno| io_error("lock", &self.names(), errno))
    }

    /// The directory itself, open.
    pub(super) fn open_dir(&self) -> Result<File> {
        File::open(&self.path).map_err(|source| io_error("open", &self.path, source))
    }

    /// Removes directories that a client was killed over while it made them. Those of living clients are not among
    /// them, because we are alone.
    pub(super) fn sweep(&self, _: &Alone) -> Result<()> {
        for hidden in self.hidden()? {
            match fs::remove_dir_all(&hidden) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &hidden, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Directories that are being made, or were.
    pub(super) fn hidden(&self) -> Result<Vec<PathBuf>> {
        Ok(self
            .entries()?
            .into_iter()
            .filter(|name| name.starts_with('.'))
            .map(|name| self.containers().join(name))
            .collect())
    }

    fn entries(&self) -> Result<Vec<String>> {
        let dir = self.containers();
        let entries = fs::read_dir(&dir).map_err(|source| io_error("read", &dir, source))?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }

    pub(super) fn containers(&self) -> PathBuf {
        self.path.join("containers")
    }

    pub(super) fn names(&self) -> PathBuf {
        self.path.join("names")
    }
}

fn make_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error("create", path, error)),
        _ => Ok(()),
    }
}

fn check(path: &Path) -> Result<()> {
    let found = fs::symlink_metadata(path).map_err(|source| io_error("look at", path, source))?;
    let refuse = |why: &str| {
        Err(Error::Unsupported { what: format!("refusing to keep containers in {}: {why}", path.display()) })
    };
    if found.is_symlink() {
        return refuse("it is a symbolic link");
    }
    if !found.is_dir() {
        return refuse("it is not a directory");
    }
    if found.uid() != geteuid().as_raw() {
        return refuse(&format!("it belongs to user {}", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return refuse(&format!("others may enter it (mode {:04o}); use chmod 0700", found.mode() & 0o7777));
    }
    Ok(())
}

pub(super) fn io_error(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::Io { what, path: path.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_new_root_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::open(&dir.path().join("state")).unwrap();
        assert_eq!(fs::metadata(root.path()).unwrap().mode() & 0o7777, 0o700);
        assert!(root.homes().unwrap().is_empty());
        StateRoot::open(root.path()).expect("it can be opened again");
    }

    #[test]
    fn what_others_could_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();

        fs::set_permissions(&real, fs::Permissions::from_mode(0o750)).unwrap();
        let error = StateRoot::open(&real).unwrap_err().to_string();
        assert!(error.ends_with("others may enter it (mode 0750); use chmod 0700"), "{error}");

        fs::set_permissions(&real, fs::Permissions::from_mode(0o700)).unwrap();
        let link = dir.path().join("link");
        symlink(&real, &link).unwrap();
        let error = StateRoot::open(&link).unwrap_err().to_string();
        assert!(error.ends_with("it is a symbolic link"), "{error}");

        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(StateRoot::open(&file).is_err());
    }
}
