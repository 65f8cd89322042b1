//! What a graceful stop *is*: which signal, which phases, how long, and how it ended.
//!
//! The crate does no I/O and reads no clock, so everything in it can be tested by calling it:
//!
//! ```text
//!  Request + Settings ──► Plan ──► Sequence ──► Report
//!  (what was asked,      (who,     (events in,   (what happened,
//!   what is configured)   when)     actions out)  why, what to do)
//! ```
//!
//! * [`signal`]: signal names and numbers, by docker's rules.
//! * [`policy`]: what was asked and what is configured, and which of the two wins.
//! * [`plan`]: the arithmetic of one budget: when each phase must have ended.
//! * [`phase`]: the six phases and how one ends.
//! * [`event`]: what a [`Sequence`](sequence::Sequence) is told and what it asks for.
//! * [`sequence`]: the state machine. Whoever carries out a stop (CLI, monitor, init, library) drives this one.
//! * [`diagnosis`]: facts about processes in, findings with a remedy out.
//! * [`traffic`]: the connections of a program, and what became of them.
//! * [`report`]: the record of one stop, versioned, as JSON.
//! * [`time`]: moments and lengths of time as they are written down.
//! * [`exit`]: every exit code of our programs.
//!
//! `no_std` with `alloc`, because `gracefully-init` must stay smaller than tini.
#![no_std]

extern crate alloc;

pub mod diagnosis;
pub mod event;
pub mod exit;
pub mod phase;
pub mod plan;
pub mod policy;
pub mod report;
pub mod sequence;
pub mod signal;
pub mod time;
pub mod traffic;
