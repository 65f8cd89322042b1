//! The same server, which handles no signal, restarted under load: first as docker does it, then gracefully.

use std::time::Duration;

use anyhow::Context as _;
use gracefully_core::diagnosis::START_UP_ALLOWANCE;
use gracefully_core::policy::{Care, Request, Then};
use gracefully_core::report::Report;
use gracefully_load::{Load, Tally, free_address};

use super::{Stage, tell, word};
use crate::settings::Settings;

/// How many clients ask, one request after the other, each on a connection of its own.
const CLIENTS: usize = 16;

/// What they ask for: an answer that takes 50 ms.
const PATH: &str = "/sleep/50";

/// How long they ask before the restart: until the server is old enough that it is known to have no handler.
const BEFORE: Duration = START_UP_ALLOWANCE.saturating_add(Duration::from_millis(500));

/// How long they go on after it.
const AFTER: Duration = Duration::from_secs(1);

pub(super) async fn show(settings: &Settings, stage: &Stage) -> anyhow::Result<()> {
    let console = &settings.console;
    console.line(
        "A server that handles no signal, restarted while 16 clients ask it for answers that take 50 ms.\n",
    );
    let ways = [
        ("docker", "as docker does it (--no-drain)", Care::NONE),
        ("graceful", "gracefully", Care::default()),
    ];
    let mut rows = Vec::new();
    for (name, title, care) in ways {
        console.line(&format!("restart, {title}"));
        let (report, tally) = restart(settings, stage, &format!("hello-{name}"), care).await?;
        tell(console, &report);
        console.line(&format!("  clients {tally}\n"));
        rows.push(format!(
            "{name:<12} {:<12} {:<12} {:<16} {:.3} s",
            tally.answered,
            tally.failed(),
            format!("{:.3} s", tally.longest.as_secs_f64()),
            report.took.as_secs_f64()
        ));
    }
    console.line(&format!(
        "{:<12} {:<12} {:<12} {:<16} {}",
        "restart", "answered", "failed", "longest wait", "it took"
    ));
    for row in rows {
        console.line(&row);
    }
    Ok(())
}

async fn restart(
    settings: &Settings,
    stage: &Stage,
    name: &str,
    care: Care,
) -> anyhow::Result<(Report, Tally)> {
    let to = free_address().context("there is no free port for the server")?;
    let command = vec![word(&stage.program("hello")), to.to_string()];
    let container = stage.run(name, command, "listening on").await?;
    let clients = Load { path: PATH.to_owned(), ..Load::new(to, CLIENTS) }.start();
    tokio::time::sleep(BEFORE).await;
    let request = Request { then: Then::Start, care, ..Request::default() };
    let report = stage.stop(settings, name, &container, request).await;
    tokio::time::sleep(AFTER).await;
    // Every client ends with the answer that it waits for, also when the restart has failed.
    let tally = tokio::task::spawn_blocking(|| clients.stop()).await.context("a client has panicked")?;
    Ok((report?, tally))
}
