//! Listening on the wire: what a program and its clients send each other, without being in between (packet(7)).
//!
//! The kernel shows a copy of every packet that passes an interface: on its way in before TCP sees it, on its way out after TCP
//! has sent it. A tap follows every conversation with [`Talk`]: it takes what clients send to the program's ports when it comes
//! in, and what the program sends when it goes out. (On the loopback interface every packet does both; each is taken once.)
//! A filter in the kernel passes on only these, and only their beginning.
//!
//! **What a tap shows is complete, or it says so.** A packet is in the tap before TCP acts on it. When the tap is empty and the
//! kernel has dropped nothing for lack of room, nothing was sent that we have not seen. If something was dropped, everything
//! that was known is forgotten.
//!
//! This needs `CAP_NET_RAW`. Without it connections are judged by the kernel's counters alone.

mod sys;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use gracefully_linux::filter::{Instruction, attach};
use rustix::io::{Errno, Result};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{AddressFamily, SocketFlags, SocketType, eth, socket_with};

use crate::queue::Ends;
use crate::talk::{Heard, Segment, Talk};

/// How much of a packet is captured: whole heads and short answers.
const CAPTURED: u32 = 2048;

/// How much room the kernel has for packets that we have not read.
const ROOM: usize = 8 * 1024 * 1024;

/// How many ports the filter can compare; its jumps are short.
const PORTS: usize = 100;

/// Everything that is said at some ports in one network namespace.
#[derive(Debug)]
pub(crate) struct Tap {
    socket: OwnedFd,
    /// By the client's end and the program's.
    talks: HashMap<Ends, Talk>,
    buffer: Vec<u8>,
}

impl Tap {
    /// Listens in the network namespace of the calling thread.
    ///
    /// Fails with `EPERM` without `CAP_NET_RAW`, with `E2BIG` if there are too many ports.
    pub(crate) fn new(ports: &[u16]) -> Result<Self> {
        // Without a protocol it takes nothing yet: the filter comes first.
        let family = AddressFamily::PACKET;
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let tap = Self { socket, talks: HashMap::new(), buffer: vec![0; CAPTURED as usize] };
        tap.listen_at(ports)?;
        // Beyond the usual limit, where we may; else what the limit allows.
        if set_socket_recv_buffer_size_force(&tap.socket, ROOM).is_err() {
            set_socket_recv_buffer_size(&tap.socket, ROOM)?;
        }
        sys::bind(tap.socket.as_fd(), eth::ALL)?;
        Ok(tap)
    }

    /// Listens at these ports from now on.
    pub(crate) fn listen_at(&self, ports: &[u16]) -> Result<()> {
        if ports.len() > PORTS {
            return Err(Errno::TOOBIG);
        }
        attach(self.socket.as_raw_fd(), &filter(ports))
    }

    /// Reads everything that was said since the last time.
    pub(crate) fn listen(&mut self) -> Result<()> {
        while let Some((direction, read)) = sys::receive(self.socket.as_fd(), &mut self.buffer)? {
            let Some(packet) = Packet::parse(&self.buffer[..read]) else { continue };
            match direction {
                sys::Direction::In => {
                    self.talks.entry(packet.ends).or_default().client(packet.segment);
                }
                sys::Direction::Out => {
                    let ends = Ends { from: packet.ends.to, to: packet.ends.from };
                    self.talks.entry(ends).or_default().server(packet.segment);
                }
            }
        }
        if sys::dropped(self.socket.as_fd())? > 0 {
            self.talks.clear();
        }
        Ok(())
    }

    /// What is known of the conversation between these two.
    pub(crate) fn heard(&self, client: SocketAddr, program: SocketAddr) -> Heard {
        self.talks.get(&Ends { from: client, to: program }).map(Talk::heard).unwrap_or_default()
    }

    /// How many conversations are known.
    pub(crate) fn len(&self) -> usize {
        self.talks.len()
    }

    /// Forgets the connections that are not there any more.
    pub(crate) fn keep(&mut self, is_there: impl Fn(&Ends) -> bool) {
        self.talks.retain(|ends, _| is_there(ends));
    }
}

