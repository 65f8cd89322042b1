//! Files that are replaced at once.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces a file at once, or makes it: whenever the machine stops, the file has the old content or the new one, and when this has
/// returned, the new one.
///
/// Owner and rights of an old file are not taken over. A symbolic link is replaced itself, not what it points to. Whoever is killed
/// on the way may leave a file beside it, `.NAME.*.new`, that harms nobody and may be removed.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("state.json");
/// gracefully::durable::atomic_replace(&path, b"{}")?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok(()) }
/// ```
pub fn atomic_replace(path: impl AsRef<Path>, content: &[u8]) -> io::Result<()> {
    let path = path.as_ref();
    let (new, file) = new_beside(path)?;
    let written = replace_by(&new, file, path, content);
    if written.is_err() {
        // What matters is why it could not be written.
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// A new file in the same directory.
///
/// Its name may be taken: in a container every process is PID 1, also the one that was killed before it could rename its own,
/// and one on the same volume that is about to. Neither is ours to remove.
fn new_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no name of a file"))?;
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut new = std::ffi::OsString::from(".");
        new.push(name);
        new.push(format!(".{}.{number}.new", std::process::id()));
        let new = parent(path).join(new);
        match OpenOptions::new().write(true).create_new(true).open(&new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => return Ok((new, file?)),
        }
    }
}

fn replace_by(new: &Path, mut file: File, path: &Path, content: &[u8]) -> io::Result<()> {
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(new, path)?;
    sync_dir(parent(path))
}

/// Writes a directory to the disk: which names there are, and of what. After that a file that was made, renamed or removed in it
/// stays so.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # std::fs::write(directory.path().join("old"), "")?;
/// std::fs::remove_file(directory.path().join("old"))?;
/// gracefully::durable::sync_dir(directory.path())?; // it does not come back
/// # Ok(()) }
/// ```
pub fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory in which a path names something.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
