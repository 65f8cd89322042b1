//! Leaving service discovery before anything else: see [`gracefully_registry`], which this is.

use std::io;

use tokio::task::{JoinError, spawn_blocking};

pub use gracefully_registry::*;

use crate::hooks::{Context, Phase};
use crate::shutdown::Shutdown;

impl Shutdown {
    /// Registers this instance, keeps it alive, and takes it out when the stop begins: its heartbeat is stopped first, and it is
    /// looked for until no consumer finds it any more. Whatever goes wrong at the end is a line of the report and stops nothing.
    ///
    /// The service then settles for as long as the registry says that consumers take to hear of it, unless
    /// [`settle`](crate::Builder::settle) or `GRACEFULLY_SETTLE` says something else.
    ///
    /// `gracefully stop` from outside has it leave first, and settles itself, before it refuses new connections and signals the service: see
    /// [`control`].
    ///
    /// Register when the service listens: from here on others send it requests. What happens to the registration meanwhile is said
    /// on standard error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("file://{}", directory.path().display());
    /// # let shutdown = gracefully::Shutdown::builder().settle(std::time::Duration::ZERO).without_signals().install()?;
    /// use gracefully::registry::{Instance, file};
    ///
    /// shutdown.register(&url, Instance::new("orders", "127.0.0.1", 8080)).await?;
    /// assert_eq!(file::instances(directory.path(), "orders").len(), 1);
    /// shutdown.trigger("test");
    /// assert_eq!(shutdown.wait().await.code(), 0);
    /// assert_eq!(file::instances(directory.path(), "orders").len(), 0);
    /// # Ok(()) }
    /// ```
    pub async fn register(&self, url: &str, instance: Instance) -> io::Result<()> {
        let registry = open(url).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let name = url.split('?').next().unwrap_or_default().to_owned();
        let say = name.clone();
        let tell = move |news: &str| {
            use io::Write as _;
            // Nobody may read it.
            let _ = writeln!(io::stderr(), "{say}: {news}");
        };
        let joined = spawn_blocking(move || Membership::join(registry, instance, tell)).await;
        let member = joined.map_err(lost)?.map_err(io::Error::other)?;
        self.inner.settle_for(member.settling().clone());
        self.on(Phase::Deregister, &name, async move |context: Context| {
            let leave = spawn_blocking(move || member.leave(Deadline::within(context.remaining()))).await;
            leave.map_err(lost)?.outcome().map_err(io::Error::other)
        });
        Ok(())
    }
}

/// The runtime ends, or a registry has panicked.
fn lost(error: JoinError) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gracefully_core::phase::{Outcome, Phase};

    use super::*;
    use crate::Builder;
    use crate::registry::control::registrations;

    /// `gracefully stop` has settled before it signals.
    #[tokio::test]
    async fn what_somebody_outside_had_leave_does_not_settle() {
        for is_left in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let url = format!("file://{}", directory.path().display());
            let shutdown = Builder::default().without_signals().install().unwrap();
            let instance = Instance::new("orders", "127.0.0.1", 8080);
            shutdown.register(&url, instance.clone()).await.unwrap();
            let mut outside = registrations(std::process::id());
            outside.retain(|registration| registration.id() == Some(&instance.id));
            if is_left {
                outside[0].leave(Deadline::within(Duration::from_secs(5))).unwrap();
                assert_eq!(file::instances(directory.path(), "orders"), []);
            }
            shutdown.trigger("test");
            let ended = shutdown.wait().await;
            let outcome = |phase| {
                ended.report().steps.iter().find(|step| step.phase == phase).map(|step| step.outcome.clone())
            };
            assert_eq!(outcome(Phase::Deregister), Some(Outcome::Done));
            let skipped = matches!(outcome(Phase::Settle), Some(Outcome::Skipped(_)));
            assert_eq!(skipped, is_left, "{:?}", ended.report().steps);
        }
    }
}
