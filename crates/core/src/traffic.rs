//! The connections of a program that is being stopped: what is seen of them, and what became of them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::phase::millis;

/// One look at the connections of the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Traffic {
    /// Connections with a request that is not fully answered.
    pub in_flight: u32,
    /// Connections that were not there at the look before.
    pub new: u32,
}

/// What became of the connections in one stop. A connection counts where its life with this stop ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Connections {
    /// Those that were open at the first look.
    pub open: u32,
    /// Of these, those with a request under way.
    pub in_flight: u32,
    /// Requests that were under way, then or later, and were finished.
    pub drained: u32,
    /// Idle connections that we closed, as the program itself would have.
    pub closed_idle: u32,
    /// Connections that we closed while the next request was already on its way. The program never saw it, so its sender
    /// may safely ask again.
    pub raced: u32,
    /// Connections that ended in the middle of a request.
    pub cut: Vec<Cut>,
    /// What happened to new connections, if they were kept from the program.
    pub gate: Option<Gate>,
    /// How often the connections were looked at.
    pub looks: u32,
    /// Processor time for all of this, in milliseconds.
    #[serde(rename = "cpu_ms", with = "millis")]
    #[cfg_attr(any(feature = "schema", test), schemars(with = "f64"))]
    pub cpu: Duration,
}

/// A connection that ended in the middle of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Cut {
    /// The client: address and port.
    pub peer: String,
    /// Where it was connected to.
    pub local: String,
    /// How long we had seen it, in milliseconds.
    #[serde(rename = "age_ms", with = "millis")]
    #[cfg_attr(any(feature = "schema", test), schemars(with = "f64"))]
    pub age: Duration,
    /// What was under way.
    pub why: Why,
}

/// Why a connection counts as busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The handshake is not complete.
    Connecting,
    /// The program has not accepted it.
    Unaccepted,
    /// The program has not read everything that the peer sent.
    Unread,
    /// The peer sent last: the answer is due.
    Unanswered,
    /// The program sent last, and so recently that more may follow.
    Answering,
    /// The peer has not confirmed everything that the program sent.
    Undelivered,
    /// It cannot be told who sent last.
    Unclear,
}

impl fmt::Display for Why {
    /// For a sentence: "busy: the request is not answered".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connecting => "the handshake is not complete",
            Self::Unaccepted => "the program has not accepted it",
            Self::Unread => "the program has not read the request",
            Self::Unanswered => "the request is not answered",
            Self::Answering => "the answer is going on",
            Self::Undelivered => "the peer has not confirmed the answer",
            Self::Unclear => "the request may not be answered",
        })
    }
}

/// What happened to new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Gate {
    /// They were kept waiting for the restarted program.
    Held {
        /// How.
        method: Method,
        /// How many; zero where the method cannot tell.
        held: u32,
        /// The longest that one of them was kept, in milliseconds.
        #[serde(rename = "longest_ms", with = "millis")]
        #[cfg_attr(any(feature = "schema", test), schemars(with = "f64"))]
        longest: Duration,
        /// How many were let through because too many were waiting.
        overflowed: u32,
    },
    /// They were answered with a reset.
    Refused,
}

/// How new connections are kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// In a queue of our own, from which they go on when they are released.
    Nfqueue,
    /// A firewall rule drops them, and their senders try again.
    NftDrop,
    /// The listening sockets drop them; only as long as the program lives.
    ListenerFilter,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nfqueue => "nfqueue",
            Self::NftDrop => "nft drop",
            Self::ListenerFilter => "listener filter",
        })
    }
}
