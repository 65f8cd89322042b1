//! Waiting until no consumer sends anybody new, by looking at the kernel's table of sockets.
//!
//! A sidecar shares the network namespace of its program, and needs no privilege to see who is connected to its port. Connections that
//! come and go between two looks show only in the kernel's count of all that were ever accepted (`PassiveOpens`, RFC 4022), which is of
//! use where nobody else listens.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gracefully_core::plan::QUIET;
use gracefully_linux::connections::accepted_ever;
use gracefully_linux::sock_diag::{SockDiag, State, States, Which};

/// How often we look.
const LOOK: Duration = Duration::from_millis(25);

/// Waits for at most so long, and not longer than `interrupted` allows, which waits for the time it is given. Says how it ended.
pub(super) fn until_nobody_comes(
    port: u16,
    at_most: Duration,
    interrupted: impl Fn(Duration) -> bool,
) -> String {
    let began = Instant::now();
    let took = || format!("{:.2} s", began.elapsed().as_secs_f64());
    if at_most.is_zero() {
        return "not settled, as asked".to_owned();
    }
    let ports = [port];
    let mut watch = Watch::begin(&ports);
    let mut quiet_since = began;
    loop {
        if interrupted(LOOK.min(at_most.saturating_sub(began.elapsed()))) {
            return format!("settled {}, then asked again", took());
        }
        let now = Instant::now();
        if watch.as_mut().is_none_or(Watch::has_somebody_new) {
            quiet_since = now;
        }
        if now - quiet_since >= QUIET {
            return format!("traffic stopped {}", took());
        }
        if now - began >= at_most {
            return format!("settled {}", took());
        }
    }
}

struct Watch {
    table: SockDiag,
    known: BTreeSet<u64>,
    /// How many connections were ever accepted, if they are all the program's.
    accepted: Option<u64>,
}

impl Watch {
    /// `None`: the kernel does not tell.
    fn begin(ports: &[u16]) -> Option<Self> {
        let mut listeners = SockDiag::open(Which { states: States::LISTENING, ports: &[] }).ok()?;
        let mut is_alone = true;
        listeners.dump(|socket| is_alone &= ports.contains(&socket.local.port())).ok()?;
        let table = SockDiag::open(Which { states: States::LIVE, ports }).ok()?;
        let accepted = if is_alone { accepted_ever() } else { None };
        let mut watch = Self { table, known: BTreeSet::new(), accepted };
        watch.has_somebody_new();
        Some(watch)
    }

    fn has_somebody_new(&mut self) -> bool {
        let mut seen = BTreeSet::new();
        let looked = self.table.dump(|socket| {
            if socket.state != State::Listen {
                seen.insert(socket.cookie);
            }
        });
        let accepted = self.accepted.and_then(|_| accepted_ever());
        let is_new = looked.is_err() || !seen.is_subset(&self.known) || accepted != self.accepted;
        (self.known, self.accepted) = (seen, accepted);
        is_new
    }
}
