//! The embedded engine: containers without a daemon.
//!
//! Every container has a process of its own that looks after it, the **monitor** ([`gracefully_monitor`]). It owns the
//! log, waits, applies the restart policy and has the container stopped when a client asks; so a client that dies
//! changes nothing. Everything else is files:
//!
//! * [`StateRoot`]: where they are and who may look.
//! * [`Home`]: the directory of one container, and the lock that says who is in charge.
//! * [`Record`](gracefully_monitor::record): what is written down about it.
//! * [`log`](gracefully_monitor::log): what it wrote.
//! * [`protocol`](gracefully_monitor::protocol): what a client and a monitor say to each other; [`Control`] is the
//!   client's side.
//! * [`launcher`]: how a container is made, on behalf of its monitor.
//!
//! **When a monitor was killed** its lock is free. The next command that looks at the container puts it right: if PID 1
//! has ended too, that is written down; if it runs on, it is shown as running with a note, and whoever stops it does so
//! on its own. Its output is lost from then on: nobody reads the pipe, and writing to it fails with EPIPE.
//!
//! **The environment.** On the host's root a program gets the environment of the caller, as without us, and `-e`. With
//! `--rootfs` it gets `PATH`, `HOSTNAME`, `HOME` and `-e`, as docker does. It starts in the caller's directory on the
//! host's root, else in `/`.

pub mod launcher;
pub mod lines;

mod control;
mod home;
mod inspect;
mod log;
mod names;
mod orphan;
mod paths;
mod record;
mod run;
mod settle;
mod spawn;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};
use crate::filter::Selection;
use crate::{Conductor, Container, Engine, Kind, ListOptions, LogChunk, LogOptions, Removal};

pub use self::control::Control;
pub use self::home::{Home, Lock};
pub use self::paths::StateRoot;
pub use self::run::{Attached, Ended};

use self::orphan::{Orphan, ended, send};
use self::settle::{Charge, Seen};

/// How long a monitor may take from its last word to its end, or from its start to its first.
const PASSING: Duration = Duration::from_secs(10);

/// How often we look again meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The exit code of a container about which nobody could say how it ended, as docker's.
const UNKNOWN: i64 = 255;

/// The embedded engine.
#[derive(Clone, Debug)]
pub struct Local {
    root: StateRoot,
}

impl Local {
    /// Opens the engine on its usual directory: see [`StateRoot::default_path`].
    pub fn open() -> Result<Self> {
        Self::open_at(&StateRoot::default_path()?)
    }

    /// Opens the engine on this directory, and makes it if it is missing.
    pub fn open_at(path: &Path) -> Result<Self> {
        Ok(Self { root: StateRoot::open(path)? })
    }

    async fn start_id(&self, id: &str) -> Result<()> {
        let home = self.root.home(id);
        let end = Instant::now() + PASSING;
        loop {
            let seen = settle::settle(&self.root, &home)?;
            if record::state(&seen.record).is_up() {
                return Ok(());
            }
            if let Some(lock) = home.lock().await? {
                return spawn::monitor(&home, lock).await.map(drop);
            }
            // A monitor that is leaving, or a new one that another client has started.
            pass(end, "the container's monitor").await?;
        }
    }

