//! A restart under load: what clients see of it, with docker and with us.
//!
//! The program is the HTTP server of `examples/hello`, which handles no signal. 32 clients ask it, each with a new
//! connection per request, for an answer that takes 50 ms; in the middle it is restarted. Nothing is retried.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gracefully_load::{Load, Tally, free_address};

use super::table::spread;
use super::workbench::Workbench;
use crate::{command, images};

const CLIENTS: usize = 32;

/// How long an answer takes.
const SERVICE: Duration = Duration::from_millis(50);

/// How long the clients ask before the restart, and after it: 5,000 requests in all, if nothing fails.
const AROUND: Duration = Duration::from_secs(4);

/// How long the restarted program may take until it is reached again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that was measured.
#[derive(Debug)]
pub(super) struct Restarts {
    runs: usize,
    columns: Vec<Column>,
}

/// One way to restart.
#[derive(Debug)]
struct Column {
    command: &'static str,
    tally: Tally,
    /// Of each run, in milliseconds.
    took: Vec<f64>,
    /// How much longer than the command and the answer itself the slowest answer of a run took, in milliseconds.
    beyond: Vec<f64>,
}

/// Restarts `runs` times in each way, in turn.
pub(super) fn measure(bench: &Workbench, runs: usize) -> Result<Restarts> {
    let column = |command| Column { command, tally: Tally::default(), took: Vec::new(), beyond: Vec::new() };
    let mut columns = vec![
        column("docker restart NAME"),
        column("gracefully --engine docker restart NAME"),
        column("gracefully --engine local restart NAME"),
    ];
    for run in 0..runs {
        eprintln!("bench: restart under load, run {} of {runs}", run + 1);
        columns[0].add(once(bench, Engine::Docker, |name| bench.docker(&["restart", name]))?);
        columns[1].add(once(bench, Engine::Docker, |name| bench.gracefully_on_docker(&["restart", name]))?);
        columns[2].add(once(bench, Engine::Local, |name| bench.gracefully(&["restart", name]))?);
    }
    Ok(Restarts { runs, columns })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Docker,
    Local,
}

/// One restart; how long the command took, and what the clients saw.
fn once(
    bench: &Workbench,
    engine: Engine,
    restart: impl FnOnce(&str) -> Command,
) -> Result<(Duration, Tally)> {
    let name = bench.new_name();
    let at = free_address().context("there is no free port for the server")?;
    let words = ["http", &at.to_string()];
    let mut run = match engine {
        Engine::Docker => {
            let run = ["run", "--detach", "--net=host", "--name", &name, images::VICTIM];
            bench.docker(&[&run[..], &words].concat())
        }
        Engine::Local => bench.run_on_local(&name, &words),
    };
    command::output(&mut run)?;
    wait_until_it_listens(at)?;
    let clients = Load { path: format!("/sleep/{}", SERVICE.as_millis()), ..Load::new(at, CLIENTS) }.start();
    std::thread::park_timeout(AROUND);
    let began = Instant::now();
    command::output(&mut restart(&name))?;
    let took = began.elapsed();
    std::thread::park_timeout(AROUND);
    let tally = clients.stop();
    let mut remove = match engine {
        Engine::Docker => bench.docker(&["rm", "--force", &name]),
        Engine::Local => bench.gracefully(&["rm", "--force", &name]),
    };
    command::output(&mut remove)?;
    Ok((took, tally))
}

fn wait_until_it_listens(at: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(at).is_err() {
        anyhow::ensure!(Instant::now() < deadline, "nobody listens on {at}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}

impl Column {
    fn add(&mut self, (took, tally): (Duration, Tally)) {
        let beyond = tally.longest.saturating_sub(took + SERVICE);
        self.tally = self.tally.add(tally);
        self.took.push(took.as_secs_f64() * 1e3);
        self.beyond.push(beyond.as_secs_f64() * 1e3);
    }
}

impl Restarts {
    /// A section of the page.
    pub(super) fn section(&self) -> Result<String> {
        let mut section = format!(
            "\n## A restart under load\n\n\
             An HTTP server that handles no signal, {CLIENTS} clients, a new connection per request, {} ms per answer; {} restarts\n\
             each, in turn, in the network of the host. Times: median (10th–90th percentile), in milliseconds. Nothing is retried;\n\
             \"wait beyond\" is how much longer the slowest answer of a run took than the restart and the answer itself.\n\n\
             | command | requests | failed | share | how | the restart took | wait beyond |\n|---|---|---|---|---|---|---|\n",
            SERVICE.as_millis(),
            self.runs
        );
        for column in &self.columns {
            let (requests, failed) = (column.tally.requests(), column.tally.failed());
            #[expect(clippy::cast_precision_loss, reason = "thousands of requests")]
            let share = failed as f64 * 100.0 / requests as f64;
            writeln!(
                section,
                "| `{}` | {requests} | **{failed}** | {share:.2} % | {} | {} | {} |",
                column.command,
                column.tally,
                spread(&column.took),
                spread(&column.beyond),
            )?;
        }
        Ok(section)
    }
}
