//! Which processes have a pipe or a socket open.
//!
//! The processes of a container whose monitor died are no longer anybody's children, but they still hold the write
//! end of the pipe into which they log. The links in `/proc/PID/fd` name the object behind each open file, such as
//! `pipe:[12345]` with the inode of the pipe, and `/proc/PID/fdinfo` says how it was opened (`proc_pid_fd(5)`,
//! `proc_pid_fdinfo(5)`). Both need the right to trace the process; others are passed over.

use alloc::format;
use alloc::vec::Vec;

use rustix::io::Result;

use crate::procfs::{ProcessDir, SMALL, number, pids, value};

/// `O_ACCMODE` and `O_RDONLY` of `include/uapi/asm-generic/fcntl.h`.
const ACCESS_MODE: u32 = 0o3;
const READ_ONLY: u32 = 0o0;

/// The PIDs of all processes that can write into the pipe with this inode (`st_ino` of fstat(2) on either end), in
/// order.
///
/// Inodes are given away again once a pipe is gone, so an old number must be confirmed by another fact.
pub fn pipe_writers(inode: u64) -> Vec<u32> {
    let writes = |pid: &u32| ProcessDir::open(*pid).is_ok_and(|dir| has_write_end(&dir, inode));
    pids().unwrap_or_default().into_iter().filter(writes).collect()
}

/// The sockets that a process has open: their file descriptors there and their inodes. A socket may be open under several
/// numbers.
///
/// Fails if we may not trace the process, or if it is gone.
pub fn sockets(pid: u32) -> Result<Vec<(u32, u64)>> {
    let dir = ProcessDir::open(pid)?;
    let sockets = open_objects(&dir)?.filter_map(|(fd, object)| match object {
        Object::Socket(inode) => Some((fd, inode)),
        Object::Pipe(_) => None,
    });
    Ok(sockets.collect())
}

/// Something without a name in the file system that a process can have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Pipe(u64),
    Socket(u64),
}

impl Object {
    pub(crate) fn parse(link: &[u8]) -> Option<Self> {
        let (kind, inode): (fn(u64) -> Self, _) = match link {
            [b'p', b'i', b'p', b'e', b':', b'[', inode @ .., b']'] => (Self::Pipe, inode),
            [b's', b'o', b'c', b'k', b'e', b't', b':', b'[', inode @ .., b']'] => (Self::Socket, inode),
            _ => return None,
        };
        number(inode).map(kind)
    }
}

/// The open pipes and sockets of a process with their file descriptors.
pub(crate) fn open_objects(dir: &ProcessDir) -> Result<impl Iterator<Item = (u32, Object)>> {
    let fds = dir.numbers("fd")?;
    Ok(fds.into_iter().filter_map(|fd| {
        let link = dir.link(&format!("fd/{fd}")).ok()?;
        Some((fd, Object::parse(&link)?))
    }))
}

fn has_write_end(dir: &ProcessDir, inode: u64) -> bool {
    open_objects(dir).is_ok_and(|mut objects| {
        objects.any(|(fd, object)| object == Object::Pipe(inode) && is_writable(dir, fd))
    })
}

fn is_writable(dir: &ProcessDir, fd: u32) -> bool {
    let info = dir.read(&format!("fdinfo/{fd}"), SMALL).unwrap_or_default();
    // An octal number.
    let flags = value(&info, "flags:").and_then(|text| str::from_utf8(text).ok());
    let flags = flags.and_then(|text| u32::from_str_radix(text, 8).ok());
    flags.is_some_and(|flags| flags & ACCESS_MODE != READ_ONLY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Program;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    #[test]
    fn links_and_what_looks_like_them() {
        assert_eq!(Object::parse(b"pipe:[12345]"), Some(Object::Pipe(12345)));
        assert_eq!(Object::parse(b"socket:[1]"), Some(Object::Socket(1)));
        for other in [
            &b"/tmp/pipe:[1]"[..],
            b"pipe:[]",
            b"pipe:[-1]",
            b"pipe:[1",
            b"anon_inode:[eventfd]",
            b"",
            b"\xff",
        ] {
            assert_eq!(Object::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn only_those_with_the_write_end_are_found() {
        let (reader, writer) = std::io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let inode = std::fs::metadata(path).unwrap().ino();

        // Standard error may be any file, also one that can only be read.
        let with = |end: std::os::fd::OwnedFd| Program::spawn(Command::new("sleep").arg("100").stderr(end));
        let holds_write_end = with(writer.try_clone().unwrap().into());
        let holds_read_end = with(reader.try_clone().unwrap().into());
        let found = pipe_writers(inode);
        assert!(found.contains(&holds_write_end.pid()), "{found:?}");
        assert!(found.contains(&std::process::id()), "we hold the write end too");
        assert!(!found.contains(&holds_read_end.pid()));
        drop(writer);
        assert!(!pipe_writers(inode).contains(&std::process::id()));
    }
}
