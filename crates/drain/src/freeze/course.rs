//! What to do with one connection, from the beginning of the drain to its end.
//!
//! ```text
//!            ┌────────── more of the same request is held back ──────────┐
//!            ▼                                                           │
//!         Waits ──answered──► Open ──everything read──► Shut ──over──► Closed
//! ```
//!
//! A connection cannot be closed in the moment in which it is seen to be idle: a request may arrive in the next. So first
//! its valve is shut, which holds back what the peer sends. From then on no new request can begin; one that has been read is
//! answered as before. When that is over, the connection is closed with a FIN, as the program itself would.
//!
//! **When the valve is shut.** Where the conversation can be heard ([`talk`](crate::talk)), as soon as a request is whole: then
//! nothing that is needed can be held back, and the connection can be closed right behind the last byte of the answer, while
//! its client still reads it. Else when everything that arrived was read, nothing arrived lately, and the connection is idle;
//! or, if it never is, after [`PATIENCE`].
//!
//! **What the valve holds back** tells whether that was right. The beginning of an HTTP/1 request says that the answer
//! before it is complete, and that the peer will understand when the connection is closed instead of answered: it has
//! **raced**, and may safely ask somebody else (RFC 9112, section 9.3.1). Anything else, while the answer is due or so soon
//! that it may belong to the exchange, opens the valve again.

use std::time::Duration;

use gracefully_linux::connection::{Activity, Connection, QUIET, QUIET_MULTIPLEXED, Sender};

use crate::talk::{Heard, State};
use crate::valve::Beginning;

/// How long a connection may go on that cannot be heard and that is never seen idle.
const PATIENCE: Duration = Duration::from_millis(250);

/// A request whose last piece arrived so long ago is complete, or its peer is slow.
const COMPLETE: Duration = Duration::from_millis(5);

/// Who sends again so soon after the last exchange may be in the middle of one (a window update of HTTP/2).
const SOON: Duration = Duration::from_millis(20);

/// The same where it is unclear who sent last.
const SOON_UNCLEAR: Duration = Duration::from_millis(50);

/// Within this time the peer has sent again what was held back: its kernel does so after 200 ms and the time that a packet
/// takes to and fro, and if that was too early after twice that time (RFC 6298).
const SENT_AGAIN: Duration = Duration::from_secs(1);

/// Where a connection is on its course.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Course {
    /// Data arrives.
    #[default]
    Open,
    /// Data arrives again since then, until the program has answered and both have been silent for so long, or until the peer
    /// has been silent so long that its request must be complete.
    Waits { since: Duration, silence: Duration },
    /// Data is held back.
    Shut {
        /// Segments that the kernel had dropped before.
        dropped: u32,
        /// How many answers had been heard before, and whether one is due.
        answers: u32,
        due: Due,
        /// Something was held back, and it was no piece of an exchange.
        raced: bool,
    },
    /// We have closed it.
    Closed {
        /// A request was held back: its sender gets no answer, and the program has not seen it.
        raced: bool,
    },
    /// It cannot be touched: it has a filter of its own, or we may not duplicate it.
    Untouchable,
}

/// Is an answer due when the valve is shut?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// None, as was heard.
    Nothing,
    /// One, as was heard: nothing that is held back can be a piece of its request.
    Answer,
    /// It was not heard.
    Unknown,
}

/// What is known of a connection after a look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// What the kernel shows.
    pub(crate) connection: &'a Connection,
    /// What was heard on the wire. While the valve is shut, that is more than the program has seen.
    pub(crate) heard: Heard,
    /// How many segments the kernel has dropped in all.
    pub(crate) dropped: u32,
    /// How long the drain has been going on.
    pub(crate) since: Duration,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Look again.
    Nothing,
    /// Put a valve in.
    Shut,
    /// Take it out.
    Open,
    /// Close the connection.
    Close,
}

impl Course {
    /// What to do after a look. `held_back` tells the beginning of the first of the segments that our valve dropped. Whoever
    /// cannot do it says [`Course::Untouchable`].
    pub(crate) fn next(
        &mut self,
        seen: Seen<'_>,
        held_back: impl FnOnce() -> Option<Beginning>,
        now: Duration,
    ) -> Step {
        let Seen { connection, heard, dropped, .. } = seen;
        if let Self::Waits { since, silence } = *self {
            // What the peer has to send again comes later than the valve is opened, however long it was silent before.
            let silent = connection.silent_for(now).min(now.saturating_sub(since));
            let answered = matches!(connection.last(), Sender::Program | Sender::Nobody);
            if answered && silent >= silence || silent >= SENT_AGAIN {
                *self = Self::Open;
            }
        }
        match self {
            Self::Open => match may_shut(&seen, now) {
                Some(due) => {
                    *self = Self::Shut { dropped, answers: heard.answers, due, raced: false };
                    Step::Shut
                }
                None => Step::Nothing,
            },
            // The answer has no end: it lasts until the program ends, and its client may have something to say.
            Self::Shut { .. } if heard.state == State::Endless => {
                *self = Self::Open;
                Step::Open
            }
            Self::Shut { dropped: before, answers, due, raced } => {
                let held = dropped > *before;
                let answered = heard.answers != *answers;
                if *due == Due::Answer && !answered && heard.state == State::Unknown {
                    // The thread is lost.
                    *due = Due::Unknown;
                }
                if answered {
                    *self = Self::Closed { raced: held };
                    return Step::Close;
                }
                if held && *due == Due::Unknown && !*raced {
                    match meaning(held_back(), connection, now) {
                        Meaning::NextRequest => *raced = true,
                        Meaning::SameExchange(silence) => {
                            *self = Self::Waits { since: now, silence };
                            return Step::Open;
                        }
                        Meaning::Complete => {
                            *self = Self::Closed { raced: true };
                            return Step::Close;
                        }
                    }
                }
                let raced = *raced || held;
                if *due != Due::Answer && is_over(connection, raced, now) {
                    *self = Self::Closed { raced };
                    return Step::Close;
                }
                Step::Nothing
            }
            Self::Waits { .. } | Self::Closed { .. } | Self::Untouchable => Step::Nothing,
        }
    }

