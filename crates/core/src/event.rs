//! What a [`Sequence`](crate::sequence::Sequence) is told, and what it asks for.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnosis::Finding;
use crate::phase::{Phase, Step};
use crate::policy::{Policy, Then, Timeout};
use crate::signal::Signal;
use crate::traffic::Traffic;

/// Something that happened. The driver says when, as time on its own monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Somebody asked for the stop. A budget is counted from this request and can only shorten the stop; `Then::Stay`
    /// turns a restart into a stop. That is all that others can do who want the same: they are not impatient. Whoever
    /// asks [again](Self::StopRequested::again) is: their second request skips what only waits (Settle, Drain), their
    /// third kills now.
    StopRequested {
        /// The budget of a further request. The first one's is in the plan.
        budget: Option<Timeout>,
        /// Whether this request wants the program started again.
        then: Then,
        /// Does it come from somebody who has asked already?
        again: bool,
    },
    /// The caller gave up before the stop signal was sent: the program goes on serving.
    Aborted,
    /// Every registry answered, or failed to.
    Deregistered(Result<(), String>),
    /// The kernel's socket table was read.
    ConnectionsObserved(Traffic),
    /// The main process ended.
    MainExited(ExitStatus),
    /// The main process and everything it left behind are gone.
    AllExited,
    /// The connections cannot be looked at.
    ConnectionsHidden,
    /// The stop signal provably reaches nobody.
    Unheard,
    /// Somebody else sent SIGKILL: the engine at its own deadline, or another client.
    Killed,
    /// The flush ended.
    Flushed(Result<(), String>),
    /// The restarted program is ready, or failed to start.
    Started(Result<(), String>),
    /// The engine does not answer any more; what became of the program is unknown.
    EngineLost(String),
    /// Time passed: [`deadline`](crate::sequence::Sequence::deadline) was reached.
    Timer,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called exit(2) with this code.
    Code(u8),
    /// This signal ended it.
    Signal(Signal),
    /// It is gone, but nobody could tell us how: it was not our child and the kernel does not say.
    Unknown,
}

impl ExitStatus {
    /// From the one number that docker knows: 128 + n may be a signal's or the program's own. Nobody but the
    /// kernel uses 137, so that one is taken for SIGKILL.
    pub fn from_docker(code: i64) -> Self {
        match u8::try_from(code) {
            Ok(137) => Self::Signal(Signal::KILL),
            Ok(code) => Self::Code(code),
            Err(_) => Self::Unknown,
        }
    }

    /// The number that docker and a shell show: 128 + n for a signal. `None` if unknown.
    pub fn code(self) -> Option<u8> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(signal) => Some(crate::exit::SIGNAL_BASE + signal.number()),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => write!(f, "ended by {signal}"),
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// Something to do. The driver carries it out and says by an [`Event`] how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Leave every registry; answer with [`Event::Deregistered`].
    Deregister,
    /// Enter every registry again: the stop was aborted.
    Reregister,
    /// From now on tell [`Event::ConnectionsObserved`].
    Observe,
    /// Keep new connections waiting.
    Hold,
    /// Reset new connections.
    Refuse,
    /// Let new connections through again, those that were held first.
    Release,
    /// Send the stop signal to the main process, once; tell [`Event::MainExited`] and [`Event::AllExited`].
    Signal {
        /// The stop signal.
        signal: Signal,
        /// When an engine that kills by itself shall do so; `None`: never.
        kill_at: Option<Duration>,
    },
    /// Send the stop signal once to every process that main left behind.
    Sweep(Signal),
    /// Make data durable; answer with [`Event::Flushed`], at once if there is nothing to flush.
    Flush {
        /// Give up at this time.
        until: Option<Duration>,
    },
    /// SIGKILL to whatever is left.
    Kill,
    /// Start the program again; answer with [`Event::Started`] when it is ready.
    Start,
    /// Nothing more will be asked for.
    Done,
}

/// What a stop tells its onlookers while it is going on: live lines, JSON. It never needs an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum Progress {
    /// The stop begins, with this signal and budget.
    Planned(Policy),
    /// A phase begins.
    Began(Phase),
    /// A phase ended or was skipped.
    Ended(Step),
    /// The connections were looked at.
    Traffic(Traffic),
    /// Something was noticed.
    Noticed(Finding),
}
