//! `demo`: what a stop and a restart can do wrong, and what they do here.
//!
//! Four acts: a program behind a shell that passes no signal on ([`forms`]), a server that is restarted under load
//! ([`load`]), a service that has acknowledged what it has not written ([`orders`]), and an instance to which a gateway sends
//! requests when it is gone ([`discovery`]). The programs of the first two, `examples/seed` and `examples/hello`, are compiled
//! into this executable and started through links of their names; those of the others, `examples/orders`, have to be beside it. Everything happens in a directory of its own, on the embedded engine,
//! and is gone afterwards.

use std::future::pending;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use gracefully_core::exit;
use gracefully_core::policy::{Request, Timeout};
use gracefully_core::report::Report;
use gracefully_engine::local::Local;
use gracefully_engine::{Conductor, Container, Engine as _, ListOptions, LogOptions, Removal, RunSpec};

use self::programs::Programs;
use crate::args::Demo;
use crate::display::{Console, verdict};
use crate::interrupt::Interrupts;
use crate::settings::Settings;

mod discovery;
mod forms;
mod gateway;
mod load;
mod orders;
mod programs;

/// Docker's ten seconds would only make the demo longer.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a program may take until it says that it has started.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// Shows what a graceful stop is.
pub(super) async fn demo(settings: &Settings, args: Demo) -> anyhow::Result<u8> {
    let mut interrupts = Interrupts::new()?;
    let stage = Stage::build()?;
    let registry =
        args.registry.unwrap_or_else(|| format!("file://{}", stage.directory.join("services").display()));
    let shown = match discovery::check(&registry) {
        Ok(()) => interrupts.or(show(settings, &stage, &registry)).await,
        Err(error) => Ok(Err(error)),
    };
    stage.clear().await?;
    match shown {
        Ok(result) => result.map(|()| exit::OK),
        Err(interrupt) => Ok(interrupt.code()),
    }
}

async fn show(settings: &Settings, stage: &Stage, registry: &str) -> anyhow::Result<()> {
    let programs = Programs::beside_us(&settings.console);
    forms::show(settings, stage).await?;
    settings.console.line("");
    load::show(settings, stage).await?;
    settings.console.line("");
    let Some(programs) = programs else {
        settings.console.line(
            "The other acts need the programs of examples/orders beside this one: cargo build --release",
        );
        return Ok(());
    };
    orders::show(settings, stage, &programs).await?;
    settings.console.line("");
    discovery::show(settings, stage, &programs, registry).await
}

/// The directory and the engine of one demo.
struct Stage {
    directory: PathBuf,
    engine: Local,
}

impl Stage {
    fn build() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("gracefully-demo-{}", std::process::id()));
        let create = || -> anyhow::Result<Self> {
            std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
            for program in ["seed", "hello"] {
                symlink(std::env::current_exe()?, directory.join(program))?;
            }
            let engine = Local::open_at(&directory.join("state"))?;
            Ok(Self { directory: directory.clone(), engine })
        };
        create().with_context(|| format!("cannot prepare the demo in {}", directory.display()))
    }

    /// The link to this executable under a program's name.
    fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Starts a program and waits until it says that it is ready.
    async fn run(&self, name: &str, command: Vec<String>, ready: &str) -> anyhow::Result<Container> {
        let spec = RunSpec { name: Some(name.to_owned()), command, ..RunSpec::default() };
        let container = self.engine.run(spec).await?;
        tokio::time::timeout(STARTED_WITHIN, self.wait_until_ready(&container, ready))
            .await
            .with_context(|| format!("{name} did not start within {} s", STARTED_WITHIN.as_secs()))??;
        Ok(container)
    }

    async fn wait_until_ready(&self, container: &Container, ready: &str) -> anyhow::Result<()> {
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let mut log = self.engine.logs(container, &follow).await?;
        let mut seen = String::new();
        while !seen.contains(ready) {
            let chunk = log.next().await.context("the program ended before it said that it was ready")??;
            seen.push_str(&String::from_utf8_lossy(&chunk.bytes));
        }
        Ok(())
    }

    /// Stops or restarts a program with the demo's timeout.
    async fn stop(
        &self,
        settings: &Settings,
        name: &str,
        container: &Container,
        request: Request,
    ) -> anyhow::Result<Report> {
        let request = Request { timeout: Some(Timeout::After(STOP_TIMEOUT)), ..request };
        let mut line = settings.console.watch(name);
        match self.engine.conductor(container).await? {
            Conductor::Monitor(monitor) => {
                Ok(monitor.stop(&request, pending(), &mut |progress| line.show(&progress)).await?)
            }
            Conductor::Caller(_) => anyhow::bail!("the monitor of {name} is gone"),
        }
    }

    async fn log(&self, container: &Container) -> anyhow::Result<String> {
        let mut log = self.engine.logs(container, &LogOptions::default()).await?;
        let mut text = Vec::new();
        while let Some(chunk) = log.next().await {
            text.extend(chunk?.bytes);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Removes everything, also what an interrupt has left running.
    async fn clear(&self) -> anyhow::Result<()> {
        for container in self.engine.list(&ListOptions { all: true, ..ListOptions::default() }).await? {
            self.engine.remove(&container, Removal { force: true, ..Removal::default() }).await?;
        }
        std::fs::remove_dir_all(&self.directory)
            .with_context(|| format!("cannot remove {}", self.directory.display()))
    }
}

/// Shows how a stop or a restart went.
fn tell(console: &Console, report: &Report) {
    for line in verdict("report", report) {
        console.line(&format!("  {line}"));
    }
}

/// A path as an argument of a command.
fn word(path: &Path) -> String {
    path.display().to_string()
}
