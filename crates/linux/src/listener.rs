//! A listening socket of our own that takes no new connections for a while.
//!
//! **Why.** Whoever stops listening accepts what the kernel has accepted, until there is nothing more, and then closes the socket. But
//! the kernel accepts by itself all the time: a connection that comes between the last accept(2) and close(2) is reset, and
//! one whose handshake is still under way is, too. Its client has sent a request by then.
//!
//! **How.** A filter (socket(7), `SO_ATTACH_FILTER`) sees what comes for a TCP socket from the TCP header on (`tcp_filter` in
//! `net/ipv4/tcp_ipv4.c`). This one drops the first segment of a handshake and nothing else, as if the network had lost it: the
//! client sends it again after a second, to whoever listens then. Handshakes that have begun are finished. No privilege is
//! needed.
//!
//! The filter belongs to the socket, not to the descriptor. So it has to go before we do: somebody else may have the socket, a
//! child, or systemd that has passed it to us, and would be deaf.

use rustix::fd::RawFd;

use crate::Errno;
use crate::filter::{Instruction, attach, detach};

/// Drops segments with SYN and without ACK.
const NO_NEW: [Instruction; 5] = [
    Instruction::new(0x30, 0, 0, 13), // load the byte with the flags (RFC 9293, 3.1)
    Instruction::new(0x54, 0, 0, 0x12), // and: ACK, SYN
    Instruction::new(0x15, 0, 1, 0x02), // only SYN?
    Instruction::new(0x06, 0, 0, 0),  // keep nothing of it
    Instruction::new(0x06, 0, 0, u32::MAX), // keep all of it
];

/// From here on the kernel takes no new connection for the listening TCP socket with this number. Those that it has taken can be
/// accepted.
///
/// Whatever filter the socket had is replaced. A number, because the descriptors of the standard library are none for a crate without
/// it; on anything else than a socket it fails.
pub fn pause(listener: RawFd) -> Result<(), Errno> {
    attach(listener, &NO_NEW)
}

/// Undoes [`pause`].
pub fn resume(listener: RawFd) -> Result<(), Errno> {
    detach(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    #[test]
    fn what_has_come_is_accepted_and_nothing_new_comes() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let at = listener.local_addr().unwrap();
            let mut early = TcpStream::connect(at).unwrap();
            pause(listener.as_raw_fd()).unwrap();
            // The kernel loses what would be answered within microseconds.
            let late = TcpStream::connect_timeout(&at, Duration::from_millis(200)).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            let (mut accepted, _) = listener.accept().unwrap();
            early.write_all(b"hello").unwrap();
            accepted.read_exact(&mut [0; 5]).unwrap();
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
            resume(listener.as_raw_fd()).unwrap();
            TcpStream::connect_timeout(&at, Duration::from_secs(10)).unwrap();
        }
    }
}
