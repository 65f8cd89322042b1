//! Who runs containers.
//!
//! Three engines answer the same questions and carry out the same orders ([`Engine`]):
//!
//! * [`docker`]: the Engine API of Docker, and of Podman's compatible socket.
//! * [`local`]: the embedded engine without a daemon: libcontainer, and one small monitor process per container.
//! * [`process`]: `pid:N`, any process tree of this host.
//!
//! Whoever wants to stop something asks the engine for its [`Conductor`]: either a monitor that outlives the caller
//! carries out the stop (local), or the caller walks the sequence itself on an [`Instance`].
//!
//! The crate knows Docker and OCI. It knows neither the socket table nor registries, and it prints nothing.

pub mod docker;
pub mod local;
pub mod process;

mod container;
mod error;
mod filter;

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use gracefully_core::diagnosis::Finding;
use gracefully_core::event::ExitStatus;
use gracefully_core::policy::{Policy, Then};
use gracefully_core::signal::Signal;
use gracefully_core::time::Timestamp;

pub use crate::container::{Container, Network, Published, State};
pub use crate::error::{Error, Result};
pub use crate::filter::{Filter, ListOptions};
pub use gracefully_monitor::log::LogStream;
pub use gracefully_monitor::record::{Restart, RunSpec};

/// Which engine. The words are those of `--engine` and of `ENGINE:NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The embedded engine.
    Local,
    /// Docker, or Podman through its compatible socket.
    Docker,
    /// A process of this host, `pid:N`.
    Process,
}

impl Kind {
    /// As written on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Process => "process",
        }
    }
}

/// Something that runs containers.
///
/// Every method has a deadline of its own inside: a daemon that hangs makes [`Error::Timeout`], never a caller that
/// hangs. The exceptions wait by their nature: [`wait`](Self::wait), a following [`logs`](Self::logs).
#[async_trait]
pub trait Engine: Debug + Send + Sync {
    /// Which engine this is.
    fn kind(&self) -> Kind;

    /// Finds a container by its name, its identifier or an unambiguous beginning of that.
    ///
    /// Fails with an error that [is of not being found](Error::is_not_found) or
    /// [of being ambiguous](Error::is_ambiguous).
    async fn find(&self, name: &str) -> Result<Container>;

    /// The containers, the youngest first.
    ///
    /// Fails with [`Error::Filter`], or with the daemon's own words, if a filter makes no sense.
    async fn list(&self, options: &ListOptions) -> Result<Vec<Container>>;

    /// Everything the engine knows about a container, in the shape of `docker inspect`.
    async fn inspect(&self, container: &Container) -> Result<serde_json::Value>;

    /// Who carries out a stop of this container.
    async fn conductor(&self, container: &Container) -> Result<Conductor>;

    /// Starts a container that is not running.
    async fn start(&self, container: &Container) -> Result<()>;

    /// Sends one signal, as `docker kill --signal`. After SIGKILL it waits until the container has stopped.
    ///
    /// Fails with an error that [says so](Error::is_not_running) if there is nobody to send it to.
    async fn signal(&self, container: &Container, signal: Signal) -> Result<()>;

    /// Waits until the container is not running and returns its exit code; at once if it is not running now (zero
    /// if it never ran).
    async fn wait(&self, container: &Container) -> Result<i64>;

    /// Waits until the container is removed; for `--rm`, whose removal the engine does by itself.
    async fn wait_removed(&self, container: &Container) -> Result<()>;

    /// What the container has written, in order.
    async fn logs(
        &self,
        container: &Container,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<LogChunk>>>;

    /// Removes a container.
    async fn remove(&self, container: &Container, how: Removal) -> Result<()>;
}

/// Who carries out a stop.
#[derive(Debug)]
pub enum Conductor {
    /// The caller: it walks the sequence and acts on this instance.
    Caller(Box<dyn Instance>),
    /// A monitor process that outlives the caller. It gets the request and reports.
    Monitor(local::Control),
}

/// One running container or program during a stop, held from look-up to the last signal, so that no order can reach
/// somebody else.
#[async_trait]
pub trait Instance: Debug + Send + Sync {
    /// The main process as this host numbers it; `None` if it runs on another host.
    fn main_pid(&self) -> Option<u32>;

    /// Does the engine send SIGKILL by itself when the stop timeout has passed?
    fn kills_by_itself(&self) -> bool;

    /// Fails as the stop would, as far as that is certain before anything is begun.
    fn check(&self, _policy: &Policy) -> Result<()> {
        Ok(())
    }

    /// Sends the stop signal, and tells an engine that kills by itself when to do so. Returns when the order has
    /// been carried out: for an engine with a stop of its own when that has returned, else when the signal is sent.
    async fn terminate(&self, order: &Terminate) -> Result<()>;

    /// Waits until the main process has ended, and everything in the container with it.
    async fn exited(&self) -> Result<ExitStatus>;

    /// SIGKILL to whatever is left.
    async fn kill(&self) -> Result<()>;

    /// Starts it again, or waits until an engine with a restart of its own has done so.
    async fn start(&self) -> Result<()>;

    /// By which ways clients reach it.
    fn network(&self) -> Network {
        Network::default()
    }

    /// How it runs since [`start`](Self::start); `None` if it has ended again.
    async fn running(&self) -> Result<Option<Running>> {
        Ok(self.main_pid().map(|main| Running { main: Some(main), network: self.network(), healthy: None }))
    }

    /// What about the engine differed from what was asked for, once the stop is over.
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// A program that was started again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The main process as this host numbers it; `None` if it runs on another host.
    pub main: Option<u32>,
    /// By which ways clients reach it.
    pub network: Network,
    /// What its health check says; `None` if it has none.
    pub healthy: Option<bool>,
}

/// The order to end a program.
#[derive(Clone, Debug)]
pub struct Terminate {
    /// Stop signal, budget and their sources: an engine with settings of its own needs to be told only what differs.
    pub policy: Policy,
    /// What is left of the budget; `None`: never kill.
    pub kill_after: Option<Duration>,
    /// Whether the program is started again afterwards.
    pub then: Then,
}

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes, too, if the engine has such.
    pub volumes: bool,
}

/// Which part of a log.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Go on until the container stops.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<usize>,
    /// Only what was written from then on.
    pub since: Option<SystemTime>,
    /// Begin every line with its time: UTC, RFC 3339, nanoseconds.
    pub timestamps: bool,
}

/// A piece of a log, not necessarily a whole line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Which stream it was written to.
    pub stream: LogStream,
    /// Byte for byte what was written.
    pub bytes: Vec<u8>,
}

/// The time of day.
pub fn now() -> Timestamp {
    Timestamp::since_1970(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
