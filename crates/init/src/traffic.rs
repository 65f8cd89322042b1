//! Waiting for connections, from inside the container.
//!
//! The kernel's table of sockets can be read by everybody in the network namespace, also by uid 1000 in a container without
//! capabilities (`linux::sock_diag`); closing, holding or refusing anything would take more. So this only waits: until
//! no new connection has come for a while, and until no request is under way. What a connection is doing is judged as the
//! command line tool does it (`linux::connection`), without its ear on the wire, which takes a privilege: an answer is over
//! when it has been silent for a moment.
//!
//! **Who is new** is counted twice. The table shows who is there; who came and went between two looks is only in the
//! kernel's count of all connections that were ever accepted in this namespace (`PassiveOpens`, RFC 4022,
//! `/proc/self/net/snmp`), which is of use if nobody else listens there.
//!
//! A look costs processor time in proportion to the sockets, so the pause after it is at least twenty times as long as it
//! took.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::traffic::{Traffic, Why};
use gracefully_linux::connection::{Activity, Connection};
use gracefully_linux::connections::accepted_ever;
use gracefully_linux::family::descendants;
use gracefully_linux::holders::sockets;
use gracefully_linux::process::stat;
use gracefully_linux::sock_diag::{SockDiag, State, States, Which};
use gracefully_linux::{Errno, tcp_table};

use crate::arguments::Ports;
use crate::clock::now;

/// The shortest pause between two looks.
const SHORTEST: Duration = Duration::from_millis(5);

/// A look may cost this part of the time.
const SHARE: u32 = 20;

/// Who is looking.
#[derive(Debug)]
pub struct Watch {
    us: u32,
    table: SockDiag,
    ports: Vec<u16>,
    connections: BTreeMap<u64, Connection>,
    /// How many connections were ever accepted, if they are all the program's.
    accepted: Option<u64>,
    /// Nothing is new at the first look.
    looked: bool,
    look_at: Duration,
}

impl Watch {
    /// Begins to look at connections to these ports.
    pub fn begin(ports: &Ports, us: u32) -> Result<Self, Errno> {
        let listening = listening(us)?;
        let ports = match ports {
            Ports::These(ports) => ports.clone(),
            Ports::Auto => listening.ports,
        };
        let which = Which { states: States::LIVE, ports: &ports };
        let table = SockDiag::open(which)?;
        let accepted = if listening.alone { accepted_ever() } else { None };
        Ok(Self { us, table, ports, connections: BTreeMap::new(), accepted, looked: false, look_at: now() })
    }

    /// When to look next.
    pub fn due(&self) -> Duration {
        self.look_at
    }

    /// Looks.
    pub fn look(&mut self) -> Result<Traffic, Errno> {
        let began = now();
        let mut traffic = Traffic::default();
        // Who listens nowhere has no clients; an empty list would mean all sockets.
        if !self.ports.is_empty() {
            self.look_at_sockets(began, &mut traffic)?;
        }
        if let Some(before) = self.accepted {
            let after = accepted_ever().unwrap_or(before);
            traffic.new = traffic.new.max(u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX));
            self.accepted = Some(after);
        }
        self.looked = true;
        let took = now().saturating_sub(began);
        self.look_at = now() + (took * SHARE).max(SHORTEST);
        Ok(traffic)
    }

    fn look_at_sockets(&mut self, now: Duration, traffic: &mut Traffic) -> Result<(), Errno> {
        // Cookie and inode of each.
        let mut seen = BTreeMap::new();
        let (connections, first) = (&mut self.connections, !self.looked);
        self.table.dump(|socket| {
            if socket.state == State::Listen {
                traffic.in_flight = traffic.in_flight.saturating_add(socket.receive_queue);
                return;
            }
            seen.insert(socket.cookie, socket.inode);
            let known = connections.len();
            connections
                .entry(socket.cookie)
                .or_insert_with(|| Connection::new(socket, now))
                .look(socket, now);
            if connections.len() > known && !first {
                traffic.new += 1;
            }
        })?;
        connections.retain(|cookie, _| seen.contains_key(cookie));
        // Where it is unclear who sent last, the kernel's own idea may help: a connection with one request and its answer in the
        // same tick of the clock, for one.
        let with_inodes =
            connections.iter_mut().filter_map(|(cookie, connection)| Some((*seen.get(cookie)?, connection)));
        tcp_table::clarify(self.us, with_inodes, now);
        for connection in connections.values() {
            // Those that wait to be accepted are counted with the listening socket.
            if matches!(connection.activity(now), Activity::Busy(why) if why != Why::Unaccepted) {
                traffic.in_flight = traffic.in_flight.saturating_add(1);
            }
        }
        Ok(())
    }
}

/// Who listens in our network namespace.
struct Listening {
    /// The ports at which the program listens: those of our descendants' sockets, or of all if we may not see whose they are.
    ports: Vec<u16>,
    /// Nobody else does, so that every connection is the program's.
    alone: bool,
}

fn listening(us: u32) -> Result<Listening, Errno> {
    let (mut theirs, mut hidden) = (BTreeSet::new(), false);
    for pid in descendants(us) {
        match sockets(pid) {
            Ok(open) => theirs.extend(open.into_iter().map(|(_, inode)| inode)),
            // A process that has ended has nothing open.
            Err(_) => hidden |= stat(pid).is_some_and(|stat| stat.ended.is_none() && !stat.exiting),
        }
    }
    let mut listening = Listening { ports: Vec::new(), alone: true };
    SockDiag::open(Which { states: States::LISTENING, ports: &[] })?.dump(|socket| {
        if hidden || theirs.contains(&socket.inode) {
            listening.ports.push(socket.local.port());
        } else {
            listening.alone = false;
        }
    })?;
    listening.ports.sort_unstable();
    listening.ports.dedup();
    Ok(listening)
}

/// Does the program, or anybody who descends from us, listen anywhere?
pub fn listens(us: u32) -> bool {
    listening(us).is_ok_and(|listening| !listening.ports.is_empty())
}
