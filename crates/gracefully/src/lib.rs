//! A service that terminates gracefully.
//!
//! ```no_run
//! use gracefully::{Phase, Shutdown};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let shutdown = Shutdown::install()?; // SIGTERM and SIGINT are heard from this line on
//!     shutdown.spawn("worker", async |token| while !token.is_requested() { /* one piece of work */ })?;
//!     shutdown.on(Phase::Flush, "journal", async |_| std::io::Result::Ok(()));
//!     shutdown.wait().await.exit() // says what happened, and never waits for a thread that is stuck
//! }
//! ```
//!
//! A stop is the same sequence as everywhere in `gracefully`: **deregister → settle → drain → terminate → flush**, within one
//! budget, decided by the same state machine (`gracefully_core::sequence`) and told in the same words.
//!
//! | phase | what happens here | it ends |
//! |---|---|---|
//! | deregister | the hooks of [`Phase::Deregister`] run, all at once | when all have ended, or at its cap |
//! | settle | the service goes on, until no task, connection or request has begun for a second | then, or at its cap |
//! | drain | tasks are [told](Token); no new one may begin; the hooks of [`Phase::Drain`] run | when all tasks and guards are gone, or at its cap |
//! | terminate | tasks that are left are aborted and named | at once |
//! | flush | the hooks of [`Phase::Flush`] run, all at once | when all have ended, or at the end of the budget |
//!
//! What a hook or a task does wrong, an error, a panic, lateness, becomes a line of the [`Report`] and keeps no later phase
//! from its turn. Flush has a reserve that nobody before it can use up.
//!
//! A second signal ends the waiting of settle and drain, a third ends the process at once. Two that come within 250 ms are one:
//! a Ctrl-C is often delivered twice, by the terminal and by whoever passes it on.
//!
//! * `serve`, with the feature `http`: HTTP for axum and every other tower service, drained without losing a request.
//! * `registry`, with the feature `registry`: out of service discovery before anything else.
//! * [`durable`]: what was acknowledged is on the disk.
//! * [`blocking`]: for programs without tokio.

/// The README's examples, as tests.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod blocking;
pub mod durable;

#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "http")]
pub mod serve;

#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod ended;
#[cfg(feature = "tokio")]
mod hooks;
mod presses;
#[cfg(feature = "tokio")]
mod settings;
#[cfg(feature = "tokio")]
mod shutdown;
#[cfg(feature = "tokio")]
mod tasks;

pub use gracefully_core::report::{Part, Report, Verdict};

#[cfg(feature = "tokio")]
pub use self::{
    ended::Ended,
    hooks::{Context, HookResult, Phase},
    settings::{Builder, Cause},
    shutdown::Shutdown,
    tasks::{Guard, Rejected, Token},
};
