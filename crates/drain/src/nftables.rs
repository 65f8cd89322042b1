//! Firewall rules of our own, spoken to the kernel directly: no `nft` or `iptables` is needed or run.
//!
//! Rules are in chains, chains in tables. A chain is tied to a hook, a place on the way of a packet through the kernel,
//! with a priority that says who comes first there. A rule is a list of expressions: each loads something of the packet
//! into a register, compares a register, or decides; the first comparison that fails ends the rule. The kernel takes
//! everything between "begin" and "end" of a batch, or nothing (`nf_tables_api.c`, `include/uapi/linux/netfilter/nf_tables.h`).
//!
//! Everything of ours is in one table, with `NFT_TABLE_F_OWNER` (Linux 5.12): it belongs to the socket that made it, nobody
//! else can change it, and **the kernel removes it when that socket is closed**, however its process ended. So a table of
//! ours cannot stay behind, and no rule of anybody else is ever touched. Against a process of ours that hangs, or is stopped
//! by SIGSTOP, there is a second limit: every rule looks for an element in a set that the kernel removes when its time is
//! up, and holds no longer than that.

use std::net::IpAddr;
use std::time::Duration;

use gracefully_linux::netlink::{ACK, REQUEST, Socket, Writer};
use rustix::io::{Errno, Result};
use rustix::net::netlink::NETFILTER;
use rustix::time::{ClockId, clock_gettime};

use self::expression::{
    Header, Meta, REGISTER, bitwise_and, compare, compare_not, destination_type, expression, meta, number,
    payload, string,
};

