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
        self.inner.settle_for(member.hints().settle);
        self.on(Phase::Deregister, &name, async move |context: Context| {
            let leave = spawn_blocking(move || member.leave(Deadline::within(context.remaining()))).await;
            let Leave { left, gone, .. } = leave.map_err(lost)?;
            left.map_err(io::Error::other)?;
            match gone {
                Gone::Yes => Ok(()),
                Gone::No => Err(io::Error::other("consumers find it still")),
                Gone::Unknown(error) => Err(io::Error::other(error)),
            }
        });
        Ok(())
    }
}

/// The runtime ends, or a registry has panicked.
fn lost(error: JoinError) -> io::Error {
    io::Error::other(error)
}
