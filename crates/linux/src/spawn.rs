//! Children of this process, and executing programs in them.
//!
//! A child is made by clone(2) without any flag, which is fork(2). It has a copy of our memory and one thread; this is
//! for callers that have one thread, too, so there is nobody who could have been holding a lock at that moment.
//!
//! * [`child`]: a child that becomes whatever it is told to, and says why if it cannot.
//! * [`spawn`]: one that becomes a program which is an open file, not a path: execveat(2) with an empty path executes the
//!   open file (also one opened with `O_PATH`), so it may be renamed, replaced or removed meanwhile. It gets an empty
//!   environment, an empty signal mask, three descriptors and our working directory.
//! * [`next_change`]: what has become of the children.
//!
//! Everything else that we have open is close-on-exec.

use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::marker::PhantomData;
use core::ptr::null;

use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, WaitOptions, WaitStatus, getpid, getppid, kill_process, kill_process_group,
    set_parent_process_death_signal, setpgid, wait, waitpid,
};

use crate::pidfd::number_of;
use crate::process::exit_status;
use crate::signals::unblock_all;
use crate::standard;
use crate::syscall::{CLONE, EXECVE, EXECVEAT, GETPGID, GETSID, KILL, exit, syscall};

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

/// A child of this process. The number of a process is its own until its parent has waited for it, and nobody but
/// [`next_change`] waits here: so a signal by number cannot reach anybody else, as long as the caller forgets the child when
/// it is told of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child(Pid);

impl Child {
    /// Its PID.
    pub fn pid(self) -> u32 {
        self.0.as_raw_nonzero().get().cast_unsigned()
    }

    /// Sends it a signal. Fails with `EPERM` if it has become another user.
    #[expect(clippy::disallowed_methods, reason = "see the type: the number is its own")]
    pub fn send(self, signal: Signal) -> Result<(), Errno> {
        kill_process(self.0, number_of(signal))
    }

    /// Sends a signal to the process group of which it is the leader.
    pub fn send_to_group(self, signal: Signal) -> Result<(), Errno> {
        kill_process_group(self.0, number_of(signal))
    }

    /// Makes it the leader of a process group of its own. To be called by the parent and by the child, because either may be
    /// the first (setpgid(2)); it fails with `EACCES` when the child has become a program already.
    pub fn lead_group(self) -> Result<(), Errno> {
        setpgid(Some(self.0), Some(self.0))
    }

    /// Waits for the end of this child, and no other.
    pub fn end(self) {
        let _ = retry_on_intr(|| waitpid(Some(self.0), WaitOptions::empty()));
    }
}

/// Sends a signal to everybody in our PID namespace but ourselves: kill(2) with -1. For PID 1 alone, and where there is no
/// /proc to tell who there is; fails with `EPERM` for everybody else, because to them it would be the whole machine.
pub fn send_to_everybody(signal: Signal) -> Result<(), Errno> {
    if !getpid().is_init() {
        return Err(Errno::PERM);
    }
    // SAFETY: it does nothing to this process. -1 as the kernel's `int`.
    unsafe { syscall(KILL, [(-1_isize).cast_unsigned(), signal.number().into(), 0, 0, 0]) }.map(drop)
}

/// Stops this process as Ctrl-Z does, until somebody continues it. PID 1 cannot be stopped.
pub fn stop_ourselves() -> Result<(), Errno> {
    Child(getpid()).send(Signal::STOP)
}

/// Our process group; zero if its leader is in another PID namespace, where others would know its number.
pub fn our_group() -> u32 {
    // SAFETY: it only answers.
    unsafe { syscall(GETPGID, [0; 5]) }.ok().and_then(|group| u32::try_from(group).ok()).unwrap_or(0)
}

/// Has the kernel send us this signal when our parent ends, and sends it at once if it has ended already (prctl(2),
/// `PR_SET_PDEATHSIG`): we would be waiting for the end of whoever has adopted us.
///
/// That somebody has adopted us is seen by its session. A child is in the session of its parent until it begins one of its
/// own, and then it is the leader.
pub fn signal_on_parents_death(signal: Signal) -> Result<(), Errno> {
    set_parent_process_death_signal(Some(number_of(signal)))?;
    // Zero: it is in another PID namespace, which may be so from the beginning.
    let parent = getppid().map_or(0, |parent| parent.as_raw_nonzero().get().cast_unsigned());
    let us = getpid();
    let ours = session(0)?;
    let leader = ours == us.as_raw_nonzero().get().cast_unsigned();
    if parent != 0 && !leader && session(parent)? != ours {
        return Child(us).send(signal);
    }
    Ok(())
}

/// The session of a process, or of ours (0); zero if its leader is in another PID namespace.
fn session(pid: u32) -> Result<u32, Errno> {
    // SAFETY: it only answers.
    let session = unsafe { syscall(GETSID, [pid as usize, 0, 0, 0, 0]) }?;
    u32::try_from(session).map_err(|_| Errno::SRCH)
}

/// Why there is no program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no child.
    NoChild(Errno),
    /// The child could not become the program. It has ended.
    NoProgram(Errno),
}

