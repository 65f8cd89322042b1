//! What is acknowledged and what is on the disk: an order service under load that is killed or stopped, as one writes it without a
//! thought of stopping, and on the library.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use gracefully_core::policy::{Care, Request};
use gracefully_core::signal::Signal;
use gracefully_engine::{Container, Engine as _};
use gracefully_load::{Client, Outcome, free_address};

use super::programs::{NAIVE, Programs, SERVICE};
use super::{Stage, tell, word};
use crate::settings::Settings;

/// How many clients order, one order after the other.
const CLIENTS: usize = 8;

/// How long they order before the end.
const BEFORE: Duration = Duration::from_millis(700);

pub(super) async fn show(settings: &Settings, stage: &Stage, programs: &Programs) -> anyhow::Result<()> {
    let console = &settings.console;
    console.line(&format!(
        "A service that takes orders, ended while {CLIENTS} clients order: what was acknowledged, and what is on the disk.\n"
    ));
    let mut rows = Vec::new();
    for (title, is_naive, end) in [
        ("naive, SIGKILL", true, End::Kill),
        ("naive, SIGTERM", true, End::Stop),
        ("graceful, SIGKILL", false, End::Kill),
        ("graceful, SIGTERM", false, End::Stop),
    ] {
        let act = Act { name: title.replace(", ", "-"), is_naive, end };
        console.line(title);
        let seen = act.play(settings, stage, programs).await?;
        let lost = seen.acknowledged.difference(&seen.written).count();
        let row = [seen.acknowledged.len(), seen.written.len(), lost, seen.failed];
        console.line(&format!("  clients {} orders acknowledged, {} requests cut\n", row[0], row[3]));
        rows.push(format!("{title:<20} {:<14} {:<14} {:<12} {}", row[0], row[1], row[2], row[3]));
    }
    console.line(&format!(
        "{:<20} {:<14} {:<14} {:<12} {}",
        "orders", "acknowledged", "on the disk", "lost", "requests cut"
    ));
    for row in rows {
        console.line(&row);
    }
    Ok(())
}

/// How a service ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// `kill -9`, or what the kernel does when memory runs out.
    Kill,
    /// SIGTERM, as docker sends it.
    Stop,
}

struct Act {
    name: String,
    is_naive: bool,
    end: End,
}

/// What was seen of one service.
struct Seen {
    acknowledged: HashSet<String>,
    written: HashSet<String>,
    failed: usize,
}

impl Act {
    async fn play(self, settings: &Settings, stage: &Stage, programs: &Programs) -> anyhow::Result<Seen> {
        let book = stage.directory.join(format!("{}.book", self.name));
        let to = free_address().context("there is no free port for the service")?;
        let container = stage.run(&self.name, self.command(programs, to, &book), "listening on").await?;
        let clients = tokio::task::spawn_blocking(move || order_until_refused(to));
        tokio::time::sleep(BEFORE).await;
        self.finish(settings, stage, &container).await?;
        let (acknowledged, failed) = clients.await.context("a client has panicked")?;
        Ok(Seen { acknowledged, written: self.read(programs, &book)?, failed })
    }

    fn command(&self, programs: &Programs, to: SocketAddr, book: &Path) -> Vec<String> {
        let mut command = vec![word(&programs.path(if self.is_naive { NAIVE } else { SERVICE }))];
        command.extend((!self.is_naive).then(|| "serve".to_owned()));
        command.extend([to.to_string(), word(book)]);
        command
    }

    async fn finish(&self, settings: &Settings, stage: &Stage, container: &Container) -> anyhow::Result<()> {
        if self.end == End::Kill {
            stage.engine.signal(container, Signal::KILL).await?;
            return Ok(());
        }
        // Without our help at its connections: what is shown is what the service does itself.
        let request = Request { care: Care::NONE, ..Request::default() };
        let report = stage.stop(settings, &self.name, container, request).await?;
        tell(&settings.console, &report);
        for line in stage.log(container).await?.lines().filter(|line| line.starts_with("graceful")) {
            settings.console.line(&format!("  log     {line}"));
        }
        Ok(())
    }

    /// The orders as the service itself would find them.
    fn read(&self, programs: &Programs, book: &Path) -> anyhow::Result<HashSet<String>> {
        let text = if self.is_naive {
            std::fs::read(book)?
        } else {
            let list = Command::new(programs.path(SERVICE)).arg("list").arg(book).output()?;
            if !list.status.success() {
                bail!("orders list: {}", String::from_utf8_lossy(&list.stderr).trim());
            }
            list.stdout
        };
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }
}

/// Clients that order until nobody listens any more: what was acknowledged, and how many requests had no answer.
fn order_until_refused(to: SocketAddr) -> (HashSet<String>, usize) {
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| std::thread::spawn(move || one_client(to, client))).collect();
    let mut all = (HashSet::new(), 0);
    for client in clients {
        let (acknowledged, failed) = client.join().expect("a client does not panic");
        all.0.extend(acknowledged);
        all.1 += failed;
    }
    all
}

fn one_client(to: SocketAddr, client: usize) -> (Vec<String>, usize) {
    let mut connection = Client::new(to, false);
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for number in 0.. {
        let order = format!("order {number} of client {client}");
        match connection.post("/orders", &order).0 {
            Outcome::Answered => acknowledged.push(order),
            Outcome::Refused => break,
            _ => failed += 1,
        }
    }
    (acknowledged, failed)
}