mod expression;

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of a message's type.
const NFTABLES: u16 = 10 << 8;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`
const BATCH: [u16; 2] = [0x10, 0x11];

/// `NFT_MSG_NEWTABLE`, `NFT_MSG_NEWCHAIN`, `NFT_MSG_NEWRULE`; to make them, `NLM_F_CREATE`.
const NEW_TABLE: u16 = NFTABLES;
const NEW_CHAIN: u16 = NFTABLES | 3;
const NEW_RULE: u16 = NFTABLES | 6;
const NEW_SET: u16 = NFTABLES | 9;
const NEW_ELEMENT: u16 = NFTABLES | 0xc;
/// `NFT_MSG_DELSETELEM`
const DELETE_ELEMENT: u16 = NFTABLES | 0xe;
const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: a rule comes after those before.
const APPEND: u16 = 0x800;

/// `NFPROTO_INET`: IPv4 and IPv6 in one table.
const INET: u8 = 1;

/// `NFT_TABLE_F_OWNER`
const OWNER: u32 = 2;

/// The set whose one element says that the rules are in force, and the value of that element.
const IN_FORCE: &str = "in-force";
const ELEMENT: [u8; 4] = [0, 0, 0, 1];

/// The longest time that the kernel takes for an element, about 23 days, in milliseconds (`nf_msecs_to_jiffies64`).
const LONGEST: u64 = 2_000_000_000;

/// `NFT_SET_TIMEOUT`: elements have a time.
const WITH_TIME: u32 = 0x10;

/// Before everything that docker, firewalld and people do, and before the kernel remembers connections (conntrack, -200):
/// what is held has left no trace when it goes on.
const PRIORITY: i32 = -310;

/// Where on their way packets meet a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// They arrive, from another machine, a bridge or the loopback interface.
    Arrival,
    /// They arrive, but not by the loopback interface: what this machine sends to itself met its rule when it was sent.
    ArrivalFromOthers,
    /// A program of this machine sends them. What is translated to another destination (DNAT) is seen before that, as if
    /// it went to ourselves.
    Departure,
}

/// The chains of a table: name, and number of the kernel's hook (`NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`).
const CHAINS: [(&str, u32); 2] = [("prerouting", 0), ("output", 3)];

impl Hook {
    fn chain(self) -> &'static str {
        match self {
            Self::Arrival | Self::ArrivalFromOthers => CHAINS[0].0,
            Self::Departure => CHAINS[1].0,
        }
    }
}

/// Which requests for a connection meet a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) hook: Hook,
    pub(crate) to: Destination,
    pub(crate) port: u16,
}

/// To where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Any address of this machine.
    Local,
    /// Any IPv4 address of this machine.
    LocalV4,
    /// This one.
    Address(IpAddr),
}

/// What happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They wait in this queue for a program's decision; if there is no such program, they pass.
    Queue {
        number: u16,
        /// How this kernel is told to.
        by: Queueing,
    },
    /// They are answered with a reset.
    Reset,
    /// Those that bear this mark are answered with a reset.
    ResetMarked(u32),
    /// They vanish; the peer tries again after a second.
    Drop,
}

/// The two ways to tell a kernel to queue; which of them it knows depends on how it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queueing {
    /// The `queue` expression (`CONFIG_NFT_QUEUE`).
    Native,
    /// The NFQUEUE target of iptables, by way of `nft_compat`: what iptables-nft sends.
    Target,
}

/// Rules in force. They are gone when this is dropped, and when the process ends.
#[derive(Debug)]
pub(crate) struct Table {
    owner: Socket,
    name: String,
}

impl Table {
    /// Puts rules in force in the network namespace of the calling thread, all or none, for at most this long.
    ///
    /// Fails with `EPERM` without `CAP_NET_ADMIN`, and with other errors where the kernel lacks something: `nf_tables`
    /// itself, an owner for tables, or an expression of the rules.
    pub(crate) fn install(rules: &[(Match, Verdict)], at_most: Duration) -> Result<Self> {
        let mut owner = Socket::open(NETFILTER)?;
        let name = new_name();
        let (batch, last) = batch(&name, rules, at_most);
        owner.acknowledged(batch.as_bytes(), last)?;
        Ok(Self { owner, name })
    }

    /// The same with rules that queue: `rules` makes them for the way to queue that this kernel knows.
    pub(crate) fn install_queueing<R>(rules: impl Fn(Queueing) -> R, at_most: Duration) -> Result<Self>
    where
        R: IntoIterator<Item = (Match, Verdict)>,
    {
        let install = |by| Self::install(&rules(by).into_iter().collect::<Vec<_>>(), at_most);
        match install(Queueing::Native) {
            // This kernel does not know the expression.
            Err(Errno::NOENT) => install(Queueing::Target),
            installed => installed,
        }
    }

    /// From now on the rules meet nothing more. What waits in a queue because of them goes on waiting; it would be dropped
    /// if they were removed, because the kernel forgets every queued packet with the hook that has queued it
    /// (`nf_queue_nf_hook_drop`).
    pub(crate) fn lift(&mut self) -> Result<()> {
        let mut batch = Batch::begin();
        let last = batch.message(DELETE_ELEMENT, ACK, &|to| element(to, &self.name, None));
        let batch = batch.end();
        self.owner.acknowledged(batch.as_bytes(), last)
    }
}

/// A name that nobody else has: others of us may be at work, also in other PID namespaces.
fn new_name() -> String {
    let now = clock_gettime(ClockId::Boottime);
    format!("gracefully-{}-{:x}{:08x}", std::process::id(), now.tv_sec, now.tv_nsec)
}

/// Messages that the kernel takes together.
struct Batch {
    writer: Writer,
    sequence: u32,
}

impl Batch {
    fn begin() -> Self {
        let mut batch = Self { writer: Writer::default(), sequence: 0 };
        batch.message(BATCH[0], 0, &|_| {});
        batch
    }

    /// Adds a message, and returns its number.
    fn message(&mut self, kind: u16, flags: u16, fill: &dyn Fn(&mut Writer)) -> u32 {
        self.sequence += 1;
        // What begins and ends a batch is for the whole subsystem; everything else is for a family.
        let (family, subsystem) = if BATCH.contains(&kind) { (0, 10_u16) } else { (INET, 0) };
        self.writer.message(kind, REQUEST | flags, self.sequence, |message| {
            // `struct nfgenmsg`
            message.put(&[family, 0]);
            message.put(&subsystem.to_be_bytes());
            fill(message);
        });
        self.sequence
    }

    fn end(mut self) -> Writer {
        self.message(BATCH[1], 0, &|_| {});
        self.writer
    }
}

/// The element that says that the rules are in force, with its time if it is a new one.
fn element(to: &mut Writer, table: &str, time: Option<Duration>) {
    string(to, 1, table);
    string(to, 2, IN_FORCE);
    to.nested(3, |to| {
        to.nested(1, |to| {
            to.nested(1, |to| to.attribute(1, |to| to.put(&ELEMENT)));
            if let Some(time) = time {
                let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, LONGEST);
                to.attribute(4, |to| to.put(&time.to_be_bytes()));
            }
        });
    });
}

fn batch(table: &str, rules: &[(Match, Verdict)], at_most: Duration) -> (Writer, u32) {
    let mut batch = Batch::begin();
    let mut last = batch.message(NEW_TABLE, CREATE | ACK, &|to| {
        string(to, 1, table);
        number(to, 2, OWNER);
    });
    for (chain, hook) in
        CHAINS.into_iter().filter(|(chain, _)| rules.iter().any(|(to, _)| to.hook.chain() == *chain))
    {
        last = batch.message(NEW_CHAIN, CREATE | ACK, &|to| {
            string(to, 1, table);
            string(to, 3, chain);
            to.nested(4, |to| {
                number(to, 1, hook);
                number(to, 2, PRIORITY.cast_unsigned());
            });
            string(to, 7, "filter");
        });
    }
    batch.message(NEW_SET, CREATE | ACK, &|to| {
        string(to, 1, table);
        string(to, 2, IN_FORCE);
        number(to, 3, WITH_TIME);
        // The type is for people who list it (`integer` of nft(8)); the length counts.
        number(to, 4, 4);
        number(to, 5, 4);
        // Its number within the batch.
        number(to, 10, 1);
    });
    batch.message(NEW_ELEMENT, CREATE | ACK, &|to| element(to, table, Some(at_most)));
    for (which, verdict) in rules {
        last = batch.message(NEW_RULE, CREATE | APPEND | ACK, &|to| {
            string(to, 1, table);
            string(to, 2, which.hook.chain());
            to.nested(4, |to| {
                which.write(to);
                is_in_force(to);
                verdict.write(to);
            });
        });
    }
    (batch.end(), last)
}

impl Match {
    fn write(self, to: &mut Writer) {
        // A packet of TCP …
        meta(to, Meta::TransportProtocol);
        compare(to, &[6]);
        // … for this port, at offset 2 of its header …
        payload(to, Header::Transport, 2, 2);
        compare(to, &self.port.to_be_bytes());
        // … that asks for a connection: SYN without FIN, RST and ACK, in byte 13 (RFC 9293, section 3.1).
        payload(to, Header::Transport, 13, 1);
        bitwise_and(to, 0b0001_0111);
        compare(to, &[0b0000_0010]);
        match self.to {
            Destination::Local | Destination::LocalV4 => {
                if self.to == Destination::LocalV4 {
                    meta(to, Meta::NetworkProtocol);
                    compare(to, &[2]);
                }
                destination_type(to);
                // `RTN_LOCAL` of `include/uapi/linux/rtnetlink.h`
                compare(to, &2_u32.to_ne_bytes());
            }
            // Offsets of the destination: RFC 791, section 3.1; RFC 8200, section 3.
            Destination::Address(IpAddr::V4(address)) => {
                meta(to, Meta::NetworkProtocol);
                compare(to, &[2]);
                payload(to, Header::Network, 16, 4);
                compare(to, &address.octets());
            }
            Destination::Address(IpAddr::V6(address)) => {
                meta(to, Meta::NetworkProtocol);
                compare(to, &[10]);
                payload(to, Header::Network, 24, 16);
                compare(to, &address.octets());
            }
        }
        if self.hook == Hook::ArrivalFromOthers {
            meta(to, Meta::InputInterfaceType);
            // `ARPHRD_LOOPBACK`
            compare_not(to, &772_u16.to_ne_bytes());
        }
    }
}

impl Verdict {
    fn write(self, to: &mut Writer) {
        match self {
            Self::Queue { number, by: Queueing::Native } => expression(to, "queue", |to| {
                to.attribute(1, |to| to.put(&number.to_be_bytes()));
                to.attribute(2, |to| to.put(&1_u16.to_be_bytes()));
                // `NFT_QUEUE_FLAG_BYPASS`
                to.attribute(3, |to| to.put(&1_u16.to_be_bytes()));
            }),
            Self::Queue { number, by: Queueing::Target } => expression(to, "target", |to| {
                string(to, 1, "NFQUEUE");
                // The revision with flags: `struct xt_NFQ_info_v3`, filled up to a multiple of 8 (XT_ALIGN).
                expression::number(to, 2, 3);
                to.attribute(3, |to| {
                    for field in [number, 1, 1, 0] {
                        to.put(&field.to_ne_bytes());
                    }
                });
            }),
            Self::Reset => expression(to, "reject", |to| {
                // `NFT_REJECT_TCP_RST`
                number(to, 1, 1);
                to.attribute(2, |to| to.put(&[0]));
            }),
            Self::ResetMarked(mark) => {
                meta(to, Meta::Mark);
                compare(to, &mark.to_ne_bytes());
                Self::Reset.write(to);
            }
            Self::Drop => expression(to, "immediate", |to| {
                // Register 0 is the verdict; `NF_DROP` is zero.
                number(to, 1, 0);
                to.nested(2, |to| to.nested(2, |to| number(to, 1, 0)));
            }),
        }
    }
}

/// Is the time of the rules not up?
fn is_in_force(to: &mut Writer) {
    expression(to, "immediate", |to| {
        number(to, 1, REGISTER);
        to.nested(2, |to| to.attribute(1, |to| to.put(&ELEMENT)));
    });
    expression(to, "lookup", |to| {
        string(to, 1, IN_FORCE);
        number(to, 2, REGISTER);
        number(to, 4, 1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_new_netns;
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    fn to(hook: Hook, to: Destination, address: SocketAddr) -> Match {
        Match { hook, to, port: address.port() }
    }

    /// What a client sees.
    fn connect(address: SocketAddr) -> Option<ErrorKind> {
        TcpStream::connect_timeout(&address, Duration::from_millis(100)).err().map(|error| error.kind())
    }

    #[test]
    fn rules_meet_their_port_and_nothing_else_and_go_with_us() {
        in_new_netns(|| {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let (one, other) = (TcpListener::bind(address).unwrap(), TcpListener::bind(address).unwrap());
                let (one, other) = (one.local_addr().unwrap(), other.local_addr().unwrap());
                let before = TcpStream::connect(one);
                for (verdict, seen) in
                    [(Verdict::Reset, ErrorKind::ConnectionRefused), (Verdict::Drop, ErrorKind::TimedOut)]
                {
                    for destination in [Destination::Local, Destination::Address(one.ip())] {
                        let table =
                            Table::install(&[(to(Hook::Arrival, destination, one), verdict)], LONG).unwrap();
                        assert_eq!(connect(one), Some(seen), "{destination:?} {verdict:?}");
                        assert_eq!(connect(other), None);
                        drop(table);
                        assert_eq!(connect(one), None);
                    }
                }
                drop(before);
            }
        });
    }

    #[test]
    fn rules_for_an_address_spare_others() {
        in_new_netns(|| {
            let listener = TcpListener::bind("0.0.0.0:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (meant, other) =
                (SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port)));
            let rule = to(Hook::Arrival, Destination::Address(meant.ip()), meant);
            let _table = Table::install(&[(rule, Verdict::Reset)], LONG).unwrap();
            assert_eq!(connect(meant), Some(ErrorKind::ConnectionRefused));
            assert_eq!(connect(other), None);
        });
    }

    #[test]
    fn what_goes_to_ourselves_meets_its_rule_once() {
        in_new_netns(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let install = |hook, verdict| {
                Table::install(&[(to(hook, Destination::Local, address), verdict)], LONG).unwrap()
            };
            let arriving = install(Hook::ArrivalFromOthers, Verdict::Reset);
            assert_eq!(connect(address), None, "it arrives by the loopback interface");
            for (verdict, seen) in
                [(Verdict::Reset, ErrorKind::ConnectionRefused), (Verdict::Drop, ErrorKind::TimedOut)]
            {
                let _leaving = install(Hook::Departure, verdict);
                assert_eq!(connect(address), Some(seen), "{verdict:?}");
            }
            drop(arriving);
        });
    }

    #[test]
    fn rules_end_by_themselves_when_their_time_is_up() {
        in_new_netns(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let rule = to(Hook::Arrival, Destination::Local, address);
            let time = Duration::from_millis(300);
            let began = Instant::now();
            let _table = Table::install(&[(rule, Verdict::Reset)], time).unwrap();
            assert_eq!(connect(address), Some(ErrorKind::ConnectionRefused));
            crate::testing::eventually("they end", || connect(address).is_none());
            let tick = Duration::from_millis(10);
            assert!(began.elapsed() + tick >= time);
        });
    }

    #[test]
    fn two_of_us_do_not_disturb_each_other() {
        in_new_netns(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let rule = to(Hook::Arrival, Destination::Local, address);
            let first = Table::install(&[(rule, Verdict::Reset)], LONG).unwrap();
            let second = Table::install(&[(rule, Verdict::Reset)], LONG).unwrap();
            drop(first);
            assert_eq!(connect(address), Some(ErrorKind::ConnectionRefused));
            drop(second);
            assert_eq!(connect(address), None);
        });
    }

    #[test]
    fn a_rule_that_the_kernel_refuses_leaves_nothing() {
        in_new_netns(|| {
            let queue = |by| Verdict::Queue { number: 7, by };
            let rule = Match { hook: Hook::Arrival, to: Destination::Local, port: 80 };
            let tried =
                [Queueing::Native, Queueing::Target].map(|by| Table::install(&[(rule, queue(by))], LONG));
            assert!(tried.iter().any(Result::is_ok), "{tried:?}");
            for refused in tried.iter().filter_map(|tried| tried.as_ref().err()) {
                assert_eq!(*refused, Errno::NOENT);
            }
        });
    }
}
