//! `demo`: the same program, written in the two forms that a Dockerfile's CMD can have, and what a stop makes of each.
//!
//! The program is `examples/seed`. It is compiled into this executable and started through a link named `seed`, so
//! the demo needs nothing but the machine. Everything happens in a directory of its own, on the embedded engine,
//! and is gone afterwards.

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

use crate::display::verdict;
use crate::interrupt::Interrupts;
use crate::settings::Settings;

/// Docker's ten seconds would only make the demo longer.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the program may take until it says that it has started.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// Shows what a graceful stop is.
pub(super) async fn demo(settings: &Settings) -> anyhow::Result<u8> {
    let mut interrupts = Interrupts::new()?;
    let stage = Stage::build()?;
    let shown = interrupts.or(show(settings, &stage)).await;
    stage.clear().await?;
    match shown {
        Ok(result) => result.map(|()| exit::OK),
        Err(interrupt) => Ok(interrupt.code()),
    }
}

async fn show(settings: &Settings, stage: &Stage) -> anyhow::Result<()> {
    let console = &settings.console;
    console.line("The same program as PID 1 of two containers; both get SIGTERM and 3 seconds.\n");
    let mut rows = Vec::new();
    for form in [Form::Exec, Form::Shell] {
        let command = form.command(&stage.seed);
        console.line(&format!("{} form   CMD {}", form.name(), serde_json::to_string(&command)?));
        let ended = stage.run_and_stop(settings, form, command).await?;
        for line in ended.log.lines() {
            console.line(&format!("  log     {line}"));
        }
        for line in verdict("report", &ended.report) {
            console.line(&format!("  {line}"));
        }
        console.line("");
        rows.push(ended.row(form));
    }
    console.line(&format!("{:<12} {:<24} {:<28} {}", "", "the program saw SIGTERM", "it ended by", "after"));
    for row in rows {
        console.line(&row);
    }
    Ok(())
}

/// How a Dockerfile's CMD names its command.
#[derive(Clone, Copy)]
enum Form {
    /// `CMD ["seed"]`: the program is PID 1.
    Exec,
    /// `CMD seed; true`: a shell is PID 1, and the program its child.
    Shell,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Shell => "shell",
        }
    }

    fn command(self, program: &Path) -> Vec<String> {
        let program = program.display().to_string();
        match self {
            Self::Exec => vec![program],
            // With a second command the shell cannot simply become the program, as some do.
            Self::Shell => vec!["/bin/sh".into(), "-c".into(), format!("{program}; true")],
        }
    }
}

/// The directory and the engine of one demo.
struct Stage {
    directory: PathBuf,
    /// The link to this executable under the program's name.
    seed: PathBuf,
    engine: Local,
}

impl Stage {
    fn build() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("gracefully-demo-{}", std::process::id()));
        let create = || -> anyhow::Result<Self> {
            std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
            let seed = directory.join("seed");
            symlink(std::env::current_exe()?, &seed)?;
            let engine = Local::open_at(&directory.join("state"))?;
            Ok(Self { directory: directory.clone(), seed, engine })
        };
        create().with_context(|| format!("cannot prepare the demo in {}", directory.display()))
    }

    async fn run_and_stop(
        &self,
        settings: &Settings,
        form: Form,
        command: Vec<String>,
    ) -> anyhow::Result<Ended> {
        let name = format!("{}-form", form.name());
        let spec = RunSpec { name: Some(name.clone()), command, ..RunSpec::default() };
        let container = self.engine.run(spec).await?;
        tokio::time::timeout(STARTED_WITHIN, self.wait_until_started(&container))
            .await
            .with_context(|| format!("{name} did not start within {} s", STARTED_WITHIN.as_secs()))??;

        let request = Request { timeout: Some(Timeout::After(STOP_TIMEOUT)), ..Request::default() };
        let mut line = settings.console.watch(&name);
        let report = match self.engine.conductor(&container).await? {
            Conductor::Monitor(monitor) => {
                monitor.stop(&request, &mut |progress| line.show(&progress)).await?
            }
            Conductor::Caller(_) => anyhow::bail!("the monitor of {name} is gone"),
        };
        drop(line);
        Ok(Ended { log: self.log(&container).await?, report })
    }

    async fn wait_until_started(&self, container: &Container) -> anyhow::Result<()> {
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let mut log = self.engine.logs(container, &follow).await?;
        let mut seen = Vec::new();
        while !seen.ends_with(b"Program started...\n") {
            let chunk =
                log.next().await.context("the program ended before it said that it had started")??;
            seen.extend(chunk.bytes);
        }
        Ok(())
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

/// One program's end.
struct Ended {
    log: String,
    report: Report,
}

impl Ended {
    /// A row of the closing table.
    fn row(&self, form: Form) -> String {
        let saw = if self.log.contains("SIGTERM received!") { "yes" } else { "no" };
        let exit = self.report.exit.map_or_else(String::new, |exit| exit.to_string());
        let took = self.report.took.as_secs_f64();
        format!("{:<12} {saw:<24} {exit:<28} {took:.3} s", format!("{} form", form.name()))
    }
}
