//! Turning new connections away with a reset, so that a load balancer goes to another instance at once.
//!
//! The kernel does that by itself, where only others come by the way of the rules. Where the program itself does, too, each
//! request is shown to us in a queue first: the program's own ones go on, and others meet the rules again, with a mark that
//! earns them the reset. As in a hold, all pass if we are gone.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Result;

use super::Doors;
use super::callers::{Caller, Callers};
use crate::nftables::{Table, Verdict};
use crate::queue::Queue;
use crate::target::Target;
use crate::watch::Watch;

/// The mark of requests that are refused: "grac". Nobody else sees it, since they end here.
const MARK: u32 = 0x6772_6163;

/// Refuses new connections until it is dropped.
#[derive(Debug)]
pub(crate) struct Refusal {
    _rules: Table,
    sieve: Option<Sieve>,
}

/// What lets the program's own connections through.
#[derive(Debug)]
struct Sieve {
    queue: Queue,
    callers: Callers,
}

impl Refusal {
    /// Refuses for at most this long, whatever becomes of us.
    pub(crate) fn new(target: &Target, watch: &Watch, at_most: Duration) -> Result<Self> {
        let doors = Doors::of(target, watch);
        if doors.programs_own
            && let Ok(refusal) = Self::of_others(target.main, &doors, at_most)
        {
            return Ok(refusal);
        }
        Ok(Self { _rules: doors.table(target, Verdict::Reset, at_most)?, sieve: None })
    }

    fn of_others(main: u32, doors: &Doors, at_most: Duration) -> Result<Self> {
        doors.enter(main, || {
            let (queue, callers) = (Queue::bind()?, Callers::of(main)?);
            let number = queue.number();
            let rules = Table::install_queueing(
                |by| {
                    let verdicts = [Verdict::ResetMarked(MARK), Verdict::Queue { number, by }];
                    doors.matches.iter().flat_map(move |door| verdicts.map(|verdict| (*door, verdict)))
                },
                at_most,
            )?;
            Ok(Self { _rules: rules, sieve: Some(Sieve { queue, callers }) })
        })?
    }

    /// What becomes readable when there is work for [`turn`](Self::turn).
    pub(crate) fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.sieve.as_ref().map(|sieve| sieve.queue.as_fd())
    }

    /// When [`turn`](Self::turn) is due anyway.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.sieve.as_ref().and_then(|sieve| sieve.callers.due())
    }

    /// Decides about those that have come.
    pub(crate) fn turn(&mut self, now: Duration) -> Result<()> {
        let Some(Sieve { queue, callers }) = &mut self.sieve else { return Ok(()) };
        let mut strangers = Vec::new();
        queue.arrivals(|packet| {
            if !callers.ask(&packet, now) {
                strangers.push(packet);
            }
        })?;
        for packet in strangers {
            queue.repeat(&packet, MARK)?;
        }
        for Caller { packet, is_program, .. } in callers.known(now) {
            if is_program {
                queue.accept(&packet)?;
            } else {
                queue.repeat(&packet, MARK)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::{Destination, Hook, Match};
    use crate::testing::in_new_netns;
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::process::{Command, Stdio};
    use std::thread;

    /// What becomes of a connection of ours while new connections to this program are refused.
    fn connect(to: SocketAddr, main: u32) -> std::io::Result<()> {
        let door = Match { hook: Hook::Arrival, to: Destination::Local, port: to.port() };
        let doors = Doors { matches: vec![door], inside: false, programs_own: true };
        let mut refusal = Refusal::of_others(main, &doors, Duration::from_secs(60)).unwrap();
        let client = thread::spawn(move || TcpStream::connect(to).map(drop));
        let mut now = Duration::ZERO;
        while !client.is_finished() {
            // The time of the next look has always come.
            now += Duration::from_secs(1);
            refusal.turn(now).unwrap();
            thread::yield_now();
        }
        client.join().unwrap()
    }

    #[test]
    fn only_the_program_comes_through() {
        in_new_netns(|| {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(address).unwrap();
                let to = listener.local_addr().unwrap();
                connect(to, std::process::id()).expect("it is our own");
                let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
                let refused = connect(to, other.id()).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
                drop(other.stdin.take());
                other.wait().unwrap();
            }
        });
    }
}
