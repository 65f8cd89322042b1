//! What is said to be on the disk is there: after a power cut at any moment, and on disks that fail.
//!
//! No power is cut and no disk is broken for it. strace(1) writes down what a real program asks of the real kernel, and from that
//! follows what a disk may hold at every moment ([`disk`]). It also makes single calls fail, or the last ones.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod failing_disk;
mod power_cut;
mod program;
mod replace;
mod trace;
