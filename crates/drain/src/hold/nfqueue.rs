//! Holding by a queue of our own: see [`queue`](crate::queue).

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use gracefully_core::traffic::Method;
use rustix::io::Result;

use super::callers::{Caller, Callers, is_of_proxy};
use super::{Doors, Hold, Tally};
use crate::nftables::{Table, Verdict};
use crate::queue::{Ends, Queue, Waiting};
use crate::target::Target;

/// How many SYNs we keep; beyond that the oldest goes on its way. The kernel's own limit is higher.
const MOST: usize = 32_768;

/// New connections wait in a queue; released, they go on as if nothing had been.
#[derive(Debug)]
pub(crate) struct NfQueue {
    rules: Table,
    queue: Queue,
    target: Target,
    /// If the program's own connections meet the rules, too.
    callers: Option<Callers>,
    waiting: VecDeque<(Duration, Waiting)>,
    /// Connections, not SYNs: a client sends its SYN again. With the time of the first.
    seen: HashMap<Ends, Duration>,
    tally: Tally,
}

impl NfQueue {
    pub(super) fn new(target: &Target, doors: &Doors, at_most: Duration) -> Result<Self> {
        doors.enter(target.main, || {
            let queue = Queue::bind()?;
            let number = queue.number();
            let rules = Table::install_queueing(
                |by| doors.matches.iter().map(move |door| (*door, Verdict::Queue { number, by })),
                at_most,
            )?;
            Ok(Self {
                rules,
                queue,
                target: target.clone(),
                callers: doors.programs_own.then(|| Callers::of(target.main)).transpose()?,
                waiting: VecDeque::new(),
                seen: HashMap::new(),
                tally: Tally::default(),
            })
        })?
    }

    fn keep(&mut self, since: Duration, packet: Waiting) {
        if let Some(ends) = packet.ends {
            self.seen.entry(ends).or_insert_with(|| {
                self.tally.held += 1;
                since
            });
        }
        self.waiting.push_back((since, packet));
    }

    /// What the engine's proxy asks for belongs to a client that it has accepted before.
    fn is_accepted_already(&self, packet: &Waiting) -> bool {
        let to_own = |ends: &Ends| self.target.addresses.contains(&ends.to.ip());
        packet.ends.filter(to_own).is_some_and(is_of_proxy)
    }

    fn pass(&mut self, (since, packet): (Duration, Waiting), now: Duration) -> Result<()> {
        self.queue.accept(&packet)?;
        let first = packet.ends.and_then(|ends| self.seen.get(&ends)).copied().unwrap_or(since);
        self.tally.longest = self.tally.longest.max(now.saturating_sub(first));
        Ok(())
    }
}

impl Hold for NfQueue {
    fn method(&self) -> Method {
        Method::Nfqueue
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.as_fd())
    }

    fn due(&self) -> Option<Duration> {
        self.callers.as_ref().and_then(Callers::due)
    }

    fn turn(&mut self, now: Duration) -> Result<()> {
        let mut arrived = Vec::new();
        // How many there were is not told.
        self.tally.overflowed += u32::from(self.queue.arrivals(|packet| arrived.push(packet))?);
        for packet in arrived {
            if self.is_accepted_already(&packet) {
                self.queue.accept(&packet)?;
            } else if !self.callers.as_mut().is_some_and(|callers| callers.ask(&packet, now)) {
                self.keep(now, packet);
            }
        }
        let known = self.callers.as_mut().map(|callers| callers.known(now));
        for Caller { since, packet, is_program } in known.into_iter().flatten() {
            if is_program {
                self.queue.accept(&packet)?;
            } else {
                self.keep(since, packet);
            }
        }
        while self.waiting.len() > MOST
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.tally.overflowed += 1;
            self.pass(oldest, now)?;
        }
        Ok(())
    }

    fn open(&mut self) {
        // It fails if the rules' own time is up; then they meet nothing, either.
        let _ = self.rules.lift();
        // All go now, whoever they are.
        for (since, packet) in self.callers.take().into_iter().flat_map(Callers::unknown) {
            self.keep(since, packet);
        }
    }

    fn let_go(&mut self, at_most: u32, now: Duration) -> Result<()> {
        for _ in 0..at_most {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.pass(oldest, now)?;
        }
        Ok(())
    }

    fn waiting(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}
