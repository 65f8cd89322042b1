//! Signals that a process collects instead of handling.
//!
//! sigwait(3), sigtimedwait(2) and signalfd(2) deliver signals that are blocked. Whether a signal for the process
//! is kept for them is decided by its main thread (`sig_ignored` in kernel/signal.c, called with the group leader):
//! if that one blocks the signal it stays pending, even for PID 1 of a namespace, else its action is taken.
//! So the main thread's blocked mask is the answer, with one exception: while a thread sleeps in `rt_sigtimedwait(2)`,
//! the kernel takes the awaited signals out of its blocked mask (`do_sigtimedwait`) and keeps the real mask where
//! /proc does not show it. tini and Python's `signal.sigwait` so show an empty `SigBlk` for nearly all of the time.
//! Their set is the first argument of the system call: an address (`/proc/PID/syscall`) in the process's own memory
//! (`/proc/PID/mem`). Both need the right to trace the process: the same user, or `CAP_SYS_PTRACE`.

use crate::process::status::Status;
use crate::procfs::{ProcessDir, SMALL, hexadecimal, number, words};

/// The number of `rt_sigtimedwait(2)` (`arch/x86/entry/syscalls/syscall_64.tbl`; `include/uapi/asm-generic/unistd.h`).
const RT_SIGTIMEDWAIT: i64 = if cfg!(target_arch = "x86_64") { 128 } else { 137 };

/// What is known about the signals that a process collects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// These and no others.
    Exactly(u64),
    /// These; there may be others that we may not see.
    AtLeast(u64),
}

impl Awaited {
    /// `before` was read first; it is read once more because the process may have begun or ended a wait between the
    /// looks: in one of the three it must show.
    pub(super) fn read(dir: &ProcessDir, before: &Status) -> Self {
        let waits = waits(dir);
        let after = dir.read("status", SMALL).ok().and_then(|text| Status::parse(&text));
        let blocked = before.blocked | after.map_or(0, |status| status.blocked);
        match waits {
            Waits::No => Self::Exactly(blocked),
            Waits::For(set) => Self::Exactly(blocked | set),
            Waits::Hidden => Self::AtLeast(blocked),
        }
    }
}

/// Whether the main thread sleeps in `rt_sigtimedwait(2)`.
enum Waits {
    No,
    /// For this set.
    For(u64),
    /// The kernel does not tell us.
    Hidden,
}

fn waits(dir: &ProcessDir) -> Waits {
    match dir.read("syscall", SMALL) {
        Ok(text) => match Call::parse(&text) {
            Some(call) if call.number == RT_SIGTIMEDWAIT || channel_waits(dir) == Some(true) => {
                match dir.read_at("mem", call.first_argument) {
                    Ok(Some(set)) => Waits::For(u64::from_ne_bytes(set)),
                    _ => Waits::Hidden,
                }
            }
            Some(_) | None => Waits::No,
        },
        // No right to trace it. Some kernels show at least the function that it sleeps in.
        Err(_) => match channel_waits(dir) {
            Some(false) => Waits::No,
            Some(true) | None => Waits::Hidden,
        },
    }
}

/// Does it sleep in `do_sigtimedwait`? `None` if the kernel does not tell. This also finds 32-bit programs, whose
/// system calls have other numbers.
fn channel_waits(dir: &ProcessDir) -> Option<bool> {
    let channel = super::wait_channel(dir)?;
    Some(channel.contains("sigtimedwait"))
}

/// The system call in which a thread sleeps.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    number: i64,
    first_argument: u64,
}

impl Call {
    /// `128 0x7ffc91f64790 …`; `None` for `running` and for `-1 SP PC`, a sleep outside of system calls.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = words(text);
        let number = number(fields.next()?).filter(|&number: &i64| number >= 0)?;
        Some(Self { number, first_argument: hexadecimal(fields.next()?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_call_of_a_waiting_tini() {
        let text = b"128 0x7ffc91f64790 0x7ffc91f646c0 0x55f98fc96020 0x8 0x7 0x55f997f5f2a0 0x7ffc91f64690 0x7f12\n";
        assert_eq!(Call::parse(text), Some(Call { number: 128, first_argument: 0x7ffc_91f6_4790 }));
    }

    #[test]
    fn no_system_call() {
        for text in
            [&b"running\n"[..], b"-1 0x7ffc 0x7f12\n", b"-1 0x0 0x0\n", b"", b"128", b"128 x", b"\xff 0x1"]
        {
            assert_eq!(Call::parse(text), None, "{text:?}");
        }
    }
}
