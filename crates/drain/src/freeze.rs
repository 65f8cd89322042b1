//! Closing the idle connections of a program that does not close them itself.
//!
//! [`Course`] decides what is done with each connection and when; here it is done, on a duplicate of the program's own
//! socket that lives for a few microseconds. A valve that was shut when we die opens by itself (see
//! [`valve`](crate::valve)).

mod course;

use std::time::Duration;

use rustix::io::{Errno, Result};
use rustix::net::{Shutdown, shutdown};

use crate::owners::Owners;
use crate::valve::{AT_MOST, Kind, Valves};
use crate::watch::{Parts, Place, Watched};

pub(crate) use self::course::Course;
use self::course::{Seen, Step};

/// How often the deadline of shut valves is moved on.
const KEEP_SHUT: Duration = AT_MOST.checked_div(4).expect("four is not zero");

/// What closes idle connections.
#[derive(Debug)]
pub(crate) struct Freezer {
    valves: Valves,
    /// How many valves are in sockets.
    shut: usize,
    keep_shut_at: Duration,
    /// When it acted first.
    began: Option<Duration>,
    /// How many connections were closed without, and with, a request that was held back.
    pub(crate) closed_idle: u32,
    pub(crate) raced: u32,
}

impl Freezer {
    /// Fails with `EPERM` if bpf(2) is not allowed.
    pub(crate) fn new() -> Result<Self> {
        let valves = Valves::new(Kind::Data)?;
        Ok(Self { valves, shut: 0, keep_shut_at: Duration::ZERO, began: None, closed_idle: 0, raced: 0 })
    }

    /// When [`keep_shut`](Self::keep_shut) is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        (self.shut > 0).then_some(self.keep_shut_at)
    }

    /// Keeps shut what is shut, if that is due.
    pub(crate) fn keep_shut(&mut self, now: Duration) -> Result<()> {
        if self.shut == 0 || now < self.keep_shut_at {
            return Ok(());
        }
        self.keep_shut_at = now + KEEP_SHUT;
        self.valves.keep_shut()
    }

    /// Takes the next step with every connection, after a look at them. Returns how many are not finished.
    pub(crate) fn act(&mut self, place: &mut Place, now: Duration) -> Result<u32> {
        let since = now.saturating_sub(*self.began.get_or_insert(now));
        let Parts { connections, owners: Some(owners), mut tap } = place.parts() else { return Ok(0) };
        let mut stale = false;
        let mut unfinished = 0;
        let mut shut = Vec::new();
        for watched in connections {
            let valves = &self.valves;
            let held_back = || valves.held_back(watched.cookie);
            let Watched { ref connection, heard, dropped, .. } = *watched;
            let step = watched.course.next(Seen { connection, heard, dropped, since }, held_back, now);
            let taken = self.take(step, watched, owners, now);
            match taken {
                Ok(()) => {}
                // The program has opened it since we looked at its files, or closed it since we looked at the socket.
                Err(Errno::STALE | Errno::BADF | Errno::SRCH) => {
                    stale = true;
                    watched.course = Course::Open;
                }
                Err(Errno::EXIST | Errno::PERM) => watched.course = Course::Untouchable,
                Err(errno) => return Err(errno),
            }
            unfinished += u32::from(watched.is_unfinished());
            if step == Step::Shut && taken.is_ok() {
                shut.push(watched);
            }
        }
        if let Some(tap) = &mut tap
            && !shut.is_empty()
        {
            // A packet is heard before TCP sees it. What was not heard by now meets a shut valve.
            tap.listen()?;
        }
        for watched in shut {
            let heard = tap.as_ref().map(|tap| tap.heard(watched.peer, watched.local)).unwrap_or_default();
            let counted = watched.is_unfinished();
            if watched.course.was_shut(heard) {
                match self.take(Step::Close, watched, owners, now) {
                    Ok(()) => unfinished -= u32::from(counted),
                    // The program has closed it.
                    Err(Errno::STALE | Errno::BADF | Errno::SRCH) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        if stale {
            owners.refresh();
        }
        Ok(unfinished)
    }

    /// Takes the valves out of those that are not closed: they go on.
    pub(crate) fn give_up(&mut self, place: &mut Place, now: Duration) {
        let Parts { connections, owners: Some(owners), .. } = place.parts() else { return };
        for watched in connections.filter(|watched| matches!(watched.course, Course::Shut { .. })) {
            // It is gone, or opens by itself.
            let _ = self.take(Step::Open, watched, owners, now);
        }
    }

    fn take(&mut self, step: Step, watched: &Watched, owners: &mut Owners, now: Duration) -> Result<()> {
        if step == Step::Nothing {
            return Ok(());
        }
        let socket = owners.duplicate(watched.inode, watched.cookie)?;
        match step {
            Step::Nothing => {}
            Step::Shut => {
                // The deadline first: a valve must not be open when it is counted as shut.
                if self.shut == 0 {
                    self.keep_shut_at = now + KEEP_SHUT;
                    self.valves.keep_shut()?;
                }
                self.valves.put_into(&socket)?;
                self.shut += 1;
            }
            Step::Open => {
                self.valves.take_out(&socket, watched.cookie)?;
                self.shut = self.shut.saturating_sub(1);
            }
            Step::Close => {
                match shutdown(&socket, Shutdown::Write) {
                    // The peer was quicker.
                    Ok(()) | Err(Errno::NOTCONN) => {}
                    Err(errno) => return Err(errno),
                }
                match watched.course {
                    Course::Closed { raced: true } => self.raced += 1,
                    _ => self.closed_idle += 1,
                }
            }
        }
        Ok(())
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // Else they open by themselves, a little later.
        let _ = self.valves.open();
    }
}
