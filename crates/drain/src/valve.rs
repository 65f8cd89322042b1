//! A valve in a socket of another program: for a short time the kernel drops what arrives there.
//!
//! The kernel runs a filter on every segment before TCP sees it (`tcp_filter` in `net/ipv4/tcp_ipv4.c`); what the filter drops
//! was never received, so its sender sends it again. A filter belongs to the socket, not to the process that attached it:
//! if that process is killed, a filter that drops stays, and the connection is dead. So ours **expire by themselves**. They
//! are eBPF programs (bpf(2)) that compare the kernel's clock with a deadline in a map; as long as we live, we move the
//! deadline on ([`Valves::keep_shut`]); when we do not, however that came, everything opens within [`AT_MOST`].
//!
//! What a valve holds back tells something, too: who begins a new request has got the whole answer to the one before. So
//! the filter keeps the beginning of the first data that it dropped on each connection ([`Valves::held_back`]).
//!
//! This needs `CAP_BPF` (or root), and the right to trace the program, whose socket must be duplicated (`pidfd_getfd(2)`).
//!
//! A program that has a filter of its own on the socket keeps it: there the valve refuses.

mod sys;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::clock::now;
use rustix::io::{Errno, Result};

/// How long valves stay shut when nobody keeps them so.
pub(crate) const AT_MOST: Duration = Duration::from_millis(100);

/// What a shut valve drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything that carries data. Confirmations and FINs pass: an answer that is under way is delivered, and the peer
    /// may close.
    Data,
    /// Requests for a connection, at a listening socket. Connections notice nothing.
    Requests,
}

/// The beginning of what was held back; zeros behind it if it was shorter.
pub(crate) type Beginning = [u8; 16];

/// Valves that are shut and opened together.
#[derive(Debug)]
pub(crate) struct Valves {
    program: OwnedFd,
    deadline: sys::Map<u32, u64>,
    held_back: sys::Map<u64, Beginning>,
}

impl Valves {
    /// Valves of one kind, open for now.
    ///
    /// Fails with `EPERM` if bpf(2) is not allowed.
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        let deadline = sys::Map::array()?;
        let held_back = sys::Map::hash()?;
        let program = sys::load(&program(kind, &deadline, &held_back))?;
        Ok(Self { program, deadline, held_back })
    }

    /// Puts a valve into a socket.
    ///
    /// Fails with `EEXIST` if the socket has a filter already.
    pub(crate) fn put_into(&self, socket: impl AsFd) -> Result<()> {
        if sys::has_filter(socket.as_fd())? {
            return Err(Errno::EXIST);
        }
        sys::attach(socket.as_fd(), self.program.as_fd())
    }

    /// Takes the valve out again, and forgets what it held back.
    pub(crate) fn take_out(&self, socket: impl AsFd, cookie: u64) -> Result<()> {
        sys::detach(socket.as_fd())?;
        match self.held_back.remove(cookie) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        }
    }

    /// The beginning of the first data that was dropped on the connection with this cookie, if any was.
    pub(crate) fn held_back(&self, cookie: u64) -> Option<Beginning> {
        self.held_back.get(cookie).ok()
    }

    /// All are shut, for [`AT_MOST`] from now.
    pub(crate) fn keep_shut(&self) -> Result<()> {
        self.deadline.set(0, u64::try_from((now() + AT_MOST).as_nanos()).unwrap_or(u64::MAX))
    }

    /// All are open, at once.
    pub(crate) fn open(&self) -> Result<()> {
        self.deadline.set(0, 0)
    }
}

