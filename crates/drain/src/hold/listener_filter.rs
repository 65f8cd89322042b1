//! Holding at the listening sockets themselves, where we may not touch the firewall. It lasts only as long as the program
//! listens: when it ends, its port is closed, and new connections are refused.

use std::time::Duration;

use gracefully_core::traffic::Method;
use rustix::io::{Errno, Result};

use super::{Hold, Tally};
use crate::valve::{AT_MOST, Kind, Valves};
use crate::watch::{Parts, Place};

/// How often the deadline is moved on.
const KEEP_SHUT: Duration = AT_MOST.checked_div(4).expect("four is not zero");

/// The listening sockets drop requests for connections.
#[derive(Debug)]
pub(crate) struct ListenerFilter {
    valves: Valves,
    /// When the deadline is to be moved on; `None`: it is open.
    due: Option<Duration>,
    /// It is open from then on, whatever becomes of us.
    until: Duration,
}

impl ListenerFilter {
    pub(super) fn new(place: &mut Place, at_most: Duration, now: Duration) -> Result<Self> {
        let valves = Valves::new(Kind::Requests)?;
        let listeners = place.listeners()?;
        let Parts { owners: Some(owners), .. } = place.parts() else { return Err(Errno::OPNOTSUPP) };
        valves.keep_shut()?;
        for (inode, cookie) in listeners {
            valves.put_into(owners.duplicate(inode, cookie)?)?;
        }
        Ok(Self { valves, due: Some(now + KEEP_SHUT), until: now.saturating_add(at_most) })
    }
}

impl Hold for ListenerFilter {
    fn method(&self) -> Method {
        Method::ListenerFilter
    }

    fn due(&self) -> Option<Duration> {
        self.due
    }

    fn turn(&mut self, now: Duration) -> Result<()> {
        match self.due {
            Some(_) if self.until <= now => {
                self.open();
                Ok(())
            }
            Some(due) if due <= now => {
                self.due = Some(now + KEEP_SHUT);
                self.valves.keep_shut()
            }
            Some(_) | None => Ok(()),
        }
    }

    fn open(&mut self) {
        self.due = None;
        // Else it opens by itself, a little later.
        let _ = self.valves.open();
    }

    fn let_go(&mut self, _: u32, _: Duration) -> Result<()> {
        Ok(())
    }

    /// Nobody knows.
    fn waiting(&self) -> u32 {
        0
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }
}
