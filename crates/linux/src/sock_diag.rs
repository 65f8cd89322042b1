//! Every TCP socket of a network namespace, as the kernel sees it (`sock_diag(7)`, `include/uapi/linux/inet_diag.h`).
//!
//! One question brings one answer per socket: addresses, state, queues and `struct tcp_info`. It needs no privilege, not
//! even in a container without capabilities, because it asks only about the namespace in which the asking socket was
//! opened. What it tells is the kernel's own bookkeeping, true at the moment at which the socket is visited; a dump
//! of many sockets is not one moment.
//!
//! Two kinds of sockets have no owner: connections that the program has not accepted yet, which wait in the accept
//! queue, and connections that it has closed and the kernel is still finishing. Their inode is zero.
//!
//! The question is asked in its older form (`struct inet_diag_req`). The newer one is for one address family, and most of
//! what a dump costs is the walk through the kernel's table; the older one is answered for both families in one walk
//! (`inet_diag_dump_compat` in `net/ipv4/inet_diag.c`).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use rustix::io::{Errno, Result};
use rustix::net::netlink;

use crate::netlink::{Attributes, DONE, DUMP, REQUEST, Socket, Writer, u32_at};

/// `TCPDIAG_GETSOCK`
const GET_TCP: u16 = 18;

/// `INET_DIAG_REQ_BYTECODE`, of a request.
const BYTECODE: u16 = 1;

/// `INET_DIAG_INFO`, of an answer; the request asks for it by the bit below it.
const INFO: u16 = 2;

/// `INET_DIAG_SKMEMINFO`: the socket's memory and, behind it, its drops (`SK_MEMINFO_DROPS`).
const MEMORY: u16 = 7;
const DROPS: usize = 8;

/// How many ports the kernel is asked to compare; with more, it is cheaper to compare here.
const PORTS: usize = 64;

/// A question about the sockets of one network namespace, which can be asked again and again without allocating.
#[derive(Debug)]
pub struct SockDiag {
    socket: Socket,
    question: Writer,
    sequence: u32,
}

/// Which sockets to tell.
#[derive(Clone, Copy, Debug)]
pub struct Which<'a> {
    /// In one of these states.
    pub states: States,
    /// With one of these local ports; empty: all.
    pub ports: &'a [u16],
}

impl SockDiag {
    /// Asks in the network namespace of the calling thread.
    pub fn open(which: Which<'_>) -> Result<Self> {
        let socket = Socket::open(netlink::SOCK_DIAG)?;
        Ok(Self { socket, question: question(which), sequence: 0 })
    }

    /// Asks about others from now on.
    pub fn ask_about(&mut self, which: Which<'_>) {
        self.question = question(which);
    }

    /// The connection of this machine with these ends, in whatever state; the kernel looks it up without a walk.
    pub fn find(&mut self, local: SocketAddr, peer: SocketAddr) -> Result<Option<TcpSocket>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(exact_question(local, peer, self.sequence).as_bytes())?;
        loop {
            for message in self.socket.receive()? {
                if message.sequence != self.sequence {
                    continue;
                }
                return match message.kind {
                    // Where there is no such connection the kernel may name a listener.
                    GET_TCP => {
                        Ok(TcpSocket::parse(message.payload)
                            .filter(|it| it.local == local && it.peer == peer))
                    }
                    _ => match message.verdict().unwrap_or(Err(Errno::PROTO)) {
                        Ok(()) | Err(Errno::NOENT) => Ok(None),
                        Err(errno) => Err(errno),
                    },
                };
            }
        }
    }

    /// Shows every socket to `visit`, in no order.
    pub fn dump(&mut self, mut visit: impl FnMut(&TcpSocket)) -> Result<()> {
        // A dump that failed half-way may have left messages behind; they have older numbers.
        self.sequence = self.sequence.wrapping_add(1);
        self.question.renumber(self.sequence);
        self.socket.send(self.question.as_bytes())?;
        loop {
            for message in self.socket.receive()? {
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    DONE => return Ok(()),
                    GET_TCP => {
                        if let Some(socket) = TcpSocket::parse(message.payload) {
                            visit(&socket);
                        }
                    }
                    _ => message.verdict().unwrap_or(Err(Errno::PROTO))?,
                }
            }
        }
    }
}

