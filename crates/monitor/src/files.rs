//! Whole files, relative to an open directory.

use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use gracefully_linux::Errno;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FallocateFlags, Mode, OFlags, fallocate, ftruncate, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::{read as read_some, retry_on_intr, write as write_some};

/// Nobody but the owner.
pub(crate) const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens a directory, to use paths relative to it.
pub fn open_dir(at: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The whole file; one that is longer than `limit` is cut behind it.
pub fn read(dir: impl AsFd, name: &str, limit: usize) -> Result<Vec<u8>, Errno> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    while text.len() <= limit {
        text.reserve(4096);
        if retry_on_intr(|| read_some(&file, spare_capacity(&mut text)))? == 0 {
            break;
        }
    }
    Ok(text)
}

/// Replaces a file atomically: rename(2) shows a reader the old one or the new one.
pub fn replace(dir: impl AsFd, name: &str, text: &[u8]) -> Result<(), Errno> {
    let (file, new) = open_new(&dir, name)?;
    // Written over what is there: that may be room which was reserved.
    write(&file, text)?;
    ftruncate(&file, text.len() as u64)?;
    renameat(&dir, new.as_str(), &dir, name)
}

/// Keeps room for the next [`replace`] of this file, so that it succeeds also when the disk is full by then.
pub fn reserve(dir: impl AsFd, name: &str, len: usize) -> Result<(), Errno> {
    let (file, _) = open_new(dir, name)?;
    fallocate(&file, FallocateFlags::empty(), 0, len as u64)
}

/// The file that is to take the place of `name`, and its own name.
fn open_new(dir: impl AsFd, name: &str) -> Result<(OwnedFd, String), Errno> {
    let new = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    Ok((openat(dir, new.as_str(), flags, PRIVATE)?, new))
}

/// Writes all of it.
pub fn write(to: impl AsFd, mut text: &[u8]) -> Result<(), Errno> {
    while !text.is_empty() {
        let written = retry_on_intr(|| write_some(&to, text))?;
        text = &text[written..];
    }
    Ok(())
}

/// Makes a directory and those above it that are missing.
pub fn make_dirs(at: impl AsFd, path: &str) -> Result<(), Errno> {
    let ends = path.match_indices('/').map(|(end, _)| end).filter(|&end| end > 0).chain([path.len()]);
    for end in ends {
        match mkdirat(&at, &path[..end], Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The names in a directory that are text, in no order.
pub fn names(dir: impl AsFd) -> Result<Vec<String>, Errno> {
    let entries = Dir::read_from(dir)?;
    let name = |name: CString| name.into_string().ok();
    let names = entries.filter_map(|entry| name(entry.ok()?.file_name().to_owned()));
    Ok(names.filter(|name| name != "." && name != "..").collect())
}

/// Removes a file or a directory with everything in it. That it is not there is no error.
pub fn remove_all(at: impl AsFd, name: &str) -> Result<(), Errno> {
    match remove_all_that_is(at, name) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

fn remove_all_that_is(at: impl AsFd, name: &str) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match openat(&at, name, flags, Mode::empty()) {
        Ok(dir) => dir,
        // With O_DIRECTORY and O_NOFOLLOW the kernel says this of a symbolic link, too.
        Err(Errno::NOTDIR | Errno::LOOP) => return unlinkat(&at, name, AtFlags::empty()),
        Err(errno) => return Err(errno),
    };
    // Entries that are not text are not ours; rmdir(2) finds them.
    for entry in names(&dir)? {
        remove_all(&dir, &entry)?;
    }
    unlinkat(&at, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use alloc::vec;
    use rustix::fs::symlinkat;

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = Scratch::new();
        replace(&dir, "a", b"one").unwrap();
        replace(&dir, "a", &vec![b'2'; 100_000]).unwrap();
        assert_eq!(read(&dir, "a", 1 << 20).unwrap(), vec![b'2'; 100_000]);
        assert!(read(&dir, "a", 10).unwrap().len() > 10, "whoever reads sees that it is longer");
        assert_eq!(names(&dir).unwrap(), ["a"]);
        assert_eq!(read(&dir, "b", 10), Err(Errno::NOENT));
    }

    #[test]
    fn what_was_reserved_does_not_show() {
        let dir = Scratch::new();
        replace(&dir, "a", b"one").unwrap();
        reserve(&dir, "a", 10_000).unwrap();
        assert_eq!(read(&dir, "a", 1 << 20).unwrap(), b"one");
        replace(&dir, "a", b"two").unwrap();
        assert_eq!(read(&dir, "a", 1 << 20).unwrap(), b"two");
    }

    #[test]
    fn a_tree_is_removed_and_what_it_points_to_is_not() {
        let dir = Scratch::new();
        make_dirs(&dir, "tree/b/c").unwrap();
        make_dirs(&dir, "tree/b/c").expect("it is there already");
        replace(&dir, "tree/b/file", b"").unwrap();
        replace(&dir, "kept", b"").unwrap();
        symlinkat("../kept", &dir, "tree/link").unwrap();
        symlinkat("..", &dir, "tree/b/up").unwrap();
        remove_all(&dir, "tree").unwrap();
        remove_all(&dir, "tree").expect("it is gone already");
        assert_eq!(names(&dir).unwrap(), ["kept"]);
    }
}
