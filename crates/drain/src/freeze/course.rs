//! What to do with one connection, from the beginning of the drain to its end.
//!
//! ```text
//!            ┌────────── more of the same request is held back ──────────┐
//!            ▼                                                           │
//!         Waits ──answered──► Open ──everything read──► Shut ──idle──► Closed
//! ```
//!
//! A connection cannot be closed in the moment in which it is seen to be idle: a request may arrive in the next. So first
//! its valve is shut, which holds back what the peer sends. From then on no new request can begin; one that has been read is
//! answered as before. When it is idle with a shut valve, it is closed with a FIN, as the program itself would.
//!
//! Who is in the middle of a request must not be held back. The valve is shut only when everything that arrived was read
//! and nothing arrived lately; and what it holds back tells whether that was right. The beginning of an HTTP/1 request
//! says that the answer before it is complete, and that the peer will understand when the connection is closed
//! instead of answered: it has **raced**, and may safely ask somebody else (RFC 9112, section 9.3.1). Anything else,
//! while the answer is due or so soon that it may belong to the exchange, opens the valve again.

use std::time::Duration;

use gracefully_linux::connection::{Activity, Connection, QUIET, QUIET_MULTIPLEXED, Sender};

use crate::valve::Beginning;

/// A request whose last piece arrived so long ago is complete, or its peer is slow.
const COMPLETE: Duration = Duration::from_millis(5);

/// Who sends again so soon after the last exchange may be in the middle of one (a window update of HTTP/2).
const SOON: Duration = Duration::from_millis(20);

/// The same where it is unclear who sent last.
const SOON_UNCLEAR: Duration = Duration::from_millis(50);

/// Within this time the peer has sent again what was held back.
const SENT_AGAIN: Duration = Duration::from_millis(500);

/// Where a connection is on its course.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Course {
    /// Data arrives.
    #[default]
    Open,
    /// Data arrives until the program has answered and both have been silent for so long, or until the peer has been silent
    /// so long that its request must be complete.
    Waits(Duration),
    /// Data is held back.
    Shut {
        /// Segments that the kernel had dropped before.
        dropped: u32,
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
    /// What to do after a look at the connection, which has dropped so many segments in all; `held_back` tells the
    /// beginning of the first of those that our valve dropped. Whoever cannot do it says [`Course::Untouchable`].
    pub(crate) fn next(
        &mut self,
        connection: &Connection,
        dropped: u32,
        held_back: impl FnOnce() -> Option<Beginning>,
        now: Duration,
    ) -> Step {
        if let Self::Waits(silence) = *self {
            let silent = connection.silent_for(now);
            let answered = matches!(connection.last(), Sender::Program | Sender::Nobody);
            if answered && silent >= silence || silent >= SENT_AGAIN {
                *self = Self::Open;
            }
        }
        match self {
            Self::Open if may_shut(connection, now) => {
                *self = Self::Shut { dropped, raced: false };
                Step::Shut
            }
            Self::Shut { dropped: before, raced } => {
                if dropped > *before && !*raced {
                    match meaning(held_back(), connection, now) {
                        Meaning::NextRequest => *raced = true,
                        Meaning::SameExchange(silence) => {
                            *self = Self::Waits(silence);
                            return Step::Open;
                        }
                        Meaning::Complete => {
                            *self = Self::Closed { raced: true };
                            return Step::Close;
                        }
                    }
                }
                let raced = *raced;
                if is_over(connection, raced, now) {
                    *self = Self::Closed { raced };
                    return Step::Close;
                }
                Step::Nothing
            }
            Self::Open | Self::Waits(_) | Self::Closed { .. } | Self::Untouchable => Step::Nothing,
        }
    }
}

/// Would a shut valve not tear a request?
fn may_shut(connection: &Connection, now: Duration) -> bool {
    connection.has_read_all() && (connection.last() != Sender::Peer || connection.silent_for(now) >= COMPLETE)
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
        const METHODS: [&[u8]; 9] = [
            b"GET ",
            b"POST ",
            b"PUT ",
            b"HEAD ",
            b"DELETE ",
            b"OPTIONS ",
            b"PATCH ",
            b"CONNECT ",
            b"TRACE ",
        ];
        if METHODS.iter().any(|method| beginning.starts_with(method)) {
            return Self::Request;
        }
        match beginning {
            // `application_data`, any version (RFC 8446, section 5.1).
            [23, 3, _, high, low, ..] if (64..8192).contains(&u16::from_be_bytes([*high, *low])) => {
                Self::Record
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests;