/// A request for sockets: `struct inet_diag_req`.
fn question(which: Which<'_>) -> Writer {
    let mut writer = Writer::default();
    writer.message(GET_TCP, REQUEST | DUMP, 0, |message| {
        // Family and lengths of addresses, which a dump does not read; the extras that are wanted.
        message.put(&[0, 0, 0, 1 << (INFO - 1) | 1 << (MEMORY - 1)]);
        // `struct inet_diag_sockid`, which a dump does not read either.
        message.put(&[0; 48]);
        message.put(&which.states.0.to_ne_bytes());
        // Tables, which the kernel does not read any more.
        message.put(&[0; 4]);
        if (1..=PORTS).contains(&which.ports.len()) {
            message.attribute(BYTECODE, |code| one_of(which.ports, code));
        }
    });
    writer
}

/// A request for one socket (`inet_diag_get_exact_compat`).
fn exact_question(local: SocketAddr, peer: SocketAddr, sequence: u32) -> Writer {
    let ip = |address: SocketAddr| {
        let mut bytes = [0; 16];
        match address.ip() {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        bytes
    };
    let mut writer = Writer::default();
    writer.message(GET_TCP, REQUEST, sequence, |message| {
        message.put(&[if local.is_ipv4() { 2 } else { 10 }, 0, 0, 0]);
        message.put(&local.port().to_be_bytes());
        message.put(&peer.port().to_be_bytes());
        message.put(&ip(local));
        message.put(&ip(peer));
        // Any interface; any cookie (`INET_DIAG_NOCOOKIE`).
        message.put(&[0; 4]);
        message.put(&[0xff; 8]);
        message.put(&u32::MAX.to_ne_bytes());
        message.put(&[0; 4]);
    });
    writer
}

/// A program for the kernel's filter that accepts these local ports (`inet_diag_bc_run` in `net/ipv4/inet_diag.c`).
///
/// An instruction says by how many bytes to go on if it holds and if not. Whoever arrives exactly at the end is
/// accepted, whoever goes beyond is not.
fn one_of(ports: &[u16], code: &mut Writer) {
    /// `INET_DIAG_BC_JMP`
    const JUMP: u8 = 1;
    /// `INET_DIAG_BC_S_EQ`: is this the local port? The number is in a second instruction.
    const PORT_IS: u8 = 11;
    /// The length of an instruction.
    const LENGTH: u8 = 4;
    let mut instruction = |kind: u8, yes: u8, no: u16| {
        code.put(&[kind, yes]);
        code.put(&no.to_ne_bytes());
    };
    for (port, following) in ports.iter().zip((0..ports.len()).rev()) {
        // If it is, to the jump behind these two; else to the next comparison, behind the jump.
        instruction(PORT_IS, 2 * LENGTH, 3 * u16::from(LENGTH));
        instruction(0, 0, *port);
        if let Ok(following @ 1..) = u16::try_from(following) {
            // To the end: every further port has three instructions, the last one no jump.
            instruction(JUMP, LENGTH, following * 3 * u16::from(LENGTH));
        }
    }
}

/// A set of [`State`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u32);

impl States {
    /// Those in which a request may be on its way, and the listening ones. `TIME_WAIT` is over.
    pub const LIVE: Self = Self(
        1 << State::Established as u8
            | 1 << State::SynReceived as u8
            | 1 << State::FinWait1 as u8
            | 1 << State::FinWait2 as u8
            | 1 << State::CloseWait as u8
            | 1 << State::LastAck as u8
            | 1 << State::Closing as u8
            | 1 << State::Listen as u8
            | 1 << NEW_SYN_RECV,
    );

    /// Listening ones.
    pub const LISTENING: Self = Self(1 << State::Listen as u8);

    /// Those whose request for a connection is not answered.
    pub const CONNECTING: Self = Self(1 << State::SynSent as u8);
}

/// `TCP_NEW_SYN_RECV`: the kernel keeps half-open connections apart, and shows them as `SYN_RECV`.
const NEW_SYN_RECV: u8 = 12;

/// The state of a TCP socket (RFC 9293, section 3.3.2), with the kernel's numbers (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Both sides may send.
    Established = 1,
    /// We have asked for a connection.
    SynSent = 2,
    /// The peer has asked for a connection and has not confirmed our answer.
    SynReceived = 3,
    /// We have closed; the peer has not confirmed that.
    FinWait1 = 4,
    /// We have closed and the peer knows it.
    FinWait2 = 5,
    /// Over; kept for stray segments.
    TimeWait = 6,
    /// Over.
    Close = 7,
    /// The peer has closed, we may still send.
    CloseWait = 8,
    /// Both have closed; the peer has not confirmed ours.
    LastAck = 9,
    /// Waiting for connections.
    Listen = 10,
    /// Both have closed at the same time.
    Closing = 11,
}

impl State {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 | NEW_SYN_RECV => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }
}

