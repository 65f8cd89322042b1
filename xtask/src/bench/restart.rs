//! A restart under load: what clients see of it, with docker and with us.
//!
//! The program is the HTTP server of `examples/hello`, which handles no signal. Clients ask it for answers that take 50 ms;
//! in the middle it is restarted. Nothing is retried, but for a request that a kept connection did not carry.
//!
//! Docker's containers have a published port on 127.0.0.1 of the private daemon's host, which is a network namespace of its
//! own; the clients are there, too. What the local engine runs is in the network of this host.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gracefully_load::{Client, Load, Outcome, Tally, free_address};

use super::table::spread;
use super::workbench::Workbench;
use crate::{command, images};

/// How long an answer takes.
const SERVICE: Duration = Duration::from_millis(50);

/// How long the restarted program may take until it is reached again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
struct Clients {
    how: &'static str,
    number: usize,
    keep_alive: bool,
    think: Duration,
    /// How long they ask before the restart, and after it.
    around: Duration,
}

const CLIENTS: [Clients; 3] = [
    Clients {
        how: "32 clients, a new connection per request",
        number: 32,
        keep_alive: false,
        think: Duration::ZERO,
        around: Duration::from_secs(4),
    },
    Clients {
        how: "64 clients with kept connections, one request after the other",
        number: 64,
        keep_alive: true,
        think: Duration::ZERO,
        around: Duration::from_secs(1),
    },
    Clients {
        how: "64 clients with kept connections, 100 ms between requests",
        number: 64,
        keep_alive: true,
        think: Duration::from_millis(100),
        around: Duration::from_secs(1),
    },
];

/// A way to restart.
#[derive(Clone, Copy, Debug)]
enum Way {
    Docker,
    OursOnDocker,
    OursOnLocal,
}

const WAYS: [Way; 3] = [Way::Docker, Way::OursOnDocker, Way::OursOnLocal];

/// What was measured of one way with these clients.
#[derive(Debug, Default)]
struct Column {
    tally: Tally,
    /// Of each run, in milliseconds.
    took: Vec<f64>,
    /// How much longer than the command and the answer itself the slowest answer of a run took, in milliseconds.
    beyond: Vec<f64>,
}

/// Restarts `runs` times in each way, in turn, with each kind of clients; returns a section of the page.
pub(super) fn measure(bench: &Workbench, runs: usize) -> Result<String> {
    let mut section = format!(
        "\n## A restart under load\n\n\
         An HTTP server that handles no signal, {} ms per answer; {runs} restarts in each way, in turn. On docker its port is\n\
         published on 127.0.0.1. Times: median (10th–90th percentile), in milliseconds. A request on a kept connection that was\n\
         closed without a byte of an answer (\"closed while idle\", \"raced\") may be sent again, and is; nothing else is retried.\n\
         \"Wait beyond\" is how much longer the slowest answer of a run took than the restart and the answer itself.\n",
        SERVICE.as_millis(),
    );
    for clients in CLIENTS {
        let mut columns: [Column; WAYS.len()] = Default::default();
        for run in 0..runs {
            eprintln!("bench: restart under load: {}, run {} of {runs}", clients.how, run + 1);
            for (way, column) in WAYS.iter().zip(&mut columns) {
                column.add(once(bench, *way, clients)?);
            }
        }
        write!(
            section,
            "\n{}:\n\n| command | requests | failed | share | how | the restart took | wait beyond |\n|---|---|---|---|---|---|---|\n",
            clients.how
        )?;
        for (way, column) in WAYS.iter().zip(&columns) {
            section += &column.line(*way);
        }
    }
    Ok(section)
}

