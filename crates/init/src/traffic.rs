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
//! `/proc/self/net/snmp`).
//!
//! A look costs processor time in proportion to the sockets, so the pause after it is at least twenty times as long as it
//! took.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::traffic::Traffic;
use gracefully_linux::Errno;
use gracefully_linux::connection::{Activity, Connection};
use gracefully_linux::connections::accepted_ever;
use gracefully_linux::family::descendants;
use gracefully_linux::holders::sockets;
use gracefully_linux::sock_diag::{SockDiag, State, States, Which};

use crate::arguments::Ports;
use crate::clock::now;

/// The shortest pause between two looks.
const SHORTEST: Duration = Duration::from_millis(5);

/// A look may cost this part of the time.
const SHARE: u32 = 20;

/// Who is looking.
#[derive(Debug)]
pub struct Watch {
    table: SockDiag,
    ports: Vec<u16>,
    connections: BTreeMap<u64, Connection>,
    accepted: Option<u64>,
    /// Nothing is new at the first look.
    looked: bool,
    look_at: Duration,
}

impl Watch {
    /// Begins to look at connections to these ports.
    pub fn begin(ports: &Ports, us: u32) -> Result<Self, Errno> {
        let ports = match ports {
            Ports::These(ports) => ports.clone(),
            Ports::Auto => listening(us)?,
        };
        let which = Which { states: States::LIVE, ports: &ports };
        let table = SockDiag::open(which)?;
        let accepted = accepted_ever();
        Ok(Self { table, ports, connections: BTreeMap::new(), accepted, looked: false, look_at: now() })
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
        let accepted = accepted_ever();
        if let (Some(before), Some(after)) = (self.accepted, accepted) {
            traffic.new = traffic.new.max(u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX));
        }
        self.accepted = accepted;
        self.looked = true;
        let took = now().saturating_sub(began);
        self.look_at = now() + (took * SHARE).max(SHORTEST);
        Ok(traffic)
    }

    fn look_at_sockets(&mut self, now: Duration, traffic: &mut Traffic) -> Result<(), Errno> {
        let mut seen = BTreeSet::new();
        let (connections, first) = (&mut self.connections, !self.looked);
        self.table.dump(|socket| {
            if socket.state == State::Listen {
                traffic.in_flight = traffic.in_flight.saturating_add(socket.receive_queue);
                return;
            }
            seen.insert(socket.cookie);
            let known = connections.len();
            let connection = connections.entry(socket.cookie).or_insert_with(|| Connection::new(socket, now));
            connection.look(socket, now);
            let activity = connection.activity(now);
            if connections.len() > known && !first {
                traffic.new += 1;
            }
            // Those that wait to be accepted are counted with the listening socket.
            let unaccepted = socket.inode == 0 && socket.state == State::Established;
            if matches!(activity, Activity::Busy(_)) && !unaccepted {
                traffic.in_flight = traffic.in_flight.saturating_add(1);
            }
        })?;
        connections.retain(|cookie, _| seen.contains(cookie));
        Ok(())
    }
}

/// The ports at which the program listens: those of our descendants' sockets, or of all in the namespace if we may not see
/// whose they are.
fn listening(us: u32) -> Result<Vec<u16>, Errno> {
    let theirs: BTreeSet<u64> = descendants(us)
        .into_iter()
        .filter_map(|pid| sockets(pid).ok())
        .flat_map(|open| open.into_iter().map(|(_, inode)| inode))
        .collect();
    let mut all = Vec::new();
    SockDiag::open(Which { states: States::LISTENING, ports: &[] })?
        .dump(|socket| all.push((socket.local.port(), socket.inode)))?;
    let known = all.iter().any(|(_, inode)| theirs.contains(inode));
    let mut ports: Vec<u16> =
        all.into_iter().filter(|(_, inode)| !known || theirs.contains(inode)).map(|(port, _)| port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// Does the program, or anybody who descends from us, listen anywhere?
pub fn listens(us: u32) -> bool {
    listening(us).is_ok_and(|ports| !ports.is_empty())
}
