//! Packets that wait for our decision: `nfnetlink_queue` (`include/uapi/linux/netfilter/nfnetlink_queue.h`).
//!
//! A firewall rule sends packets to a queue by its number; whoever has bound that number is shown each packet and decides
//! about it whenever it likes. Two properties make holding safe:
//!
//! * The rule says "bypass" ([`Verdict::Queue`](crate::nftables::Verdict)): while nobody has bound the number, packets
//!   pass as if there were no rule. The binding ends with our socket, however our process ends.
//! * The queue says "fail open" (`NFQA_CFG_F_FAIL_OPEN`): when it is full, further packets pass.
//!
//! What waits in the queue when the socket is closed is dropped; a client that is still there sends its SYN again, one
//! second after the first (RFC 6298, section 2).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use gracefully_linux::netlink::{ACK, Attributes, REQUEST, Socket, Writer};
use rustix::io::{Errno, Result};
use rustix::net::netlink::NETFILTER;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

/// `NFNL_SUBSYS_QUEUE`, the upper byte of a message's type.
const QUEUE: u16 = 3 << 8;

/// `NFQNL_MSG_PACKET`, `NFQNL_MSG_VERDICT`, `NFQNL_MSG_CONFIG`
const PACKET: u16 = QUEUE;
const VERDICT: u16 = QUEUE | 1;
const CONFIG: u16 = QUEUE | 2;

/// `NF_ACCEPT`, `NF_REPEAT`
const ACCEPT: u32 = 1;
const REPEAT: u32 = 4;

/// How many packets may wait in the kernel; a SYN takes less than a kilobyte.
const LONGEST: u32 = 65_536;

/// How much room there is for them until we have read them. A packet takes its own length here, with everything that the kernel
/// has around it; what finds no room passes.
const ROOM: usize = 64 * 1024 * 1024;

/// How much of a packet is shown: the headers of IP, with some options, and the ports.
const SHOWN: u32 = 128;

/// Numbers that we try; others use small ones.
const NUMBERS: std::ops::Range<u16> = 0x6700..0x6800;

/// A queue that is bound to us.
#[derive(Debug)]
pub(crate) struct Queue {
    socket: Socket,
    number: u16,
}

/// A packet that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    id: u32,
    /// From where to where; `None` if it is not TCP over IP, or torn.
    pub(crate) ends: Option<Ends>,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

