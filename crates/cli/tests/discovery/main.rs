//! `gracefully register` with real registries.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod agent;
mod register;
#[path = "../../../../xtask/skip.rs"]
mod skip;
