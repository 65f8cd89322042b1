//! `gracefully register` with real registries, and stops that tell a real gateway.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

/// A server or a world, or the test is skipped.
macro_rules! or_skip {
    ($made:expr) => {
        match $made {
            Ok(made) => made,
            Err(why) => {
                return crate::skip::skip(std::thread::current().name().unwrap_or_default(), &why.to_string())
            }
        }
    };
}

mod agent;
mod demo;
mod gateway;
mod local;
mod outside;
mod register;
#[path = "../../../../xtask/skip.rs"]
mod skip;
