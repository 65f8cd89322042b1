//! `gracefully register` with real registries, and stops that tell a real gateway.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod agent;
mod demo;
mod gateway;
mod register;
#[path = "../../../../xtask/skip.rs"]
mod skip;