impl Queue {
    /// Binds a number that nobody else uses in the network namespace of the calling thread.
    ///
    /// Fails with `EPERM` without `CAP_NET_ADMIN`, and with `EINVAL` or `EOPNOTSUPP` if the kernel has no queues.
    pub(crate) fn bind() -> Result<Self> {
        let mut socket = Socket::open(NETFILTER)?;
        // Beyond the usual limit: who may make rules may do that, too, except in a user namespace.
        let _ = set_socket_recv_buffer_size_force(socket.as_fd(), ROOM);
        // Two of us that start at the same time begin at different numbers.
        let start = u16::try_from(std::process::id() % u32::from(NUMBERS.end - NUMBERS.start)).unwrap_or(0);
        let numbers = NUMBERS.map(|number| NUMBERS.start + (number - NUMBERS.start + start) % 0x100);
        for number in numbers {
            match socket.acknowledged(configuration(number).as_bytes(), 1) {
                Ok(()) => return Ok(Self { socket, number }),
                // Somebody else's: EBUSY is documented, EPERM is what it is in fact, as it is without the right.
                Err(Errno::BUSY | Errno::EXIST) => {}
                Err(Errno::PERM) if is_taken(number) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::BUSY)
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Shows what has arrived since the last time. True: there was no room for more, which has passed.
    pub(crate) fn arrivals(&mut self, mut show: impl FnMut(Waiting)) -> Result<bool> {
        let mut overflowed = false;
        loop {
            match self.socket.try_receive() {
                Ok(Some(messages)) => {
                    messages
                        .filter(|message| message.kind == PACKET)
                        .filter_map(|m| Waiting::parse(m.payload))
                        .for_each(&mut show);
                }
                Ok(None) => return Ok(overflowed),
                Err(Errno::NOBUFS) => overflowed = true,
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Lets a packet go on.
    pub(crate) fn accept(&self, packet: &Waiting) -> Result<()> {
        self.decide(packet, ACCEPT, None)
    }

    /// Lets a packet meet the same rules again, with a mark.
    pub(crate) fn repeat(&self, packet: &Waiting, mark: u32) -> Result<()> {
        self.decide(packet, REPEAT, Some(mark))
    }

    fn decide(&self, packet: &Waiting, verdict: u32, mark: Option<u32>) -> Result<()> {
        let mut writer = Writer::default();
        writer.message(VERDICT, REQUEST, 0, |message| {
            header(message, self.number);
            message.attribute(2, |to| {
                to.put(&verdict.to_be_bytes());
                to.put(&packet.id.to_be_bytes());
            });
            if let Some(mark) = mark {
                message.attribute(3, |to| to.put(&mark.to_be_bytes()));
            }
        });
        self.socket.send(writer.as_bytes())
    }
}

impl AsFd for Queue {
    /// Readable when a packet has arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One message that binds the queue and says what we want of it.
fn configuration(number: u16) -> Writer {
    let mut writer = Writer::default();
    writer.message(CONFIG, REQUEST | ACK, 1, |message| {
        header(message, number);
        // `NFQNL_CFG_CMD_BIND`
        message.attribute(1, |to| to.put(&[1, 0, 0, 0]));
        message.attribute(2, |to| {
            to.put(&SHOWN.to_be_bytes());
            // `NFQNL_COPY_PACKET`
            to.put(&[2]);
        });
        message.attribute(3, |to| to.put(&LONGEST.to_be_bytes()));
        // `NFQA_CFG_F_FAIL_OPEN`: which flags are meant, and their value.
        message.attribute(4, |to| to.put(&1_u32.to_be_bytes()));
        message.attribute(5, |to| to.put(&1_u32.to_be_bytes()));
    });
    writer
}

/// `struct nfgenmsg`, which carries the number of the queue.
fn header(message: &mut Writer, number: u16) {
    message.put(&[0, 0]);
    message.put(&number.to_be_bytes());
}

/// Is the number bound, as the kernel lists it?
fn is_taken(number: u16) -> bool {
    let list = std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue").unwrap_or_default();
    list.lines().filter_map(|line| line.split_whitespace().next()).any(|taken| taken == number.to_string())
}

impl Waiting {
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut id = None;
        let mut ends = None;
        for attribute in Attributes::of(payload.get(4..)?) {
            match attribute.kind {
                // `struct nfqnl_msg_packet_hdr` begins with the number of the packet.
                1 => id = attribute.value.first_chunk().map(|id| u32::from_be_bytes(*id)),
                10 => ends = Ends::parse(attribute.value),
                _ => {}
            }
        }
        Some(Self { id: id?, ends })
    }
}

impl Ends {
    /// Of an IP packet (RFC 791, RFC 8200) with a TCP header right behind.
    fn parse(packet: &[u8]) -> Option<Self> {
        const TCP: u8 = 6;
        let (from, to, rest): (IpAddr, IpAddr, _) = match packet.first()? >> 4 {
            4 if packet.get(9) == Some(&TCP) => {
                let length = usize::from(packet.first()? & 0xf) * 4;
                let address = |at: usize| packet.get(at..)?.first_chunk::<4>().map(|bytes| (*bytes).into());
                (address(12)?, address(16)?, packet.get(length..)?)
            }
            6 if packet.get(6) == Some(&TCP) => {
                let address = |at: usize| packet.get(at..)?.first_chunk::<16>().map(|bytes| (*bytes).into());
                (address(8)?, address(24)?, packet.get(40..)?)
            }
            _ => return None,
        };
        let port = |at: usize| rest.get(at..)?.first_chunk().map(|port| u16::from_be_bytes(*port));
        Some(Self { from: SocketAddr::new(from, port(0)?), to: SocketAddr::new(to, port(2)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::{Destination, Hook, Match, Queueing, Table, Verdict};
    use crate::testing::{eventually, in_new_netns};
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    fn table(queue: &Queue, port: u16) -> Table {
        let syn = Match { hook: Hook::Arrival, to: Destination::Local, port };
        let install = |by| {
            Table::install(&[(syn, Verdict::Queue { number: queue.number(), by })], Duration::from_secs(60))
        };
        install(Queueing::Native).or_else(|_| install(Queueing::Target)).unwrap()
    }

    #[test]
    fn a_connection_waits_until_it_is_let_go() {
        in_new_netns(|| {
            for listener in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(listener).unwrap();
                let address = listener.local_addr().unwrap();
                let mut queue = Queue::bind().unwrap();
                let _table = table(&queue, address.port());

                let client =
                    thread::spawn(move || TcpStream::connect(address).unwrap().local_addr().unwrap());
                let mut waiting = Vec::new();
                eventually("it waits", || {
                    queue.arrivals(|packet| waiting.push(packet)).unwrap();
                    !waiting.is_empty()
                });
                let ends = waiting[0].ends.unwrap();
                assert_eq!(ends.to, address);
                listener.set_nonblocking(true).unwrap();
                assert!(listener.accept().is_err(), "nothing has arrived at the program");

                queue.accept(&waiting[0]).unwrap();
                assert_eq!(client.join().unwrap(), ends.from);
            }
        });
    }

    /// What waits is lost when its rule is removed, but not when that is only lifted: the client need not ask again.
    #[test]
    fn what_waits_goes_on_when_the_rules_are_lifted() {
        in_new_netns(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut queue = Queue::bind().unwrap();
            let mut table = table(&queue, address.port());
            let client = thread::spawn(move || {
                let began = std::time::Instant::now();
                TcpStream::connect(address).map(|_| began.elapsed()).unwrap()
            });
            let mut waiting = Vec::new();
            eventually("it waits", || {
                queue.arrivals(|packet| waiting.push(packet)).unwrap();
                !waiting.is_empty()
            });
            table.lift().unwrap();
            TcpStream::connect(address).expect("nothing more is held");
            queue.accept(&waiting[0]).unwrap();
            assert!(client.join().unwrap() < Duration::from_millis(900), "its SYN was lost");
        });
    }

    #[test]
    fn when_nobody_decides_connections_pass() {
        in_new_netns(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let queue = Queue::bind().unwrap();
            let _table = table(&queue, address.port());
            drop(queue);
            TcpStream::connect(address).expect("bypassed");
        });
    }

    #[test]
    fn a_number_in_use_is_passed_over() {
        in_new_netns(|| {
            let queues: Vec<_> = (0..3).map(|_| Queue::bind().unwrap()).collect();
            assert!(queues[0].number() != queues[1].number() && queues[1].number() != queues[2].number());
        });
    }

    #[test]
    fn torn_packets_have_no_ends() {
        let mut v4 =
            vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 2, 0x1f, 0x90, 0, 80];
        let ends = Ends { from: "127.0.0.1:8080".parse().unwrap(), to: "127.0.0.2:80".parse().unwrap() };
        assert_eq!(Ends::parse(&v4), Some(ends));
        for end in 0..v4.len() {
            assert_eq!(Ends::parse(&v4[..end]), None);
        }
        v4[9] = 17;
        assert_eq!(Ends::parse(&v4), None, "UDP");
        let mut v6 = vec![0; 44];
        v6[0] = 0x60;
        v6[6] = 6;
        v6[23] = 1;
        assert_eq!(Ends::parse(&v6).unwrap().from, "[::1]:0".parse().unwrap());
        assert_eq!(Ends::parse(&v6[..43]), None);
    }
}
