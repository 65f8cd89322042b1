//! Who is at the other end of a unix socket (unix(7), `SO_PEERCRED`).
//!
//! Sockets are named by the numbers of their descriptors, as in [`filter`](crate::filter).

use core::mem::size_of;

use rustix::fd::RawFd;

use crate::Errno;
use crate::syscall::{GETSOCKOPT, syscall};

// include/uapi/asm-generic/socket.h
const SOL_SOCKET: usize = 1;
const SO_PEERCRED: usize = 17;

/// The process that has connected, or that had listened when we connected: as it was at that moment. The numbers are those of our own
/// namespaces. `struct ucred`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Peer {
    /// 0: it is in a PID namespace that is not below ours. That is why this is not rustix's `UCred`, whose PID is never 0.
    pub pid: u32,
    /// The overflow UID (`user_namespaces(7)`): ours has no number for it.
    pub uid: u32,
    /// As `uid`.
    pub gid: u32,
}

impl Peer {
    /// That of this socket. Fails with `ENOTSOCK` or the like if it is not a unix socket.
    pub fn of(socket: RawFd) -> Result<Self, Errno> {
        let fd = usize::try_from(socket).map_err(|_| Errno::BADF)?;
        let mut peer = Self::default();
        let mut length = u32::try_from(size_of::<Self>()).map_err(|_| Errno::INVAL)?;
        let (to, long) = ((&raw mut peer).expose_provenance(), (&raw mut length).expose_provenance());
        let arguments = [fd, SOL_SOCKET, SO_PEERCRED, to, long];
        // SAFETY: the kernel writes at most as many bytes as we say, which are all plain numbers, and how many they were.
        unsafe { syscall(GETSOCKOPT, arguments) }?;
        Ok(peer)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_peer_of_our_own() {
        let (one, _other) = UnixStream::pair().unwrap();
        let ours = Peer {
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        assert_eq!(Peer::of(one.as_raw_fd()), Ok(ours));
    }

    #[test]
    fn no_socket_has_a_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Peer::of(file.as_raw_fd()), Err(Errno::NOTSOCK));
        assert_eq!(Peer::of(-1), Err(Errno::BADF));
    }
}
