//! Signals to this process, as something to wait for.
//!
//! A blocked signal stays pending until somebody takes it; nothing is interrupted, and no handler runs. There are two ways
//! to take it:
//!
//! * A signalfd (signalfd(2)), which can be waited for together with other descriptors: [`SignalFd`].
//! * [`next`], which is `rt_sigtimedwait(2)`: one system call waits, with a limit, and takes. For a process that waits for
//!   nothing else.
//!
//! The mask belongs to the thread, so this is for processes that have one: the monitor and PID 1. It is inherited by what
//! is executed, and so is what is ignored; a handler is not (execve(2)).

use core::ptr::{null, null_mut};
use core::time::Duration;

use gracefully_core::signal::Signal;
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, read, retry_on_intr};

use crate::syscall::{RT_SIGACTION, RT_SIGPROCMASK, RT_SIGTIMEDWAIT, SIGNALFD4, syscall};

/// Pending signals.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// The size of `struct signalfd_siginfo` (`include/uapi/linux/signalfd.h`), of which the number is the first field, and of
/// `siginfo_t` (`include/uapi/asm-generic/siginfo.h`).
const SIGINFO: usize = 128;

/// The kernel's set of signals: a bit for each of 64.
const SET: usize = size_of::<u64>();

const SIG_BLOCK: usize = 0;
const SIG_UNBLOCK: usize = 1;
const SIG_SETMASK: usize = 2;
const SFD_NONBLOCK_CLOEXEC: usize = 0o200_4000;

impl SignalFd {
    /// From here on these signals do nothing but make this readable.
    pub fn new(signals: &[Signal]) -> Result<Self, Errno> {
        let set = set_of(signals);
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

/// A signal that was pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which one.
    pub signal: Signal,
    /// Whoever sent it by kill(2) and the like: its PID, or zero if it is in another PID namespace. `None`: the kernel,
    /// as from a terminal.
    pub sender: Option<u32>,
}

/// Waits for any signal and takes it; of several, the one with the lowest number. `None`: none came within `limit`.
///
/// For a process that blocks all of them. `limit` should not be what it likes but when something is due: without one it
/// sleeps until a signal comes.
pub fn next(limit: Option<Duration>) -> Option<Arrival> {
    // 32 and 33 belong to the threads library; sent by somebody else they mean nothing.
    let wanted = !(0b11_u64 << 31);
    let limit = limit.map(|limit| [limit.as_secs(), limit.subsec_nanos().into()]);
    let limit = limit.as_ref().map_or(null(), |limit| limit.as_ptr());
    let mut info = Info([0; SIGINFO]);
    // SAFETY: the kernel reads the set and the time, two numbers of 64 bits, and writes as much as there is room for. All of
    // it lives until it has answered.
    let number = unsafe {
        syscall(
            RT_SIGTIMEDWAIT,
            [(&raw const wanted).addr(), (&raw mut info).expose_provenance(), limit.addr(), SET, 0],
        )
    };
    let signal = Signal::from_number(number.ok()?.try_into().ok()?).ok()?;
    Some(Arrival { signal, sender: (info.int(SI_CODE) <= SI_USER).then(|| info.int(SI_PID).cast_unsigned()) })
}

/// `siginfo_t`, as words of an int.
#[repr(align(8))]
struct Info([u8; SIGINFO]);

impl Info {
    fn int(&self, at: usize) -> i32 {
        self.0[at..].first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    }
}

/// Where the fields are on machines of 64 bits.
const SI_CODE: usize = 8;
const SI_PID: usize = 16;

/// Codes up to this one are those of signals that a process has sent (sigaction(2)).
const SI_USER: i32 = 0;

/// Which signals a process had blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u64);

impl Mask {
    /// Blocks these and no others again.
    pub fn restore(self) -> Result<(), Errno> {
        set_mask(SIG_SETMASK, self.0)
    }
}

/// Blocks everything that can be blocked, and says what was blocked before.
pub fn block_all() -> Result<Mask, Errno> {
    let (all, mut before) = (u64::MAX, 0_u64);
    // SAFETY: the kernel reads one set and writes the other; both live until it has answered.
    let done = unsafe {
        syscall(
            RT_SIGPROCMASK,
            [SIG_BLOCK, (&raw const all).addr(), (&raw mut before).expose_provenance(), SET, 0],
        )
    };
    done.map(|_| Mask(before))
}

/// Is the signal ignored, as a parent may have left it?
pub fn is_ignored(signal: Signal) -> Result<bool, Errno> {
    let mut action = Action::default();
    let number = usize::from(signal.number());
    // SAFETY: the kernel writes one structure, of the size that it knows.
    unsafe { syscall(RT_SIGACTION, [number, 0, (&raw mut action).expose_provenance(), SET, 0]) }?;
    Ok(action.handler == SIG_IGN)
}

/// Ignores the signal from now on, or lets it do again what it does by default.
pub fn set_ignored(signal: Signal, ignored: bool) -> Result<(), Errno> {
    let action = Action { handler: if ignored { SIG_IGN } else { SIG_DFL }, ..Action::default() };
    let number = usize::from(signal.number());
    // SAFETY: the kernel reads one structure; neither of the two is a handler that would be called.
    unsafe { syscall(RT_SIGACTION, [number, (&raw const action).addr(), 0, SET, 0]) }.map(drop)
}

/// The kernel's `struct sigaction` (`include/linux/signal_types.h`), which is not the C library's.
#[derive(Debug, Default)]
#[repr(C)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

/// Lets a signal that would end this process come to nothing, without a trace. For SIGPIPE: the write that caused it
/// fails as well (pipe(7)).
pub fn block(signal: Signal) -> Result<(), Errno> {
    set_mask(SIG_BLOCK, signal.mask())
}

/// Lets these signals through again, in this thread.
pub fn unblock(signals: &[Signal]) -> Result<(), Errno> {
    set_mask(SIG_UNBLOCK, set_of(signals))
}

/// Blocks nothing any more.
pub(crate) fn unblock_all() -> Result<(), Errno> {
    set_mask(SIG_SETMASK, 0)
}

fn set_of(signals: &[Signal]) -> u64 {
    signals.iter().fold(0, |set, signal| set | signal.mask())
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

    #[test]
    fn the_next_signal_and_who_sent_it() {
        std::thread::spawn(|| {
            let before = block_all().unwrap();
            assert_eq!(next(Some(Duration::ZERO)), None);
            send_to_thread(gettid(), Number::TERM);
            send_to_thread(gettid(), Number::HUP);
            let sender = Some(std::process::id());
            assert_eq!(next(None), Some(Arrival { signal: Signal::HUP, sender }), "the lowest number first");
            assert_eq!(next(None), Some(Arrival { signal: Signal::TERM, sender }));
            assert_eq!(next(Some(Duration::from_millis(1))), None);
            before.restore().unwrap();
            assert_eq!(block_all().unwrap(), before);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn what_is_ignored() {
        let winch = Signal::from_number(28).unwrap();
        for ignored in [true, false] {
            set_ignored(winch, ignored).unwrap();
            assert_eq!(is_ignored(winch), Ok(ignored));
        }
        assert!(set_ignored(Signal::KILL, true).is_err());
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
