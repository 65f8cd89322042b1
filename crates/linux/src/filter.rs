//! Classic filters of sockets (socket(7), `SO_ATTACH_FILTER`; `Documentation/networking/filter.rst`): a program in the kernel that
//! says of each packet how much of it the socket gets. It needs no right.
//!
//! Sockets are named by the numbers of their descriptors: those of the standard library are none for a crate without it. On
//! anything else than a socket a call fails.

use core::mem::size_of;
use core::slice::from_ref;

use rustix::fd::RawFd;

use crate::Errno;
use crate::syscall::{SETSOCKOPT, syscall};

// include/uapi/asm-generic/socket.h
const SOL_SOCKET: usize = 1;
const SO_ATTACH_FILTER: usize = 26;
const SO_DETACH_FILTER: usize = 27;

/// `struct sock_filter`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

impl Instruction {
    /// With how many instructions are jumped over if a comparison holds, and if it does not.
    pub const fn new(code: u16, if_true: u8, if_false: u8, value: u32) -> Self {
        Self { code, if_true, if_false, value }
    }
}

/// `struct sock_fprog`
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Sets the filter, in place of the one before.
///
/// Fails with `E2BIG` or `EINVAL` if the kernel takes no such program.
pub fn attach(socket: RawFd, program: &[Instruction]) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::TOOBIG)?;
    set(socket, SO_ATTACH_FILTER, &Program { length, instructions: program.as_ptr() })
}

/// Removes the filter.
pub fn detach(socket: RawFd) -> Result<(), Errno> {
    set(socket, SO_DETACH_FILTER, &0_u32)
}

fn set<T>(socket: RawFd, option: usize, value: &T) -> Result<(), Errno> {
    let fd = usize::try_from(socket).map_err(|_| Errno::BADF)?;
    let arguments = [fd, SOL_SOCKET, option, from_ref(value).as_ptr().addr(), size_of::<T>()];
    // SAFETY: the kernel reads as many bytes as we say, and of a program as many instructions as it has; all of it outlives the call.
    unsafe { syscall(SETSOCKOPT, arguments) }.map(drop)
}
