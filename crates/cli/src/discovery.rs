//! Where others find a program, as far as its stop has to do with it.
//!
//! A walk ([`drive`](crate::drive)) leaves every place before anything else, and comes back when the stop is taken back or the program
//! runs again. What a place is, a registry or a gateway, it does not know.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gracefully_registry::{Deadline, Gone, Leave, Membership};
use tokio::task::spawn_blocking;

/// All the places where others find one program.
#[async_trait]
pub(crate) trait Discovery: Debug + Send + Sync {
    /// Takes the program out everywhere, by then whatever happens. The error says where it may still be found.
    async fn leave(&self, within: Duration) -> Result<(), String>;

    /// Puts it in again.
    async fn rejoin(&self) -> Result<(), String>;
}

/// Registrations that are ours. Whoever has left them does not come back: for that one registers again.
#[derive(Debug)]
pub(crate) struct Members(Mutex<Vec<(String, Membership)>>);

impl Members {
    /// The registries by name, and what we are there.
    pub(crate) fn new(members: Vec<(String, Membership)>) -> Self {
        Self(Mutex::new(members))
    }
}

#[async_trait]
impl Discovery for Members {
    async fn leave(&self, within: Duration) -> Result<(), String> {
        let members = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let left = spawn_blocking(move || leave(members, Deadline::within(within))).await;
        left.map_err(|error| error.to_string())?
    }

    async fn rejoin(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Leaves all of them at once. The error names those where it may still be found.
pub(crate) fn leave(members: Vec<(String, Membership)>, deadline: Deadline) -> Result<(), String> {
    let leaving =
        members.into_iter().map(|(name, member)| (name, std::thread::spawn(move || member.leave(deadline))));
    // All of them before the first is waited for.
    let leaving: Vec<_> = leaving.collect();
    let wrong: Vec<String> = leaving
        .into_iter()
        .filter_map(|(name, leaving)| {
            let Ok(leave) = leaving.join() else { return Some(format!("{name}: it has panicked")) };
            why_not_gone(&name, leave)
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// `None`: it is out.
fn why_not_gone(name: &str, leave: Leave) -> Option<String> {
    match (leave.left, leave.gone) {
        (Ok(_), Gone::Yes) => None,
        // These errors name their registry.
        (Err(error), _) | (Ok(_), Gone::Unknown(error)) => Some(error.to_string()),
        (Ok(_), Gone::No) => Some(format!("{name}: consumers find it still")),
    }
}
