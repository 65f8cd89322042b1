//! Keeping new connections waiting, without failing one.
//!
//! A client that asks for a connection sends a SYN and waits; its kernel sends it again after a second, then after two
//! more (RFC 6298), and gives up after minutes. So a SYN may be kept for seconds, and nobody notices but by the time.
//!
//! | method | what happens to a SYN | how long beyond the release a client waits | needs |
//! |---|---|---|---|
//! | [`nfqueue`] | it waits in a queue of ours and goes on when it is released | no longer | `CAP_NET_ADMIN`, `nf_tables` with `queue` or `nft_compat`, `nfnetlink_queue` |
//! | [`nft_drop`] | it is dropped; the client sends it again | up to a second or two | `CAP_NET_ADMIN`, `nf_tables` |
//! | [`listener_filter`] | the listening socket drops it | as above; only while the program lives | `CAP_BPF` and `CAP_SYS_PTRACE` |
//!
//! **Every method fails open.** The rules of the first two belong to a socket of ours, and the kernel removes them with it; the
//! third opens by itself after 100 ms. However we end, new connections flow again within that time.

mod callers;
pub(crate) mod listener_filter;
pub(crate) mod nfqueue;
pub(crate) mod nft_drop;
mod refusal;

use std::fmt;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use gracefully_core::traffic::Method;
use gracefully_linux::netns::NetNs;
use rustix::io::{Errno, Result};

pub(crate) use self::refusal::Refusal;
use crate::nftables::{Destination, Hook, Match, Table, Verdict};
use crate::target::Target;
use crate::valve::{Kind, Valves};
use crate::watch::Watch;

/// One way to keep new connections waiting.
pub(crate) trait Hold: fmt::Debug + Send {
    /// Which one.
    fn method(&self) -> Method;

    /// What becomes readable when there is work for [`turn`](Self::turn).
    fn readable(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// When [`turn`](Self::turn) is due anyway.
    fn due(&self) -> Option<Duration> {
        None
    }

    /// Does what is to be done now.
    fn turn(&mut self, now: Duration) -> Result<()>;

    /// From now on nothing more is held. What is held already stays so.
    fn open(&mut self);

    /// Lets at most so many go, those first that came first.
    fn let_go(&mut self, at_most: u32, now: Duration) -> Result<()>;

    /// How many are waiting at present.
    fn waiting(&self) -> u32;

    /// What happened so far.
    fn tally(&self) -> Tally;
}

/// What a hold did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Connections that were kept waiting.
    pub(crate) held: u32,
    /// The longest that one of them waited with us.
    pub(crate) longest: Duration,
    /// Connections that were let through because too many were waiting.
    pub(crate) overflowed: u32,
}

/// The ways by which clients reach a program: where rules must be, and what they must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doors {
    pub(crate) matches: Vec<Match>,
    /// In the program's own network namespace instead of ours.
    pub(crate) inside: bool,
    /// What the program sends to itself comes by them, too.
    pub(crate) programs_own: bool,
}