/// One answer of 30 s that is under way when the program is to stop; returns a section of the page.
pub(super) fn long_answer(bench: &Workbench) -> Result<String> {
    const ANSWER: Duration = Duration::from_secs(30);
    let mut section = String::from(
        "\n## A long answer\n\nThe same server, published by docker; an answer of 30 s is under way when it is stopped.\n\n\
         | command | the answer | the stop took |\n|---|---|---|\n",
    );
    for (way, words) in [(Way::Docker, &["stop"][..]), (Way::OursOnDocker, &["stop", "-t", "60"])] {
        eprintln!("bench: a long answer, {}", way.command("stop"));
        let (answer, took) = way.at(bench, |server| {
            let at = server.at;
            let client = std::thread::spawn(move || {
                Client::new(at, false).ask(&format!("/sleep/{}", ANSWER.as_millis()))
            });
            // The client has connected, and the request is on its way: half a second is plenty.
            std::thread::park_timeout(Duration::from_millis(500));
            let began = Instant::now();
            command::output(&mut way.program(bench, &[words, &[&server.name]].concat()))?;
            let took = began.elapsed();
            let (answer, _) = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
            Ok((answer, took))
        })?;
        let answer = if answer == Outcome::Answered { "whole".to_owned() } else { format!("**{answer:?}**") };
        let words = words.join(" ");
        writeln!(section, "| `{}` | {answer} | {:.2} s |", way.command(&words), took.as_secs_f64())?;
    }
    Ok(section)
}

/// One restart; how long the command took, and what the clients saw.
fn once(bench: &Workbench, way: Way, clients: Clients) -> Result<(Duration, Tally)> {
    way.at(bench, |server| {
        let load = Load {
            path: format!("/sleep/{}", SERVICE.as_millis()),
            keep_alive: clients.keep_alive,
            think: clients.think,
            ..Load::new(server.at, clients.number)
        };
        let load = load.start();
        std::thread::park_timeout(clients.around);
        let began = Instant::now();
        command::output(&mut way.program(bench, &["restart", &server.name]))?;
        let took = began.elapsed();
        std::thread::park_timeout(clients.around);
        Ok((took, load.stop()))
    })
}

/// The program that is restarted.
struct Server {
    name: String,
    at: SocketAddr,
}

impl Way {
    /// What was typed, but for the name.
    fn command(self, verb: &str) -> String {
        match self {
            Self::Docker => format!("docker {verb} NAME"),
            Self::OursOnDocker => format!("gracefully --engine docker {verb} NAME"),
            Self::OursOnLocal => format!("gracefully --engine local {verb} NAME"),
        }
    }

    fn program(self, bench: &Workbench, words: &[&str]) -> Command {
        match self {
            Self::Docker => bench.docker(words),
            Self::OursOnDocker => bench.gracefully_on_docker(words),
            Self::OursOnLocal => bench.gracefully(words),
        }
    }

    /// Starts a server, does something with it where its clients are, and removes it.
    fn at<T>(self, bench: &Workbench, work: impl FnOnce(&Server) -> Result<T>) -> Result<T> {
        let here = || {
            let at = free_address().context("there is no free port for the server")?;
            let server = Server { name: bench.new_name(), at };
            command::output(&mut self.start(bench, &server))?;
            wait_until_it_answers(at)?;
            let done = work(&server)?;
            command::output(&mut self.program(bench, &["rm", "--force", &server.name]))?;
            Ok(done)
        };
        match self {
            Self::Docker | Self::OursOnDocker => bench.on_dockers_host(here),
            Self::OursOnLocal => here(),
        }
    }

    fn start(self, bench: &Workbench, server: &Server) -> Command {
        match self {
            Self::Docker | Self::OursOnDocker => {
                let publish = format!("{}:8080", server.at);
                let run = ["run", "--detach", "--publish", &publish, "--name", &server.name, images::VICTIM];
                bench.docker(&[&run[..], &["http", "0.0.0.0:8080"]].concat())
            }
            Self::OursOnLocal => bench.run_on_local(&server.name, &["http", &server.at.to_string()]),
        }
    }
}

/// Docker's proxy listens before the program does.
fn wait_until_it_answers(at: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(at).is_err() || Client::new(at, false).ask("/").0 != Outcome::Answered {
        anyhow::ensure!(Instant::now() < deadline, "nobody answers at {at}");
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

    fn line(&self, way: Way) -> String {
        let (requests, failed) = (self.tally.requests(), self.tally.failed());
        #[expect(clippy::cast_precision_loss, reason = "thousands of requests")]
        let share = failed as f64 * 100.0 / requests as f64;
        format!(
            "| `{}` | {requests} | **{failed}** | {share:.2} % | {} | {} | {} |\n",
            way.command("restart"),
            self.tally,
            spread(&self.took),
            spread(&self.beyond),
        )
    }
}
