//! What the Linux kernel says about processes, and what a process does about its own. The crate needs no privilege;
//! what the caller may not see is left out, and said to be unknown where that matters.
//!
//! * [`pidfd`]: one process, held so that a signal can never reach another one with the same PID.
//! * [`process`]: what a process is doing and which signals it reacts to.
//! * [`family`]: a process with everything that descends from it.
//! * [`connections`]: how many TCP connections each of them has.
//! * [`holders`]: which processes have a pipe open.
//! * [`filter`]: what a socket of our own gets.
//! * [`peer`]: who is at the other end of a unix socket.
//! * [`listener`]: a listening socket of our own that takes no new connections for a while.
//! * [`signals`], [`spawn`], [`standard`]: signals that are read, children, inherited descriptors, for processes of one
//!   thread and without a C library.
//! * [`writeback`]: data that is on its way to the disk before anybody waits for it.
//! * [`errno`]: what errors are called.
//!
//! Everything but the pidfd comes from /proc (proc(5)) and is a snapshot: a process may be gone when its name is
//! printed. So the functions return `None`, or leave it out, instead of an error when it vanishes on the way.
//!
//! What a process says about itself (name, command line) may be anything, including escape sequences for the
//! terminal: it is cut to a bounded length and made UTF-8, but not otherwise changed. Whoever prints it must quote it.
//!
//! `no_std` with `alloc`, because `gracefully-init` uses it.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod connection;
pub mod connections;
pub mod errno;
pub mod family;
#[expect(unsafe_code, reason = "a filter is read by the kernel from an address")]
pub mod filter;
pub mod holders;
pub mod listener;
pub mod netlink;
pub mod netns;
#[expect(unsafe_code, reason = "the kernel writes at an address")]
pub mod peer;
pub mod pidfd;
pub mod process;
#[expect(unsafe_code, reason = "the kernel reads a set of signals at an address")]
pub mod signals;
pub mod sock_diag;
#[expect(unsafe_code, reason = "a fork, and an execution that the kernel reads from addresses")]
pub mod spawn;
#[expect(unsafe_code, reason = "descriptors that are numbers, because a parent has left them")]
pub mod standard;
pub mod tcp_table;
#[expect(unsafe_code, reason = "a call for which rustix has no name")]
pub mod writeback;

mod procfs;
#[expect(unsafe_code, reason = "system calls that rustix does not have")]
mod syscall;
#[cfg(test)]
mod testing;

pub use pidfd::PidFd;
pub use rustix::io::Errno;
