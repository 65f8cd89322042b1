//! Bounded reading of /proc.
//!
//! A process's files are opened relative to its directory, which is opened once: the directory belongs to one
//! process, not to a number. When that process is gone, everything below it fails with ESRCH or ENOENT, also when
//! the PID has been given to another process meanwhile.

use alloc::format;
use alloc::vec::Vec;

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::{Result, pread, read, retry_on_intr};

/// Of the small files nothing real is longer.
pub(crate) const SMALL: usize = 16 * 1024;

/// How many entries of a directory are read at most.
const ENTRIES: usize = 100_000;

/// The directory of one process, `/proc/PID`, or of one of its threads.
#[derive(Debug)]
pub(crate) struct ProcessDir(OwnedFd);

impl ProcessDir {
    pub(crate) fn open(pid: u32) -> Result<Self> {
        open_dir(CWD, &format!("/proc/{pid}")).map(Self)
    }

    /// The beginning of a file, `limit` bytes at most.
    pub(crate) fn read(&self, file: &str, limit: usize) -> Result<Vec<u8>> {
        read_file(&self.0, file, limit)
    }

    /// `N` bytes of a file from `offset`; `None` if there are fewer.
    pub(crate) fn read_at<const N: usize>(&self, file: &str, offset: u64) -> Result<Option<[u8; N]>> {
        let fd = open_file(&self.0, file)?;
        let mut bytes = [0; N];
        let n = retry_on_intr(|| pread(&fd, &mut bytes[..], offset))?;
        Ok((n == N).then_some(bytes))
    }

    /// Where a symbolic link points to, as the kernel writes it.
    pub(crate) fn link(&self, file: &str) -> Result<Vec<u8>> {
        Ok(readlinkat(&self.0, file, Vec::new())?.into_bytes())
    }

    /// The numbers that are names in a directory, such as `task` and `fd`.
    pub(crate) fn numbers(&self, dir: &str) -> Result<Vec<u32>> {
        numbers(open_dir(&self.0, dir)?)
    }

    /// The user that the kernel shows as the owner: the effective one, or root if the process is protected.
    pub(crate) fn owner(&self) -> Result<u32> {
        fstat(&self.0).map(|stat| stat.st_uid)
    }
}

/// All PIDs that /proc shows us.
pub(crate) fn pids() -> Result<Vec<u32>> {
    numbers(open_dir(CWD, "/proc")?)
}

/// The beginning of a file, `limit` bytes at most.
pub(crate) fn read_file(dir: impl AsFd, path: &str, limit: usize) -> Result<Vec<u8>> {
    let fd = open_file(dir, path)?;
    let mut bytes = Vec::new();
    while bytes.len() < limit {
        bytes.reserve(4096.min(limit - bytes.len()));
        if retry_on_intr(|| read(&fd, spare_capacity(&mut bytes)))? == 0 {
            break;
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}

/// Lines of fields, as most of /proc is written.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n')
}

/// The words of a line.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A decimal number.
pub(crate) fn number<T: core::str::FromStr>(word: &[u8]) -> Option<T> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// A hexadecimal number, with or without `0x`.
pub(crate) fn hexadecimal(word: &[u8]) -> Option<u64> {
    let digits = word.strip_prefix(b"0x").unwrap_or(word);
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// What follows `key` on the line that begins with it.
pub(crate) fn value<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    lines(text).find_map(|line| line.strip_prefix(key.as_bytes())).map(<[u8]>::trim_ascii)
}

fn open_file(dir: impl AsFd, path: &str) -> Result<OwnedFd> {
    openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn open_dir(dir: impl AsFd, path: &str) -> Result<OwnedFd> {
    openat(dir, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn numbers(dir: OwnedFd) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in Dir::new(dir)?.take(ENTRIES) {
        found.extend(number::<u32>(entry?.file_name().to_bytes()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Program;
    use rustix::io::Errno;

    #[test]
    fn reading_is_bounded() {
        let sleep = Program::start("sleep", &["1000"]);
        let dir = ProcessDir::open(sleep.pid()).unwrap();
        assert_eq!(dir.read("cmdline", SMALL).unwrap(), b"sleep\x001000\0");
        assert_eq!(dir.read("cmdline", 5).unwrap(), b"sleep");
        assert_eq!(dir.read("cmdline", 0).unwrap(), b"");
    }

    #[test]
    fn the_directory_of_a_process_that_is_gone_says_so() {
        let mut sleep = Program::start("sleep", &["1000"]);
        let dir = ProcessDir::open(sleep.pid()).unwrap();
        sleep.end();
        let error = dir.read("stat", SMALL).unwrap_err();
        assert!(matches!(error, Errno::SRCH | Errno::NOENT), "{error}");
        assert_eq!(ProcessDir::open(sleep.pid()).unwrap_err(), Errno::NOENT);
    }

    #[test]
    fn our_own_pid_is_among_all() {
        assert!(pids().unwrap().contains(&std::process::id()));
    }

    #[test]
    fn numbers_are_whole_words() {
        assert_eq!(number::<u32>(b"42"), Some(42));
        for bad in [&b""[..], b"-1", b"4 2", b"4294967296", b"\xff", b"self"] {
            assert_eq!(number::<u32>(bad), None, "{bad:?}");
        }
        assert_eq!(hexadecimal(b"0x7ffc91f64790"), Some(0x7ffc_91f6_4790));
        assert_eq!(hexadecimal(b"0000000000004002"), Some(0x4002));
        assert_eq!(hexadecimal(b"0x"), None);
        assert_eq!(hexadecimal(b"11112222333344445"), None);
    }

    #[test]
    fn a_value_is_what_follows_its_key() {
        assert_eq!(value(b"a:\t1\nb:\t 2 3 \n", "b:"), Some(&b"2 3"[..]));
        assert_eq!(value(b"ab:\t1\n", "b:"), None);
        assert_eq!(value(b"", "b:"), None);
    }
}
