//! Holding by a queue of our own: see [`queue`](crate::queue).

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use gracefully_core::traffic::Method;
use rustix::io::{Errno, Result};

use super::{Doors, Hold, Tally, is_of_proxy};
use crate::nftables::{Queueing, Table, Verdict};
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
            let install = |by| {
                let rules: Vec<_> =
                    doors.matches.iter().map(|door| (*door, Verdict::Queue { number, by })).collect();
                Table::install(&rules, at_most)
            };
            let rules = match install(Queueing::Native) {
                // This kernel does not know the expression.
                Err(Errno::NOENT) => install(Queueing::Target)?,
                installed => installed?,
            };
            Ok(Self {
                rules,
                queue,
                target: target.clone(),
                waiting: VecDeque::new(),
                seen: HashMap::new(),
                tally: Tally::default(),
            })
        })?
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

    fn turn(&mut self, now: Duration) -> Result<()> {
        let Self { queue, waiting, seen, tally, target, .. } = self;
        let mut to_pass = Vec::new();
        queue.arrivals(|packet| {
            // What the engine's proxy asks for belongs to a client that it has accepted before.
            let to_own = |ends: &Ends| target.addresses.contains(&ends.to.ip());
            if packet.ends.filter(to_own).is_some_and(|ends| is_of_proxy(ends.from)) {
                return to_pass.push(packet);
            }
            if let Some(ends) = packet.ends {
                seen.entry(ends).or_insert_with(|| {
                    tally.held += 1;
                    now
                });
            }
            waiting.push_back((now, packet));
        })?;
        for packet in to_pass {
            self.queue.accept(&packet)?;
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
