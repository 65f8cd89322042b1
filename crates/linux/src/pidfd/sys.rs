//! The two calls around pidfds that rustix offers only as unsafe ones.

use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;
use rustix::fd::AsFd;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use crate::process::exit_status as decode;

/// The signal as rustix wants it.
pub(crate) fn signal(signal: Signal) -> rustix::process::Signal {
    // SAFETY: a `Signal` is never zero, 32 or 33 (those that the threads library reserves), nor above 64, so the
    // kernel knows the number. Signals from 34 on are meant for programs; none of them is used by our runtime.
    unsafe { rustix::process::Signal::from_raw_unchecked(i32::from(signal.number())) }
}

/// How the process ended, by the kernel's own record. `None` if the kernel keeps none (before Linux 6.15) or the
/// process is not reaped yet.
pub(super) fn exit_status(pidfd: impl AsFd) -> Option<ExitStatus> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: PIDFD_GET_INFO reads and writes as many bytes as its opcode says, which is computed from the size of
    // the structure; all its fields are integers, for which every value is valid. A kernel that does not know the
    // call, and any other kind of file, answers with an error.
    unsafe { ioctl(pidfd, Updater::<PIDFD_GET_INFO, PidfdInfo>::new(&mut info)) }.ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| decode(info.exit_code))
}

/// `struct pidfd_info` in its first published size of 64 bytes (`include/uapi/linux/pidfd.h`).
#[derive(Default)]
#[repr(C)]
struct PidfdInfo {
    /// What is asked for, and what was answered.
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid, and eight users and groups.
    ids: [u32; 11],
    /// As wait(2) delivers it.
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
const PIDFD_GET_INFO: Opcode = opcode::read_write::<PidfdInfo>(0xff, 11);
const _: () = assert!(size_of::<PidfdInfo>() == 64);