impl Doors {
    /// All ways to the ports at which the program listens.
    pub(crate) fn of(target: &Target, watch: &Watch) -> Self {
        let ports = watch.inside.ports();
        if watch.shares_ours {
            // Everything arrives, what it sends to itself by the loopback interface. At other addresses of this machine
            // others may listen at the same port.
            let matches = watch.inside.listening_at().iter().map(|at| {
                let to = match at.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Destination::LocalV4,
                    // It takes IPv4, too, unless it was told not to.
                    ip if ip.is_unspecified() => Destination::Local,
                    ip => Destination::Address(ip),
                };
                Match { hook: Hook::Arrival, to, port: at.port() }
            });
            return Self { matches: matches.collect(), inside: false, programs_own: true };
        }
        let both = |to, port| [Hook::ArrivalFromOthers, Hook::Departure].map(|hook| Match { hook, to, port });
        let published = target.published.iter().flat_map(|published| match published.outside {
            outside if outside.ip().is_unspecified() => both(Destination::Local, outside.port()),
            outside => both(Destination::Address(outside.ip()), outside.port()),
        });
        let own = target.addresses.iter().flat_map(|&address| {
            ports.iter().flat_map(move |&port| both(Destination::Address(address), port))
        });
        let mut matches: Vec<Match> = Vec::new();
        for door in published.chain(own) {
            // A port may be published for IPv4 and IPv6.
            if !matches.contains(&door) {
                matches.push(door);
            }
        }
        if matches.is_empty() {
            // Nobody outside knows it; there may be clients in its own namespace.
            let matches =
                ports.iter().map(|&port| Match { hook: Hook::Arrival, to: Destination::Local, port });
            return Self { matches: matches.collect(), inside: true, programs_own: true };
        }
        Self { matches, inside: false, programs_own: false }
    }

    /// A port that nobody uses, where the rules for others would be.
    fn nowhere(target: &Target, watch: &Watch) -> Self {
        let nowhere = Match { hook: Hook::Arrival, to: Destination::Local, port: 0 };
        Self { matches: vec![nowhere], ..Self::of(target, watch) }
    }

    /// Without the way from this host to the program's own addresses, if the engine's proxy may take it for a client that
    /// it has accepted: a rule without a queue cannot tell that from others.
    fn spare_proxy(&self, target: &Target) -> Self {
        let of_proxy = |door: &Match| match door.to {
            Destination::Address(address) => {
                door.hook == Hook::Departure && target.addresses.contains(&address)
            }
            Destination::Local | Destination::LocalV4 => false,
        };
        let spared = self.matches.iter().filter(|door| target.published.is_empty() || !of_proxy(door));
        Self { matches: spared.copied().collect(), ..*self }
    }

    /// Does something in the network namespace where the rules must be.
    fn enter<T>(&self, main: u32, work: impl FnOnce() -> T) -> Result<T> {
        if self.inside { NetNs::of(main)?.inside(work) } else { Ok(work()) }
    }

    /// Puts rules with one verdict in force.
    fn table(&self, target: &Target, verdict: Verdict, at_most: Duration) -> Result<Table> {
        let rules: Vec<_> = self.spare_proxy(target).matches.iter().map(|door| (*door, verdict)).collect();
        self.enter(target.main, || Table::install(&rules, at_most))?
    }
}

/// Keeps new connections waiting, by the best method that this kernel and our rights allow, for at most this long.
///
/// Fails with the reason for each method that was tried.
pub(crate) fn hold(
    target: &Target,
    watch: &mut Watch,
    at_most: Duration,
    now: Duration,
) -> std::result::Result<Box<dyn Hold>, Vec<(Method, Errno)>> {
    let doors = Doors::of(target, watch);
    let mut failed = Vec::new();
    match nfqueue::NfQueue::new(target, &doors, at_most) {
        Ok(hold) => return Ok(Box::new(hold)),
        Err(errno) => failed.push((Method::Nfqueue, errno)),
    }
    match nft_drop::NftDrop::new(target, &doors, at_most) {
        Ok(hold) => return Ok(Box::new(hold)),
        Err(errno) => failed.push((Method::NftDrop, errno)),
    }
    match listener_filter::ListenerFilter::new(&mut watch.inside, at_most, now) {
        Ok(hold) => return Ok(Box::new(hold)),
        Err(errno) => failed.push((Method::ListenerFilter, errno)),
    }
    Err(failed)
}

/// Which method there would be. The first two are tried on a port that nobody uses.
///
/// Fails with the reason for each method that was tried.
pub(crate) fn method(target: &Target, watch: &Watch) -> std::result::Result<Method, Vec<(Method, Errno)>> {
    let doors = Doors::nowhere(target, watch);
    let second = Duration::from_secs(1);
    let tries: [(Method, &dyn Fn() -> Result<()>); 3] = [
        (Method::Nfqueue, &|| nfqueue::NfQueue::new(target, &doors, second).map(drop)),
        (Method::NftDrop, &|| nft_drop::NftDrop::new(target, &doors, second).map(drop)),
        (Method::ListenerFilter, &|| Valves::new(Kind::Requests).map(drop)),
    ];
    let mut failed = Vec::new();
    for (method, attempt) in tries {
        match attempt() {
            Ok(()) => return Ok(method),
            Err(errno) => failed.push((method, errno)),
        }
    }
    Err(failed)
}

/// Could new connections be refused? That is tried on a port that nobody uses.
pub(crate) fn may_refuse(target: &Target, watch: &Watch) -> Result<()> {
    Doors::nowhere(target, watch).table(target, Verdict::Reset, Duration::from_secs(1)).map(drop)
}
