//! The system calls of packet(7) for which there is no safe interface.

#![expect(unsafe_code, reason = "socket addresses and options of packet(7) are passed as pointers")]

use std::ffi::c_int;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};
use rustix::net::Protocol;

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// Begins to take packets of this protocol from every interface.
pub(super) fn bind(socket: BorrowedFd<'_>, protocol: Protocol) -> Result<()> {
    let protocol = u16::try_from(protocol.as_raw().get()).map_err(|_| Errno::INVAL)?;
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(|_| Errno::INVAL)?;
    // In network order, as rustix has it.
    address.sll_protocol = protocol;
    // SAFETY: bind(2) reads as many bytes as the address has.
    let result = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_ll>()?)
    };
    check(result).map(drop)
}

/// The next packet, and how much of it was captured; `None` if there is none.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<(Direction, usize)>> {
    // SAFETY: as in `bind`.
    let mut from: libc::sockaddr_ll = unsafe { zeroed() };
    let mut length = length_of::<libc::sockaddr_ll>()?;
    loop {
        // SAFETY: recvfrom(2) writes at most as many bytes into buffer and address as their lengths say.
        let result = unsafe {
            libc::recvfrom(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        if let Ok(read) = usize::try_from(result) {
            let outgoing = from.sll_pkttype == libc::PACKET_OUTGOING;
            return Ok(Some((if outgoing { Direction::Out } else { Direction::In }, read)));
        }
        match last_error() {
            Errno::AGAIN => return Ok(None),
            // Interrupted; or an interface has gone down, which is told once, and others go on.
            Errno::INTR | Errno::NETDOWN => {}
            errno => return Err(errno),
        }
    }
}

/// How many packets were dropped for lack of room since the last time.
pub(super) fn dropped(socket: BorrowedFd<'_>) -> Result<u32> {
    /// `struct tpacket_stats`
    #[derive(Default)]
    #[repr(C)]
    struct Statistics {
        packets: u32,
        drops: u32,
    }
    let mut statistics = Statistics::default();
    let mut length = length_of::<Statistics>()?;
    // SAFETY: PACKET_STATISTICS writes at most as many bytes as the length says.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    check(result)?;
    let _ = statistics.packets;
    Ok(statistics.drops)
}

fn length_of<T>() -> Result<libc::socklen_t> {
    libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::INVAL)
}

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