    /// The valve is shut now, and everything that was said until then was heard. True: nothing is under way and the connection is
    /// to be closed.
    ///
    /// Between the look and the valve an answer may have ended and a request, or a piece of one, may have slipped in. What was
    /// heard now is newer than that; what is heard later was held back, or is an answer.
    pub(crate) fn was_shut(&mut self, heard: Heard) -> bool {
        let Self::Shut { answers, due, .. } = self else { return false };
        let unchanged = heard.answers == std::mem::replace(answers, heard.answers);
        match due {
            Due::Nothing if unchanged && heard.state == State::Complete => {
                *self = Self::Closed { raced: false };
                return true;
            }
            Due::Answer if unchanged && heard.state == State::Answering => {}
            Due::Nothing | Due::Answer | Due::Unknown => *due = Due::Unknown,
        }
        false
    }
}

/// Would a shut valve not tear a request? Then whether an answer is due.
fn may_shut(seen: &Seen<'_>, now: Duration) -> Option<Due> {
    let connection = seen.connection;
    if !connection.has_read_all() {
        return None;
    }
    match seen.heard.state {
        State::Complete => Some(Due::Nothing),
        State::Answering => Some(Due::Answer),
        State::Asking | State::Endless => None,
        State::Unknown => {
            let may = match connection.last() {
                Sender::Peer => connection.silent_for(now) >= COMPLETE,
                Sender::Program | Sender::Unclear | Sender::Nobody => {
                    connection.activity(now) == Activity::Idle || seen.since >= PATIENCE
                }
            };
            may.then_some(Due::Unknown)
        }
    }
}

/// Is nothing under way on a connection whose valve is shut?
fn is_over(connection: &Connection, raced: bool, now: Duration) -> bool {
    match connection.activity(now) {
        Activity::Idle => true,
        // The peer confirms the answer on the way of its next request, which is held back.
        _ if raced => match connection.last() {
            Sender::Program => connection.idle_at().is_some_and(|at| at <= now),
            // It was answered, else the peer would not ask again.
            Sender::Unclear => connection.has_read_all() && connection.silent_for(now) >= QUIET,
            Sender::Peer | Sender::Nobody => false,
        },
        _ => false,
    }
}

/// What it means that the peer sent something while the valve was shut.
enum Meaning {
    /// A request, after the answer to the one before: there is nothing to wait for.
    Complete,
    /// Probably the next request.
    NextRequest,
    /// A piece of an exchange that is under way; it is over when both have been silent for so long.
    SameExchange(Duration),
}

fn meaning(beginning: Option<Beginning>, connection: &Connection, now: Duration) -> Meaning {
    let silent = connection.silent_for(now);
    let kind = beginning.map_or(Kind::Other, |beginning| Kind::of(&beginning));
    match (connection.last(), kind) {
        (Sender::Nobody, _) | (Sender::Program | Sender::Unclear, Kind::Request) => Meaning::Complete,
        // It asks for more before it is answered: the second request is held back, the first is answered.
        (Sender::Peer, Kind::Request) | (Sender::Program, Kind::Record) => Meaning::NextRequest,
        (Sender::Program, Kind::Other) if silent >= SOON => Meaning::NextRequest,
        (Sender::Unclear, Kind::Record | Kind::Other) if silent >= SOON_UNCLEAR => Meaning::NextRequest,
        (Sender::Peer | Sender::Unclear, Kind::Record | Kind::Other) => Meaning::SameExchange(Duration::ZERO),
        (Sender::Program, Kind::Other) => Meaning::SameExchange(QUIET_MULTIPLEXED),
    }
}

/// What the beginning of some data looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An HTTP/1 request (RFC 9112, section 3).
    Request,
    /// A TLS record that is too long for a control message and too short for a piece of an upload.
    Record,
    /// Anything else.
    Other,
}

impl Kind {
    fn of(beginning: &Beginning) -> Self {
        if crate::talk::begins_request(beginning) {
            return Self::Request;
        }
        match beginning {
            // `application_data`, any version (RFC 8446, section 5.1). The shortest request of HTTP/1 has 27 bytes, and its
            // protection 17; two window updates of HTTP/2 have one less.
            [23, 3, _, high, low, ..] if (44..8192).contains(&u16::from_be_bytes([*high, *low])) => {
                Self::Record
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