/// One instruction: `struct bpf_insn`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// The filter. It is called with the packet, which begins with the TCP header, and returns how much of it to keep.
///
/// Registers 6 to 9 survive calls, 1 to 5 are their arguments, 0 is their result, 10 is the end of the stack
/// (`Documentation/bpf/standardization/instruction-set.rst`). `bpf(2)` describes the functions.
#[rustfmt::skip]
fn program(kind: Kind, deadline: &sys::Map<u32, u64>, held_back: &sys::Map<u64, Beginning>) -> Vec<Instruction> {
    let i = instruction;
    let mut program = vec![
        i(0xbf, 6, 1, 0, 0),                        //        r6 = packet
        i(0x62, 10, 0, -4, 0),                      //        index = 0
        i(0xbf, 2, 10, 0, 0),
        i(0x07, 2, 0, 0, -4),
        i(0x18, 1, 1, 0, deadline.number()),        //        (two instructions)
        i(0, 0, 0, 0, 0),
        i(0x85, 0, 0, 0, 1),                        //        r0 = bpf_map_lookup_elem(deadline, &index)
        i(0x55, 0, 0, 2, 0),                        //        if r0 != 0 skip
        i(0xb4, 0, 0, 0, -1),                       //        return everything
        i(0x95, 0, 0, 0, 0),
        i(0x79, 7, 0, 0, 0),                        //        r7 = *r0
        i(0x85, 0, 0, 0, 5),                        //        r0 = bpf_ktime_get_ns()
        i(0xad, 0, 7, 2, 0),                        //        if r0 < r7 skip
        i(0xb4, 0, 0, 0, -1),                       //        return everything
        i(0x95, 0, 0, 0, 0),
    ];
    program.extend(match kind {
        Kind::Data => vec![
            i(0x30, 0, 0, 0, 12),                   //        r8 = the length of the header: the upper half of byte 12, …
            i(0x57, 0, 0, 0, 0xf0),
            i(0x77, 0, 0, 0, 2),                    //        … in units of 4 bytes
            i(0xbf, 8, 0, 0, 0),
            i(0x61, 9, 6, 0, 0),                    //        r9 = the length of the data
            i(0x1f, 9, 8, 0, 0),
            i(0x65, 9, 0, 2, 0),                    //        if r9 > 0 skip
            i(0xb4, 0, 0, 0, -1),                   //        return everything
            i(0x95, 0, 0, 0, 0),
            i(0x7a, 10, 0, -16, 0),                 //        beginning = 0
            i(0x7a, 10, 0, -24, 0),
            i(0xa5, 9, 0, 1, 16),                   //        if r9 >= 16
            i(0xb7, 9, 0, 0, 16),                   //            r9 = 16
            i(0xbf, 1, 6, 0, 0),
            i(0xbf, 2, 8, 0, 0),
            i(0xbf, 3, 10, 0, 0),
            i(0x07, 3, 0, 0, -24),
            i(0xbf, 4, 9, 0, 0),
            i(0x85, 0, 0, 0, 26),                   //        bpf_skb_load_bytes(packet, r8, &beginning, r9)
            i(0xbf, 1, 6, 0, 0),
            i(0x85, 0, 0, 0, 46),                   //        cookie = bpf_get_socket_cookie(packet)
            i(0x7b, 10, 0, -32, 0),
            i(0x18, 1, 1, 0, held_back.number()),
            i(0, 0, 0, 0, 0),
            i(0xbf, 2, 10, 0, 0),
            i(0x07, 2, 0, 0, -32),
            i(0xbf, 3, 10, 0, 0),
            i(0x07, 3, 0, 0, -24),
            i(0xb7, 4, 0, 0, 1),                    //        (BPF_NOEXIST: the first one counts)
            i(0x85, 0, 0, 0, 2),                    //        bpf_map_update_elem(held_back, &cookie, &beginning, 1)
        ],
        Kind::Requests => vec![
            i(0x30, 0, 0, 0, 13),                   //        r0 = the flags of the header, of which SYN and ACK
            i(0x57, 0, 0, 0, 0x12),
            i(0x15, 0, 0, 2, 0x02),                 //        if only SYN skip
            i(0xb4, 0, 0, 0, -1),                   //        return everything
            i(0x95, 0, 0, 0, 0),
        ],
    });
    program.extend([
        i(0xb4, 0, 0, 0, 0),                        //        return nothing
        i(0x95, 0, 0, 0, 0),
    ]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::eventually;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, server)
    }

    fn valves(kind: Kind) -> Option<Valves> {
        match Valves::new(kind) {
            Ok(valves) => Some(valves),
            Err(errno) => {
                eprintln!("SKIPPED: bpf(2): {errno}");
                None
            }
        }
    }

    fn has_arrived(socket: &TcpStream) -> bool {
        socket.set_nonblocking(true).unwrap();
        let peeked = socket.peek(&mut [0]);
        socket.set_nonblocking(false).unwrap();
        match peeked {
            Ok(read) => read > 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_shut_valve_lets_answers_out_and_no_request_in() {
        let Some(valves) = valves(Kind::Data) else { return };
        let (mut client, mut server) = pair();
        valves.put_into(&server).unwrap();
        client.write_all(b"ask").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();

        valves.keep_shut().unwrap();
        client.write_all(b"ask again").unwrap();
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        valves.keep_shut().unwrap();
        assert!(!has_arrived(&server));

        valves.open().unwrap();
        eventually("it is sent again", || has_arrived(&server));
        let mut again = [0; 9];
        server.read_exact(&mut again).unwrap();
        assert_eq!(&again, b"ask again");
        let cookie = rustix::net::sockopt::socket_cookie(&server).unwrap();
        assert_eq!(valves.held_back(cookie).as_ref(), Some(b"ask again\0\0\0\0\0\0\0"));
        valves.take_out(&server, cookie).unwrap();
        assert_eq!(valves.held_back(cookie), None);
        assert_eq!(valves.take_out(&server, cookie), Err(Errno::NOENT));
    }

    #[test]
    fn what_is_held_back_first_is_kept() {
        let Some(valves) = valves(Kind::Data) else { return };
        let (mut client, server) = pair();
        let cookie = rustix::net::sockopt::socket_cookie(&server).unwrap();
        valves.put_into(&server).unwrap();
        valves.keep_shut().unwrap();
        assert_eq!(valves.held_back(cookie), None);
        client.write_all(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n").unwrap();
        client.write_all(b"GET /second HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(valves.held_back(cookie).as_ref(), Some(b"GET / HTTP/1.1\r\n"));
    }

    #[test]
    fn it_opens_by_itself() {
        let Some(valves) = valves(Kind::Data) else { return };
        let (mut client, server) = pair();
        valves.put_into(&server).unwrap();
        valves.keep_shut().unwrap();
        // Nobody is left who could open it.
        drop(valves);
        let shut = Instant::now();
        client.write_all(b"ask").unwrap();
        eventually("it arrives", || has_arrived(&server));
        // The kernel sends again after 200 ms and more (TCP_RTO_MIN).
        assert!(shut.elapsed() >= AT_MOST);
    }

    #[test]
    fn the_peer_may_close() {
        let Some(valves) = valves(Kind::Data) else { return };
        let (client, mut server) = pair();
        valves.put_into(&server).unwrap();
        valves.keep_shut().unwrap();
        drop(client);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_listener_takes_no_requests_and_keeps_its_connections() {
        let Some(valves) = valves(Kind::Requests) else { return };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        valves.put_into(&listener).unwrap();
        valves.keep_shut().unwrap();
        assert!(TcpStream::connect_timeout(&address, AT_MOST / 2).is_err(), "it must wait");
        client.write_all(b"ask").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
        valves.open().unwrap();
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn a_filter_of_the_programs_own_stays() {
        let Some(valves) = valves(Kind::Data) else { return };
        let Some(theirs) = self::valves(Kind::Data) else { return };
        let (_client, server) = pair();
        theirs.put_into(&server).unwrap();
        assert_eq!(valves.put_into(&server), Err(Errno::EXIST));
    }
}
