//! What happened to requests.

use std::fmt;
use std::time::Duration;

/// What happened to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whole answer came, and it was a good one (2xx).
    Answered,
    /// The whole answer came, with another status.
    Status(u16),
    /// The connection was refused.
    Refused,
    /// The connection was reset or closed before a byte of the answer came, though it was a new one.
    Dropped,
    /// A part of the answer came, and then the connection ended.
    Cut,
    /// The kept connection was closed before the request was sent: the server closed it while it was idle.
    ClosedIdle,
    /// The kept connection was closed after the request was sent, and before a byte of the answer came.
    Raced,
    /// Nothing came for as long as a client waits.
    TimedOut,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// [`Outcome::Answered`]
    pub answered: u64,
    /// [`Outcome::Status`]
    pub status: u64,
    /// [`Outcome::Refused`]
    pub refused: u64,
    /// [`Outcome::Dropped`]
    pub dropped: u64,
    /// [`Outcome::Cut`]
    pub cut: u64,
    /// [`Outcome::ClosedIdle`]
    pub closed_idle: u64,
    /// [`Outcome::Raced`]
    pub raced: u64,
    /// [`Outcome::TimedOut`]
    pub timed_out: u64,
    /// The longest that a client waited for an answer, from before it connected to the last byte.
    pub longest: Duration,
}

impl Tally {
    /// Requests that failed: the client has no answer, and must not simply ask again.
    pub fn failed(&self) -> u64 {
        self.status + self.refused + self.dropped + self.cut + self.timed_out
    }

    /// All requests, but for those that were not even sent.
    pub fn requests(&self) -> u64 {
        self.answered + self.failed() + self.raced
    }

    pub(crate) fn count(&mut self, outcome: Outcome, took: Duration) {
        *match outcome {
            Outcome::Answered => {
                self.longest = self.longest.max(took);
                &mut self.answered
            }
            Outcome::Status(_) => &mut self.status,
            Outcome::Refused => &mut self.refused,
            Outcome::Dropped => &mut self.dropped,
            Outcome::Cut => &mut self.cut,
            Outcome::ClosedIdle => &mut self.closed_idle,
            Outcome::Raced => &mut self.raced,
            Outcome::TimedOut => &mut self.timed_out,
        } += 1;
    }

    /// Both together.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "to be passed by name; a sum of tallies is not written with +"
    )]
    pub fn add(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            status: self.status + other.status,
            refused: self.refused + other.refused,
            dropped: self.dropped + other.dropped,
            cut: self.cut + other.cut,
            closed_idle: self.closed_idle + other.closed_idle,
            raced: self.raced + other.raced,
            timed_out: self.timed_out + other.timed_out,
            longest: self.longest.max(other.longest),
        }
    }
}

impl fmt::Display for Tally {
    /// Only what happened: "1357 answered, 3 refused".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered", self.answered)?;
        let others = [
            (self.status, "with an error status"),
            (self.refused, "refused"),
            (self.dropped, "dropped"),
            (self.cut, "cut"),
            (self.timed_out, "timed out"),
            (self.closed_idle, "closed while idle"),
            (self.raced, "raced"),
        ];
        others.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, what)| write!(f, ", {n} {what}"))
    }
}
