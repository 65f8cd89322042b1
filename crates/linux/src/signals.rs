//! Signals to this process, as something to read.
//!
//! A blocked signal stays pending, and a signalfd (signalfd(2)) of it becomes readable; nothing is interrupted, and no
//! handler runs. The mask belongs to the thread, so this is for processes that have one: the monitor and PID 1. It is
//! inherited by what is executed, unless that is [spawned](crate::spawn) with an empty one.

use core::ptr::null_mut;

use gracefully_core::signal::Signal;
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, read, retry_on_intr};

use crate::syscall::{RT_SIGPROCMASK, SIGNALFD4, syscall};

/// Pending signals.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// `struct signalfd_siginfo` (`include/uapi/linux/signalfd.h`); the number is its first field.
const SIGINFO: usize = 128;

/// The kernel's set of signals: a bit for each of 64.
const SET: usize = size_of::<u64>();

const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;
const SFD_NONBLOCK_CLOEXEC: usize = 0o200_4000;

impl SignalFd {
    /// From here on these signals do nothing but make this readable.
    pub fn new(signals: &[Signal]) -> Result<Self, Errno> {
        let set = signals.iter().fold(0, |set, signal| set | signal.mask());
        set_mask(SIG_BLOCK, set)?;
        // SAFETY: the kernel reads the set, which lives until it has answered, and makes a new descriptor.
        let fd = unsafe {
            syscall(SIGNALFD4, [usize::MAX, (&raw const set).addr(), SET, SFD_NONBLOCK_CLOEXEC, 0])
        }?;
        let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
        // SAFETY: it is new, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal; `None`: there is none now.
    pub fn next(&self) -> Option<Signal> {
        let mut info = [0; SIGINFO];
        let read = retry_on_intr(|| read(&self.0, &mut info[..])).ok()?;
        let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
        (read == SIGINFO).then(|| Signal::from_number(number.into()).ok())?
    }
}

impl AsFd for SignalFd {
    /// Readable when a signal is pending.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets a signal that would end this process come to nothing, without a trace. For SIGPIPE: the write that caused it
/// fails as well (pipe(7)).
pub fn block(signal: Signal) -> Result<(), Errno> {
    set_mask(SIG_BLOCK, signal.mask())
}

/// Blocks nothing any more.
pub(crate) fn unblock_all() -> Result<(), Errno> {
    set_mask(SIG_SETMASK, 0)
}

fn set_mask(how: usize, set: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads the set, which lives until it has answered, and writes nothing.
    let done =
        unsafe { syscall(RT_SIGPROCMASK, [how, (&raw const set).addr(), null_mut::<u64>().addr(), SET, 0]) };
    done.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, Signal as Number};
    use rustix::thread::gettid;

    #[test]
    fn a_signal_is_read_instead_of_ending_us() {
        // The mask is this thread's, and so is the signal that is sent to it.
        std::thread::spawn(|| {
            let signals = SignalFd::new(&[Signal::USR1, Signal::TERM]).unwrap();
            assert!(!is_readable(&signals));
            assert_eq!(signals.next(), None);
            send_to_thread(gettid(), Number::TERM);
            assert!(is_readable(&signals));
            assert_eq!(signals.next(), Some(Signal::TERM));
            assert_eq!(signals.next(), None);
            unblock_all().unwrap();
        })
        .join()
        .unwrap();
    }

    fn is_readable(signals: &SignalFd) -> bool {
        poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(&Timespec::default())) == Ok(1)
    }

    /// tgkill(2)
    fn send_to_thread(thread: Pid, signal: Number) {
        const TGKILL: usize = if cfg!(target_arch = "x86_64") { 234 } else { 131 };
        let number = |raw: i32| usize::try_from(raw).unwrap();
        let us = number(rustix::process::getpid().as_raw_nonzero().get());
        let arguments = [us, number(thread.as_raw_nonzero().get()), number(signal.as_raw()), 0, 0];
        // SAFETY: the signal is blocked in this thread.
        unsafe { syscall(TGKILL, arguments) }.unwrap();
    }
}
