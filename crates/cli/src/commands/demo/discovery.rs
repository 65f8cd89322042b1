//! A gateway in front of two instances, of which one ends: killed, with a registration that stays, and gracefully.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use gracefully_core::policy::{Care, Request};
use gracefully_core::signal::Signal;
use gracefully_engine::{Container, Engine as _};
use gracefully_load::{Load, Tally, free_address};
use gracefully_registry::{Deadline, find};

use super::gateway::Gateway;
use super::programs::{Programs, SERVICE};
use super::{Stage, tell, word};
use crate::settings::Settings;

const CLIENTS: usize = 16;

/// What they ask for: an answer that takes 20 ms.
const PATH: &str = "/slow/20";

/// A registry that does not answer in this time is none to show.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// How long they ask before the end, and after it.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_secs(1);

/// Fails if the registry cannot be shown: before anything has been.
pub(super) fn check(registry: &str) -> anyhow::Result<()> {
    find(registry, SERVICE, Deadline::within(ANSWERED_WITHIN))?;
    Ok(())
}

pub(super) async fn show(
    settings: &Settings,
    stage: &Stage,
    programs: &Programs,
    registry: &str,
) -> anyhow::Result<()> {
    let console = &settings.console;
    console.line(&format!(
        "Two instances behind a gateway that finds them in a registry; one of them ends while {CLIENTS} clients ask for answers that take 20 ms.\n"
    ));
    let mut rows = Vec::new();
    for (name, title, is_killed) in [("killed", "killed", true), ("graceful", "gracefully", false)] {
        console.line(&format!("one instance ends, {title}"));
        // Whoever is killed stays registered, and is not to be found in the next round.
        let round = format!("demo-{}-{name}", std::process::id());
        let registry = below(registry, &round);
        let tally = one_ends(settings, stage, programs, name, &registry, is_killed).await?;
        console.line(&format!("  clients {tally}\n"));
        let longest = format!("{:.3} s", tally.longest.as_secs_f64());
        rows.push(format!(
            "{:<20} {:<14} {:<14} {longest}",
            format!("gateway, {name}"),
            tally.answered,
            tally.failed()
        ));
    }
    console.line(&format!("{:<20} {:<14} {:<14} {}", "one instance", "answered", "failed", "longest wait"));
    for row in rows {
        console.line(&row);
    }
    Ok(())
}

/// A place of its own in a registry.
fn below(registry: &str, name: &str) -> String {
    let (place, settings) = registry.split_at(registry.find('?').unwrap_or(registry.len()));
    format!("{}/{name}{settings}", place.trim_end_matches('/'))
}

async fn one_ends(
    settings: &Settings,
    stage: &Stage,
    programs: &Programs,
    name: &str,
    registry: &str,
    is_killed: bool,
) -> anyhow::Result<Tally> {
    let mut instances = Vec::new();
    for number in 1..=2 {
        let to = free_address().context("there is no free port for the service")?;
        instances.push(start(stage, programs, &format!("{name}-{number}"), to, registry).await?);
    }
    let gateway = Gateway::start(registry, SERVICE)?;
    let clients = Load { path: PATH.to_owned(), ..Load::new(gateway.at, CLIENTS) }.start();
    tokio::time::sleep(BEFORE).await;
    if is_killed {
        stage.engine.signal(&instances[0], Signal::KILL).await?;
    } else {
        // Without our help at its connections: what is shown is what the service does itself.
        let request = Request { care: Care::NONE, ..Request::default() };
        let report = stage.stop(settings, name, &instances[0], request).await?;
        tell(&settings.console, &report);
    }
    tokio::time::sleep(AFTER).await;
    let tally = tokio::task::spawn_blocking(|| clients.stop()).await.context("a client has panicked")?;
    drop(gateway);
    stage.engine.signal(&instances[1], Signal::KILL).await?;
    Ok(tally)
}

async fn start(
    stage: &Stage,
    programs: &Programs,
    name: &str,
    to: SocketAddr,
    registry: &str,
) -> anyhow::Result<Container> {
    let book = stage.directory.join(format!("{name}.book"));
    let words = ["serve", &to.to_string(), &word(&book), "--register", registry].map(str::to_owned);
    let command = [vec![word(&programs.path(SERVICE))], words.to_vec()].concat();
    stage.run(name, command, "listening on").await
}
