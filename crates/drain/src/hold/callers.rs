//! Who asks for a connection, if it is somebody on this machine.
//!
//! A program may connect to itself: to wake the thread that accepts when it is to end (as Tomcat does), or because it needs
//! its own answer for another one. If that waited for the program to end, the program would wait for itself.
//!
//! A request for a connection does not say who sends it, but the kernel has a socket for it, and the socket is among
//! somebody's files. To look at the files of a program takes its time, so nobody's turn comes before several may be waiting: as
//! all looking, it has its [`budget`](crate::budget).

use std::time::Duration;

use gracefully_linux::holders;
use gracefully_linux::sock_diag::{SockDiag, State, States, Which};
use rustix::io::Result;

use crate::budget::pause_after;
use crate::clock::processor_time;
use crate::owners::Owners;
use crate::queue::{Ends, Waiting};

/// Tells a program's own requests from others of this machine.
#[derive(Debug)]
pub(super) struct Callers {
    owners: Owners,
    sockets: SockDiag,
    /// When each came, and the inode of its socket.
    unknown: Vec<(Duration, Waiting, u64)>,
    /// Not before this the program's files are looked at again.
    look_at: Duration,
}

/// A request of which it is known who sent it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) since: Duration,
    pub(super) packet: Waiting,
    pub(super) is_program: bool,
}

impl Callers {
    /// For the program with this main process, in the network namespace of the calling thread.
    pub(super) fn of(main: u32) -> Result<Self> {
        Ok(Self {
            owners: Owners::of(main),
            sockets: sockets()?,
            unknown: Vec::new(),
            look_at: Duration::ZERO,
        })
    }

    /// Is it sent from this machine? Then it is kept until it is [`known`](Self::known) by whom.
    pub(super) fn ask(&mut self, packet: &Waiting, now: Duration) -> bool {
        let inode = packet.ends.and_then(|ends| asking(&mut self.sockets, ends));
        self.unknown.extend(inode.map(|inode| (now, *packet, inode)));
        inode.is_some()
    }

    /// When it is worth asking who is known.
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.unknown.is_empty()).then_some(self.look_at)
    }

    /// Those of whom it is not known, each with the time at which it came.
    pub(super) fn unknown(self) -> impl Iterator<Item = (Duration, Waiting)> {
        self.unknown.into_iter().map(|(since, packet, _)| (since, packet))
    }

    /// Those of whom it is known now.
    pub(super) fn known(&mut self, now: Duration) -> Vec<Caller> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        let began = processor_time();
        self.owners.refresh();
        self.look_at = now + pause_after(began);
        let owners = &self.owners;
        let known = |(since, packet, inode)| Caller { since, packet, is_program: owners.have(inode) };
        self.unknown.drain(..).map(known).collect()
    }
}

/// Whether a connection comes from the userland proxy of the engine, which has accepted its client already.
pub(super) fn is_of_proxy(ends: Ends) -> bool {
    let Some(inode) = sockets().ok().and_then(|mut sockets| asking(&mut sockets, ends)) else { return false };
    let has_it = |pid| holders::sockets(pid).is_ok_and(|open| open.iter().any(|(_, open)| *open == inode));
    proxies().any(has_it)
}

fn sockets() -> Result<SockDiag> {
    SockDiag::open(Which { states: States::CONNECTING, ports: &[] })
}

/// The inode of the socket of this network namespace that asks for this connection.
fn asking(sockets: &mut SockDiag, ends: Ends) -> Option<u64> {
    let socket = sockets.find(ends.from, ends.to).ok().flatten()?;
    (socket.state == State::SynSent && socket.inode != 0).then_some(socket.inode)
}

/// The processes of Docker's userland proxy.
fn proxies() -> impl Iterator<Item = u32> {
    let pids = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == b"docker-proxy\n"))
}