    async fn remove_id(&self, id: &str, force: bool) -> Result<()> {
        let home = self.root.home(id);
        let end = Instant::now() + PASSING;
        loop {
            match settle::settle(&self.root, &home) {
                Ok(Seen { record, .. }) if record::state(&record).is_up() && !force => {
                    return Err(Error::Running { name: record.name });
                }
                Ok(Seen { record, charge, .. }) if record::state(&record).is_up() => {
                    self.kill(&home, charge).await?;
                }
                Ok(_) => {}
                // It is torn: nobody knows whether it runs, so it is removed only if nobody looks after it.
                Err(error @ Error::State { .. }) => match Control::connect(self, &home).await? {
                    Some(_) if !force => return Err(error),
                    Some(monitor) => ignore_gone(monitor.signal(Signal::KILL).await.map(drop))?,
                    None => {}
                },
                Err(error) => return Err(error),
            }
            match home.lock().await {
                Ok(Some(lock)) => return settle::remove(&self.root, &home, &lock),
                Ok(None) => pass(end, "the container's monitor").await?,
                // With --rm its monitor was quicker.
                Err(Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a container that is up, whoever looks after it.
    async fn kill(&self, home: &Home, charge: Charge) -> Result<()> {
        match charge {
            Charge::Orphan(main) => {
                ignore_gone(send(&main, home.id(), Signal::KILL))?;
                ended(&main).await
            }
            Charge::Monitor => match Control::connect(self, home).await? {
                Some(monitor) => ignore_gone(monitor.signal(Signal::KILL).await.map(drop)),
                None => Ok(()),
            },
            Charge::Nobody => Ok(()),
        }
    }

    /// What it means for a stop that its monitor has closed the connection.
    async fn monitor_lost(&self, id: &str) -> Error {
        match self.reach(&self.root.home(id)).await {
            Ok(None) | Err(Error::NotFound { .. }) => Error::NotRunning { id: id.to_owned() },
            Ok(Some(_)) => Error::System {
                what: format!("stopping container {id}"),
                source: std::io::Error::other(
                    "its monitor was killed; stop it once more, which works without",
                ),
            },
            Err(error) => error,
        }
    }

    /// The monitor of a container that is up, as soon as it listens; `None` if it is not up any more.
    async fn reach(&self, home: &Home) -> Result<Option<Reached>> {
        let end = Instant::now() + PASSING;
        loop {
            let seen = settle::settle(&self.root, home)?;
            if !record::state(&seen.record).is_up() {
                return Ok(None);
            }
            match seen.charge {
                Charge::Orphan(main) => return Ok(Some(Reached::Orphan(main))),
                Charge::Monitor => {
                    if let Some(control) = Control::connect(self, home).await? {
                        return Ok(Some(Reached::Monitor(control)));
                    }
                }
                Charge::Nobody => {}
            }
            pass(end, "the container's monitor").await?;
        }
    }
}

/// Who answers for a container that is up.
enum Reached {
    Monitor(Control),
    Orphan(gracefully_linux::PidFd),
}

#[async_trait]
impl Engine for Local {
    fn kind(&self) -> Kind {
        Kind::Local
    }

    async fn find(&self, name: &str) -> Result<Container> {
        let bare = name.strip_prefix('/').unwrap_or(name);
        let missing = || Error::NotFound { name: name.to_owned() };
        let ids: Vec<String> = self.root.homes()?.into_iter().map(|home| home.id().to_owned()).collect();
        let id = match names::owner(&self.root, bare) {
            _ if ids.iter().any(|id| id == bare) => bare.to_owned(),
            Some(owner) if ids.contains(&owner) => owner,
            _ => {
                let mut matching = ids.into_iter().filter(|id| !bare.is_empty() && id.starts_with(bare));
                let id = matching.next().ok_or_else(missing)?;
                if matching.next().is_some() {
                    return Err(Error::Ambiguous { prefix: name.to_owned() });
                }
                id
            }
        };
        match settle::container(&self.root, &self.root.home(&id)) {
            Err(Error::NotFound { .. }) => Err(missing()),
            found => found,
        }
    }

    async fn list(&self, options: &ListOptions) -> Result<Vec<Container>> {
        let selection = Selection::new(options)?;
        if !self.root.hidden()?.is_empty() {
            self.root.sweep(&self.root.alone()?)?;
        }
        let mut containers = Vec::new();
        for home in self.root.homes()? {
            match settle::container(&self.root, &home) {
                Ok(container) => containers.push(container),
                // Removed since the directory was read.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        Ok(selection.select(containers))
    }

    async fn inspect(&self, container: &Container) -> Result<serde_json::Value> {
        let home = self.root.home(&container.id);
        let seen = settle::settle(&self.root, &home)?;
        Ok(inspect::inspect(&home, &seen.record, seen.note.as_deref()))
    }

    async fn conductor(&self, container: &Container) -> Result<Conductor> {
        let id = &container.id;
        match self.reach(&self.root.home(id)).await? {
            Some(Reached::Monitor(control)) => Ok(Conductor::Monitor(control)),
            Some(Reached::Orphan(main)) => {
                Ok(Conductor::Caller(Box::new(Orphan::new(self.clone(), id.clone(), main))))
            }
            None => Err(Error::NotRunning { id: id.clone() }),
        }
    }

    async fn start(&self, container: &Container) -> Result<()> {
        self.start_id(&container.id).await
    }

    async fn signal(&self, container: &Container, signal: Signal) -> Result<()> {
        let id = &container.id;
        let home = self.root.home(id);
        loop {
            match self.reach(&home).await? {
                Some(Reached::Monitor(control)) => {
                    if let Some(done) = control.signal(signal).await? {
                        return Ok(done);
                    }
                }
                Some(Reached::Orphan(main)) => {
                    send(&main, id, signal)?;
                    return if signal == Signal::KILL { ended(&main).await } else { Ok(()) };
                }
                None => return Err(Error::NotRunning { id: id.clone() }),
            }
        }
    }

    async fn wait(&self, container: &Container) -> Result<i64> {
        let home = self.root.home(&container.id);
        loop {
            match self.reach(&home).await? {
                Some(Reached::Monitor(control)) => {
                    if let Some(code) = control.wait().await? {
                        return Ok(code);
                    }
                }
                Some(Reached::Orphan(main)) => {
                    ended(&main).await?;
                    return Ok(main.exit_status().map_or(UNKNOWN, exit_code));
                }
                None => {
                    // What is written down may lack the end, if the disk was full.
                    let seen = settle::settle(&self.root, &home)?;
                    return Ok(seen.record.exit.map_or(0, exit_code));
                }
            }
        }
    }

    async fn wait_removed(&self, container: &Container) -> Result<()> {
        let home = self.root.home(&container.id);
        loop {
            match self.reach(&home).await {
                Ok(Some(Reached::Monitor(control))) => drop(control.wait().await?),
                Ok(Some(Reached::Orphan(main))) => ended(&main).await?,
                Ok(None) if home.path().exists() => sleep(LOOK_AGAIN).await,
                Ok(None) | Err(Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn logs(
        &self,
        container: &Container,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let home = self.root.home(&container.id);
        // What cannot be read must not look like a program that has written nothing.
        settle::settle(&self.root, &home)?;
        let control = if options.follow { self.reach(&home).await? } else { None };
        let stopped: Option<log::Stopped> = match control {
            Some(Reached::Monitor(control)) => Some(Box::pin(async { drop(control.wait().await) })),
            // Without a monitor nothing more is written.
            Some(Reached::Orphan(_)) | None => None,
        };
        log::read(home.path(), options, log::Pace::Overtaken, stopped)
    }

    /// There are no volumes here.
    async fn remove(&self, container: &Container, how: Removal) -> Result<()> {
        self.remove_id(&container.id, how.force).await
    }
}

/// Whoever is to be ended may have ended already.
fn ignore_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::NotRunning { .. } | Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

/// Waits a moment for something that passes by itself, until `end`.
async fn pass(end: Instant, who: &str) -> Result<()> {
    if Instant::now() >= end {
        return Err(Error::Timeout { who: who.to_owned(), after: PASSING });
    }
    sleep(LOOK_AGAIN).await;
    Ok(())
}

/// As docker shows it; an end of which nobody knows is no success.
fn exit_code(status: ExitStatus) -> i64 {
    status.code().map_or(UNKNOWN, i64::from)
}