/// Makes a child, in which `become_program` is called: it returns only if it fails. The child is there, and executes its
/// program, when this returns.
pub fn child(become_program: impl FnOnce() -> Errno) -> Result<Child, Failure> {
    // Closed by the execution. If that fails, the child writes why.
    let (failed, fails) = pipe_with(PipeFlags::CLOEXEC).map_err(Failure::NoChild)?;
    // SAFETY: the child has a copy of our memory and runs on a copy of our stack; it executes or ends below.
    let child = unsafe { syscall(CLONE, [SIGCHLD, 0, 0, 0, 0]) }.map_err(Failure::NoChild)?;
    if child == 0 {
        let errno = become_program();
        let _ = write(&fails, &errno.raw_os_error().to_ne_bytes());
        exit(127);
    }
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(Failure::NoChild(Errno::SRCH))?;
    drop(fails);
    let mut why = [0; 4];
    match retry_on_intr(|| read(&failed, &mut why)) {
        Ok(4) => {
            Child(pid).end();
            Err(Failure::NoProgram(Errno::from_raw_os_error(i32::from_ne_bytes(why))))
        }
        _ => Ok(Child(pid)),
    }
}

/// Makes a child that does something and ends, with exit code 0, or with the number of the error. For what may take long: the
/// child may not change what we have in memory, only what is outside.
pub fn helper(work: impl FnOnce() -> Result<(), Errno>) -> Result<Child, Errno> {
    // SAFETY: as in `child`.
    let child = unsafe { syscall(CLONE, [SIGCHLD, 0, 0, 0, 0]) }?;
    if child == 0 {
        let code = work().err().map_or(0, Errno::raw_os_error);
        exit(usize::try_from(code).unwrap_or(1));
    }
    i32::try_from(child).ok().and_then(Pid::from_raw).map(Child).ok_or(Errno::SRCH)
}

/// Executes `program` with these arguments, the first of which is its name, and returns the PID of the child. It is
/// ours until we have waited for it.
///
/// Fails with the kernel's reason if there is no child, or if it cannot execute the program.
pub fn spawn(program: impl AsFd, arguments: &[&CStr], streams: Streams<'_>) -> Result<u32, Errno> {
    let arguments = Strings::new(arguments.iter().copied());
    match child(|| become_program(program.as_fd(), &arguments, streams)) {
        Ok(child) => Ok(child.pid()),
        Err(Failure::NoChild(errno) | Failure::NoProgram(errno)) => Err(errno),
    }
}

/// Strings as the kernel wants them: arguments, an environment.
#[derive(Debug)]
pub struct Strings<'a> {
    /// With a null pointer at the end.
    addresses: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> Strings<'a> {
    /// These.
    pub fn new(strings: impl Iterator<Item = &'a CStr>) -> Self {
        Self { addresses: strings.map(CStr::as_ptr).chain([null()]).collect(), strings: PhantomData }
    }
}

/// Becomes the program at this path (execve(2)). Returns only if that fails.
pub fn execute(path: &CStr, arguments: &Strings<'_>, environment: &Strings<'_>) -> Errno {
    // SAFETY: both lists end with a null pointer, their strings with a zero byte, and all of it lives here. If it works
    // nothing of this process is left.
    let executed = unsafe {
        syscall(
            EXECVE,
            [
                path.as_ptr().addr(),
                arguments.addresses.as_ptr().addr(),
                environment.addresses.as_ptr().addr(),
                0,
                0,
            ],
        )
    };
    executed.err().unwrap_or(Errno::NOEXEC)
}

/// What has become of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This one has ended, and is forgotten by the kernel.
    Ended(u32, ExitStatus),
    /// This one was stopped by a signal.
    Stopped(u32, Signal),
    /// Nothing new; some live.
    Nothing,
    /// There are no children.
    NoChildren,
}

/// The next thing that has become of a child, without waiting for it (`waitpid(2)`, `WNOHANG`, `WUNTRACED`).
pub fn next_change() -> Change {
    loop {
        match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((pid, status))) => {
                let pid = pid.as_raw_nonzero().get().cast_unsigned();
                if let Some(change) = change(pid, status) {
                    return change;
                }
            }
            Ok(None) => return Change::Nothing,
            Err(Errno::INTR) => {}
            Err(_) => return Change::NoChildren,
        }
    }
}

fn change(pid: u32, status: WaitStatus) -> Option<Change> {
    if let Some(signal) = status.stopping_signal() {
        return Some(Change::Stopped(pid, Signal::from_number(signal.into()).ok()?));
    }
    (status.exited() || status.signaled()).then(|| Change::Ended(pid, exit_status(status.as_raw())))
}

/// In the child. Returns only if that fails.
fn become_program(program: BorrowedFd<'_>, arguments: &Strings<'_>, streams: Streams<'_>) -> Errno {
    let ready = standard::set_input(streams.input)
        .and_then(|()| standard::set_output(streams.output))
        .and_then(|()| streams.error.map_or(Ok(()), standard::set_error))
        .and_then(|()| unblock_all());
    if let Err(errno) = ready {
        return errno;
    }
    let environment = Strings::new([].into_iter());
    let fd = usize::try_from(rustix::fd::AsRawFd::as_raw_fd(&program)).unwrap_or(usize::MAX);
    // SAFETY: as in `execute`.
    let executed = unsafe {
        syscall(
            EXECVEAT,
            [
                fd,
                c"".as_ptr().addr(),
                arguments.addresses.as_ptr().addr(),
                environment.addresses.as_ptr().addr(),
                AT_EMPTY_PATH,
            ],
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
