//! Executing a program that is open, in a child of this process.
//!
//! The program is a file, not a path: execveat(2) with an empty path executes the open file (also one opened with
//! `O_PATH`), so it may be renamed, replaced or removed meanwhile. The child is made by clone(2) without any flag,
//! which is fork(2). It has a copy of our memory and one thread; this is for callers that have one thread, too, so
//! there is nobody who could have been holding a lock at that moment.
//!
//! The child gets an empty environment, an empty signal mask, three descriptors and our working directory. Everything
//! else that we have open is close-on-exec.

use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::ptr::null;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::signals::unblock_all;
use crate::standard;
use crate::syscall::{CLONE, EXECVEAT, exit, syscall};

const SIGCHLD: usize = 17;
const AT_EMPTY_PATH: usize = 0x1000;

/// What a child has as its standard input, output and error. None of the three may be a standard descriptor of ours.
#[derive(Clone, Copy, Debug)]
pub struct Streams<'a> {
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output.
    pub output: BorrowedFd<'a>,
    /// Standard error; `None`: ours.
    pub error: Option<BorrowedFd<'a>>,
}

/// Executes `program` with these arguments, the first of which is its name, and returns the PID of the child. It is
/// ours until we have waited for it.
///
/// Fails with the kernel's reason if there is no child, or if it cannot execute the program.
pub fn spawn(program: impl AsFd, arguments: &[&CStr], streams: Streams<'_>) -> Result<u32, Errno> {
    let argv: Vec<*const c_char> =
        arguments.iter().map(|argument| argument.as_ptr()).chain([null()]).collect();
    // Closed by the execution. If that fails, the child writes why.
    let (failed, fails) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the child has a copy of our memory and runs on a copy of our stack; it executes or ends below.
    let child = unsafe { syscall(CLONE, [SIGCHLD, 0, 0, 0, 0]) }?;
    if child == 0 {
        let errno = become_program(program.as_fd(), &argv, streams);
        let _ = write(&fails, &errno.raw_os_error().to_ne_bytes());
        exit(127);
    }
    drop(fails);
    let mut why = [0; 4];
    match retry_on_intr(|| read(&failed, &mut why)) {
        Ok(4) => Err(Errno::from_raw_os_error(i32::from_ne_bytes(why))),
        _ => u32::try_from(child).map_err(|_| Errno::SRCH),
    }
}

/// In the child. Returns only if that fails.
fn become_program(program: BorrowedFd<'_>, argv: &[*const c_char], streams: Streams<'_>) -> Errno {
    let ready = standard::set_input(streams.input)
        .and_then(|()| standard::set_output(streams.output))
        .and_then(|()| streams.error.map_or(Ok(()), standard::set_error))
        .and_then(|()| unblock_all());
    if let Err(errno) = ready {
        return errno;
    }
    let environment = [null::<c_char>()];
    let fd = usize::try_from(rustix::fd::AsRawFd::as_raw_fd(&program)).unwrap_or(usize::MAX);
    // SAFETY: both lists end with a null pointer, their strings with a zero byte, and all of it lives here. If it works
    // nothing of this process is left.
    let executed = unsafe {
        syscall(
            EXECVEAT,
            [fd, c"".as_ptr().addr(), argv.as_ptr().addr(), environment.as_ptr().addr(), AT_EMPTY_PATH],
        )
    };
    executed.err().unwrap_or(Errno::NOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PidFd;
    use rustix::buffer::spare_capacity;
    use rustix::fs::{Mode, OFlags, open};
    use rustix::process::{Pid, WaitOptions, waitpid};
    use std::ffi::CString;
    use std::string::String;

    fn spawned(program: &str, arguments: &[&str]) -> Result<(String, Option<i32>), Errno> {
        let program = open(program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let words: Vec<CString> = arguments.iter().map(|word| CString::new(*word).unwrap()).collect();
        let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let streams = Streams { input: null.as_fd(), output: theirs.as_fd(), error: Some(theirs.as_fd()) };
        let child = spawn(program, &words, streams)?;
        drop(theirs);
        let mut said = Vec::with_capacity(4096);
        while read(&ours, spare_capacity(&mut said)).unwrap() > 0 {}
        let pid = Pid::from_raw(child.try_into().unwrap());
        let (_, status) = waitpid(pid, WaitOptions::empty()).unwrap().unwrap();
        assert!(PidFd::open(child).is_err(), "it is reaped");
        Ok((String::from_utf8(said).unwrap(), status.exit_status()))
    }

    #[test]
    fn it_gets_its_arguments_its_streams_and_no_environment() {
        let script = "echo $# $1; echo err >&2; read x || echo eof; exit 7";
        let (said, code) = spawned("/bin/sh", &["sh", "-c", script, "sh", "a b"]).unwrap();
        assert_eq!((said.as_str(), code), ("1 a b\nerr\neof\n", Some(7)));
        let (said, _) = spawned("/usr/bin/env", &["env"]).unwrap();
        assert_eq!(said, "");
    }

    #[test]
    fn why_it_is_not_executed() {
        assert_eq!(spawned("/etc/passwd", &["x"]), Err(Errno::ACCESS));
    }
}