/// One TCP socket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Its state.
    pub state: State,
    /// Our end. IPv4 addresses of dual-stack sockets are shown as such.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// A number that no other socket of this machine had or will have (`SO_COOKIE`, socket(7)).
    pub cookie: u64,
    /// The inode under which it is open; zero: nobody has it open.
    pub inode: u64,
    /// Bytes that the program has not read. Of a listening socket: connections that it has not accepted.
    pub receive_queue: u32,
    /// Bytes that the peer has not confirmed, a FIN counting as one. Of a listening socket: how many connections may wait.
    pub send_queue: u32,
    /// How often the kernel has sent the oldest of these bytes again.
    pub retransmits: u8,
    /// How many segments for it were dropped, by a filter or for lack of memory.
    pub dropped: u32,
    /// More about a connection; `None` of a listening or half-open socket.
    pub info: Option<TcpInfo>,
}

/// What we need of `struct tcp_info` (`include/uapi/linux/tcp.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// How long ago the kernel last sent data. The kernel counts in ticks of 1 to 10 ms.
    pub since_sent: Duration,
    /// How long ago it last received data.
    pub since_received: Duration,
    /// How long ago it last received a confirmation, which most segments with data are, too.
    pub since_confirmed: Duration,
    /// Bytes received in order.
    pub received: u64,
    /// Bytes that the peer has confirmed.
    pub confirmed: u64,
    /// Segments with data that were received.
    pub segments: u32,
}

impl TcpSocket {
    /// Reads `struct inet_diag_msg` and its attributes; `None` if it is torn or not of TCP.
    fn parse(payload: &[u8]) -> Option<Self> {
        let family = *payload.first()?;
        let state = State::from_number(*payload.get(1)?)?;
        let retransmits = *payload.get(3)?;
        // `struct inet_diag_sockid`: ports and addresses are in network order.
        let port = |at| payload.get(at..)?.first_chunk().map(|port| u16::from_be_bytes(*port));
        let local = SocketAddr::new(address(family, payload.get(8..24)?)?, port(4)?);
        let peer = SocketAddr::new(address(family, payload.get(24..40)?)?, port(6)?);
        let cookie = u64::from(u32_at(payload, 44)?) | u64::from(u32_at(payload, 48)?) << 32;
        let (mut info, mut dropped) = (None, 0);
        for attribute in Attributes::of(payload.get(72..)?) {
            match attribute.kind {
                INFO if state != State::Listen => info = TcpInfo::parse(attribute.value),
                MEMORY => dropped = u32_at(attribute.value, DROPS * 4).unwrap_or(0),
                _ => {}
            }
        }
        Some(Self {
            state,
            local,
            peer,
            cookie,
            inode: u64::from(u32_at(payload, 68)?),
            receive_queue: u32_at(payload, 56)?,
            send_queue: u32_at(payload, 60)?,
            retransmits,
            dropped,
            info,
        })
    }
}

impl TcpInfo {
    fn parse(info: &[u8]) -> Option<Self> {
        let milliseconds = |at| u32_at(info, at).map(|ms| Duration::from_millis(ms.into()));
        let count = |at| info.get(at..)?.first_chunk().map(|count| u64::from_ne_bytes(*count));
        Some(Self {
            since_sent: milliseconds(44)?,
            since_received: milliseconds(52)?,
            since_confirmed: milliseconds(56)?,
            confirmed: count(120)?,
            received: count(128)?,
            segments: u32_at(info, 152)?,
        })
    }
}

fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        2 => bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
        10 => bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::vec::Vec;

    use crate::testing::eventually;

    fn sockets(states: States, ports: &[u16]) -> Vec<TcpSocket> {
        let mut found = Vec::new();
        let mut diag = SockDiag::open(Which { states, ports }).unwrap();
        diag.dump(|socket| found.push(*socket)).unwrap();
        found
    }

    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[test]
    fn a_connection_from_the_accept_queue_to_its_end() {
        let (listener, port) = listener();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"request").unwrap();
        let one = |state| {
            let found = sockets(States::LIVE, &[port]);
            let mut found = found.into_iter().filter(|socket| socket.state == state);
            (found.next(), found.next())
        };

        // The last segment of the handshake may be on its way.
        let unread = |socket: TcpSocket| socket.receive_queue == 7;
        eventually("it waits", || one(State::Established).0.is_some_and(unread));
        let (Some(waiting), None) = one(State::Established) else { panic!("one connection") };
        assert_eq!(waiting.inode, 0, "nobody has accepted it");
        assert_eq!(waiting.peer, client.local_addr().unwrap());
        let (Some(listening), None) = one(State::Listen) else { panic!("one listener") };
        assert_eq!(listening.receive_queue, 1);
        assert_eq!(listening.info, None);

        let (mut server, _) = listener.accept().unwrap();
        let accepted = one(State::Established).0.unwrap();
        assert_eq!(accepted.cookie, waiting.cookie);
        assert_ne!(accepted.inode, 0);
        assert_eq!(accepted.info.unwrap().received, 7);
        assert_eq!((accepted.send_queue, accepted.info.unwrap().confirmed), (0, 0), "nothing was written");

        server.read_exact(&mut [0; 7]).unwrap();
        server.write_all(b"answer").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        let answered = one(State::Established).0.unwrap();
        assert_eq!(answered.receive_queue, 0);
        assert_eq!(answered.info.unwrap().confirmed + u64::from(answered.send_queue), 6);

        client.shutdown(Shutdown::Write).unwrap();
        eventually("it knows", || one(State::CloseWait).0.is_some());
    }

    #[test]
    fn only_the_ports_asked_for() {
        let listeners: Vec<_> = (0..5).map(|_| listener()).collect();
        let mut wanted: Vec<u16> = listeners.iter().map(|(_, port)| *port).collect();
        let left_out = wanted.pop().unwrap();
        for n in 0..=wanted.len() {
            let mut ports: Vec<_> =
                sockets(States::LISTENING, &wanted[..n]).iter().map(|s| s.local.port()).collect();
            ports.sort_unstable();
            let mut expected = wanted[..n].to_vec();
            expected.sort_unstable();
            match n {
                0 => assert!(wanted.iter().all(|port| ports.contains(port)) && ports.contains(&left_out)),
                _ => assert_eq!(ports, expected),
            }
        }
        // More than the kernel is asked to compare.
        let many: Vec<u16> = (1..=65).collect();
        assert!(sockets(States::LISTENING, &many).len() >= 5);
    }

    #[test]
    fn both_address_families() {
        let Ok(dual) = TcpListener::bind("[::]:0") else {
            std::eprintln!("SKIPPED: no IPv6");
            return;
        };
        let port = dual.local_addr().unwrap().port();
        let v4 = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let v6 = TcpStream::connect(("::1", port)).unwrap();
        let mut peers = Vec::new();
        eventually("both are there", || {
            let found = sockets(States::LIVE, &[port]);
            peers = found.iter().filter(|s| s.state == State::Established).map(|s| s.peer).collect();
            peers.len() == 2
        });
        assert!(peers.contains(&v4.local_addr().unwrap()), "{peers:?}");
        assert!(peers.contains(&v6.local_addr().unwrap()), "{peers:?}");
    }

    #[test]
    fn one_connection_is_found_by_its_ends() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let mut diag = SockDiag::open(Which { states: States::LIVE, ports: &[] }).unwrap();
            let found = diag.find(local, peer).unwrap().unwrap();
            assert_eq!((found.local, found.peer, found.state), (local, peer, State::Established));
            assert_ne!(found.inode, 0);
            assert_eq!(diag.find(peer, local).unwrap().unwrap().inode, 0, "nobody has accepted it");
            // Only the listener is there.
            let nobody = SocketAddr::new(local.ip(), 1);
            assert_eq!(diag.find(peer, nobody).unwrap(), None);
            assert_eq!(diag.find(nobody, peer).unwrap(), None);
        }
    }

    #[test]
    fn a_dump_can_be_repeated() {
        let (_listener, port) = listener();
        let mut diag = SockDiag::open(Which { states: States::LIVE, ports: &[port] }).unwrap();
        for _ in 0..3 {
            let mut found = 0;
            diag.dump(|_| found += 1).unwrap();
            assert_eq!(found, 1);
        }
        diag.ask_about(Which { states: States::LIVE, ports: &[port.wrapping_add(1).max(1)] });
        diag.dump(|socket| assert_ne!(socket.local.port(), port)).unwrap();
    }

    #[test]
    fn torn_answers_are_no_sockets() {
        let (_listener, port) = listener();
        let mut diag = SockDiag::open(Which { states: States::LIVE, ports: &[port] }).unwrap();
        diag.socket.send(diag.question.as_bytes()).unwrap();
        let messages = diag.socket.receive().unwrap();
        let answer = messages.into_iter().find(|message| message.kind == GET_TCP).unwrap();
        assert!(TcpSocket::parse(answer.payload).is_some());
        for end in 0..72 {
            assert_eq!(TcpSocket::parse(&answer.payload[..end]), None);
        }
        for end in 72..answer.payload.len() {
            assert!(TcpSocket::parse(&answer.payload[..end]).is_some_and(|socket| socket.dropped == 0));
        }
    }
}