/// A TCP packet with data.
#[derive(Debug)]
struct Packet<'a> {
    ends: Ends,
    segment: Segment<'a>,
}

impl<'a> Packet<'a> {
    /// Of the beginning of an IP packet; `None` if it carries no data. A SYN takes a place in the stream of its own, so
    /// what it carries (TCP Fast Open) is not followed.
    fn parse(packet: &'a [u8]) -> Option<Self> {
        let u16_at = |at: usize| packet.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        let (from, to, header, end): (IpAddr, IpAddr, usize, usize) = match packet.first()? >> 4 {
            4 => {
                let address = |at: usize| packet.get(at..)?.first_chunk::<4>().map(|bytes| (*bytes).into());
                (address(12)?, address(16)?, usize::from(packet.first()? & 0xf) * 4, u16_at(2)?.into())
            }
            6 => {
                let address = |at: usize| packet.get(at..)?.first_chunk::<16>().map(|bytes| (*bytes).into());
                (address(8)?, address(24)?, 40, usize::from(u16_at(4)?) + 40)
            }
            _ => return None,
        };
        let tcp = packet.get(header..)?;
        let sequence = tcp.get(4..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        let data = usize::from(tcp.get(12)? >> 4) * 4;
        let is_syn = tcp.get(13)? & 0x02 != 0;
        let length =
            u32::try_from(end.checked_sub(header + data)?).ok().filter(|&length| length > 0 && !is_syn)?;
        let captured = tcp.get(data..)?;
        // A short packet is filled up to the least that Ethernet carries.
        let captured = &captured[..captured.len().min(length as usize)];
        let port = |at: usize| tcp.get(at..)?.first_chunk().map(|port| u16::from_be_bytes(*port));
        let ends = Ends { from: SocketAddr::new(from, port(0)?), to: SocketAddr::new(to, port(2)?) };
        Some(Self { ends, segment: Segment { sequence, length, captured } })
    }
}

/// The classic filter (`Documentation/networking/filter.rst`) for what goes to and comes from these ports. It sees a packet from
/// its IP header on; fragments and extension headers are not followed.
fn filter(ports: &[u16]) -> Vec<Instruction> {
    /// How many instructions the part for one direction has.
    const DIRECTION: u32 = 12;
    let i = |code: u16, to: u8, other: u8, value: u32| Instruction::new(code, to, other, value);
    // Everything but the comparisons of ports is of fixed length, so jumps can be written down.
    let count = u8::try_from(ports.len()).unwrap_or(u8::MAX);
    // The part for one direction: where the port is that counts, in the header of TCP.
    let direction = |offset: u32, behind: u32| {
        let to_ports = |from: u32| DIRECTION - 1 - from + behind;
        // To the instruction that drops, behind the comparisons.
        let to_drop = |from: u32| u8::try_from(to_ports(from)).unwrap_or(u8::MAX).saturating_add(count);
        [
            i(0x30, 0, 0, 0),            //  0  A = byte 0 of the IP header: its version
            i(0x54, 0, 0, 0xf0),         //  1
            i(0x15, 5, 0, 0x60),         //  2  version 6: goto 8
            i(0x30, 0, 0, 9),            //  3  A = the protocol
            i(0x15, 0, to_drop(4), 6),   //  4  if not TCP, drop
            i(0xb1, 0, 0, 0),            //  5  X = the length of the IP header
            i(0x48, 0, 0, offset),       //  6  A = the port
            i(0x05, 0, 0, to_ports(7)),  //  7  goto ports
            i(0x30, 0, 0, 6),            //  8  A = the protocol
            i(0x15, 0, to_drop(9), 6),   //  9  if not TCP, drop
            i(0x28, 0, 0, 40 + offset),  // 10  A = the port
            i(0x05, 0, 0, to_ports(11)), // 11  goto ports
        ]
    };
    let to_drop = u8::try_from(2 * DIRECTION).unwrap_or(u8::MAX).saturating_add(count);
    let mut program = vec![
        // `SKF_AD_OFF + SKF_AD_PKTTYPE`: which way a packet goes.
        i(0x30, 0, 0, 0xffff_f000 + 4),
        // `PACKET_OUTGOING`: the program's port is the source, the first field.
        i(0x15, 13, 0, 4),
        // `PACKET_HOST`: it is the destination, the second field.
        i(0x15, 0, to_drop, 0),
    ];
    program.extend(direction(2, DIRECTION));
    program.extend(direction(0, 0));
    // The last of them jumps over "drop" by one more than the first over all that follow.
    program.extend(ports.iter().zip((1..=count).rev()).map(|(&port, left)| i(0x15, left, 0, port.into())));
    program.extend([i(0x06, 0, 0, 0), i(0x06, 0, 0, CAPTURED)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::talk::State;
    use crate::testing::{eventually, in_new_netns};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_conversation_is_followed_in_both_directions_and_by_both_families() {
        in_new_netns(|| {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(address).unwrap();
                let address = listener.local_addr().unwrap();
                let mut tap = Tap::new(&[1, address.port(), 2]).unwrap();
                let mut client = TcpStream::connect(address).unwrap();
                let (mut server, peer) = listener.accept().unwrap();
                let mut is = |state: State| {
                    eventually("it is heard", || {
                        tap.listen().unwrap();
                        tap.heard(peer, address).state == state
                    });
                };
                for _ in 0..3 {
                    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
                    is(State::Asking);
                    client.write_all(b"\r\n").unwrap();
                    is(State::Answering);
                    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").unwrap();
                    is(State::Answering);
                    std::thread::scope(|scope| {
                        scope.spawn(|| server.write_all(&vec![b'x'; 100_000]).unwrap());
                        client.read_exact(&mut vec![0; 100_042]).unwrap();
                    });
                    is(State::Complete);
                }
                assert_eq!(tap.heard(peer, address).answers, 3);
                tap.keep(|_| false);
                assert_eq!(tap.heard(peer, address), Heard::default());
            }
        });
    }

    #[test]
    fn other_ports_are_not_heard() {
        in_new_netns(|| {
            let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
            let mut tap = Tap::new(&ports[..2]).unwrap();
            for listener in &listeners {
                let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
                server.read_exact(&mut [0; 18]).unwrap();
                server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
                client.read_exact(&mut [0; 27]).unwrap();
            }
            tap.listen().unwrap();
            let mut heard: Vec<u16> = tap.talks.keys().map(|ends| ends.to.port()).collect();
            heard.sort_unstable();
            let mut expected = ports[..2].to_vec();
            expected.sort_unstable();
            assert_eq!(heard, expected);
            assert!(tap.talks.values().all(|talk| talk.heard().state == State::Complete));

            tap.listen_at(&ports[2..]).unwrap();
            tap.keep(|_| false);
            TcpStream::connect(listeners[2].local_addr().unwrap()).unwrap().write_all(b"x").unwrap();
            tap.listen().unwrap();
            assert_eq!(tap.talks.len(), 1);
        });
    }

    #[test]
    fn what_is_missed_for_lack_of_room_is_forgotten() {
        in_new_netns(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut tap = Tap::new(&[address.port()]).unwrap();
            set_socket_recv_buffer_size(&tap.socket, 4096).unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            client.set_nodelay(true).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            for _ in 0..100 {
                client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
                server.read_exact(&mut [0; 18]).unwrap();
            }
            tap.listen().unwrap();
            assert_eq!(tap.talks.len(), 0);
        });
    }

    #[test]
    fn torn_packets_are_none() {
        let mut v4 = vec![0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 2];
        v4.extend([0x1f, 0x90, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
        v4.extend(b"data");
        let packet = Packet::parse(&v4).unwrap();
        assert_eq!(
            (packet.segment.sequence, packet.segment.length, packet.segment.captured),
            (9, 4, &b"data"[..])
        );
        assert_eq!(packet.ends.to, "127.0.0.2:80".parse().unwrap());
        for end in 0..40 {
            assert!(Packet::parse(&v4[..end]).is_none());
        }
        // Captured in part.
        assert_eq!(Packet::parse(&v4[..42]).unwrap().segment.captured, b"da");
        v4[33] |= 0x02;
        assert!(Packet::parse(&v4).is_none(), "a SYN");
    }
}
