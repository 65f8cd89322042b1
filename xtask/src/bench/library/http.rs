//! The same routes, served by our library and by axum with its graceful shutdown.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_load::{Client, Outcome, free_address};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Programs;
use crate::bench::sample::{Samples, pairs};
use crate::bench::table::Row;
use crate::command;

/// How long a server may take until it listens.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

const OURS: &str = "ours";
const AXUM: &str = "axum";

/// A server at work; killed if nobody has ended it.
struct Server {
    child: Child,
    at: SocketAddr,
}

impl Server {
    fn start(programs: &Programs, how: &str, settle: &str) -> Result<Self> {
        let at = free_address().context("there is no free port for the server")?;
        let book = programs.directory.path().join("book");
        let mut command = Command::new(&programs.service);
        command.arg(how).arg(at.to_string()).arg(&book);
        command.env("GRACEFULLY_SETTLE", settle).env_remove("GRACEFULLY_GRACE");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { child, at };
        let deadline = Instant::now() + STARTED_WITHIN;
        while TcpStream::connect(at).is_err() {
            ensure!(Instant::now() < deadline, "{how} does not listen");
            park_timeout(Duration::from_millis(2));
        }
        Ok(server)
    }

    fn terminate(&self) -> Result<()> {
        Ok(PidFd::open(self.child.id())?.send(Signal::TERM)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is our child, and has not been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Time per request and its 99th percentile, of a quick answer and of an order.
pub(super) fn speed(programs: &Programs, n: usize) -> Result<Vec<Row>> {
    let script = programs.directory.path().join("order.lua");
    std::fs::write(&script, "wrk.method = \"POST\"\nwrk.body = \"one coffee\"\n")?;
    let order = ["--script", script.to_str().context("a path that is text")?];
    let mut rows = Vec::new();
    for (what, late, path, words, command) in [
        (
            "a quick answer, 64 kept connections, µs per request",
            "the same, 99th percentile, ms",
            "/",
            &[][..],
            "wrk -t1 -c64 -d3s --latency http://ADDRESS/",
        ),
        (
            "an order that is on the disk, 64 kept connections, µs per request",
            "the same, 99th percentile, ms",
            "/orders",
            &order,
            "wrk -t1 -c64 -d3s --latency -s order.lua http://ADDRESS/orders",
        ),
    ] {
        eprintln!("bench: {what} ({n} times)");
        let latest = RefCell::new(Samples::default());
        let once = |how| {
            let server = Server::start(programs, how, "")?;
            let (rate, late) = wrk(&format!("http://{}{path}", server.at), words)?;
            let mut latest = latest.borrow_mut();
            if how == OURS { &mut latest.ours } else { &mut latest.theirs }.push(late);
            Ok(1e6 / rate)
        };
        let samples = pairs(n, || once(AXUM), || once(OURS))?;
        rows.push(Row::ratio(what, samples, 1.0 / 0.99).commands(command, command));
        rows.push(Row::ratio(late, latest.into_inner(), 1.02).commands(command, command));
    }
    Ok(rows)
}

/// Requests per second, and the 99th percentile of their latency in milliseconds.
fn wrk(url: &str, words: &[&str]) -> Result<(f64, f64)> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c64", "-d3s", "--latency"]).args(words).arg(url);
    let said = command::output(&mut wrk)?;
    ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "wrk saw failures: {said}");
    let after = |name| said.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let rate = after("Requests/sec:").context("wrk says no rate")?.parse()?;
    let late = after("99%").context("wrk says no percentile")?;
    let digits = late.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &late[digits.len()..] {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        unit => anyhow::bail!("wrk says {unit}"),
    };
    Ok((rate, digits.parse::<f64>()? * unit))
}

/// How many clients keep a connection that they do not use.
const IDLE: usize = 10_000;

/// From the signal until every idle connection is closed.
pub(super) fn idle_connections(programs: &Programs, n: usize) -> Result<Row> {
    eprintln!("bench: {IDLE} idle connections ({n} times)");
    let limit = getrlimit(Resource::Nofile);
    // The server inherits it.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let once = |how| {
        let server = Server::start(programs, how, "")?;
        let mut connections = Vec::with_capacity(IDLE);
        for _ in 0..IDLE {
            let mut connection = TcpStream::connect(server.at)?;
            connection.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
            ensure!(connection.read(&mut [0; 512])? > 0, "there is no answer");
            connections.push(connection);
        }
        let began = Instant::now();
        server.terminate()?;
        for connection in &mut connections {
            ensure!(connection.read(&mut [0; 512])? == 0, "an idle connection says something");
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    let samples = pairs(n, || once(AXUM), || once(OURS))?;
    setrlimit(Resource::Nofile, limit)?;
    Ok(Row::ratio("SIGTERM with 10,000 idle kept connections, until all are closed, ms", samples, 1.0)
        .commands("service axum ADDRESS BOOK", "service ours ADDRESS BOOK"))
}

/// How long after the signal the load balancer sends no new connection any more.
const TURNS_AFTER: Duration = Duration::from_millis(300);

/// How long the service may settle. Two of them: what the load balancer takes, and what its clients take to be answered once more.
const SETTLE: &str = "600ms";

/// What clients see that keep their connections, while a load balancer takes its time to turn elsewhere.
pub(super) fn load_balancer(programs: &Programs, runs: usize) -> Result<String> {
    let mut text = format!(
        "\n## Clients behind a load balancer\n\n\
         64 clients that keep their connections and ask every 2 to 8 ms; the load balancer sends new connections for 300 ms after SIGTERM.\n\
         Sums of {runs} runs each.\n\n\
         | | answered | failed | refused |\n|---|---|---|---|\n"
    );
    for (how, settle, name) in [
        (AXUM, "", "axum, `with_graceful_shutdown`"),
        (OURS, SETTLE, "gracefully, settle of 600 ms"),
        (OURS, "", "gracefully without settle"),
    ] {
        eprintln!("bench: load balancer, {name} ({runs} times)");
        let mut sum = Seen::default();
        for _ in 0..runs {
            let server = Server::start(programs, how, settle)?;
            sum.add(&behind_load_balancer(&server)?);
        }
        text += &format!("| {name} | {} | {} | {} |\n", sum.answered, sum.failed, sum.refused);
    }
    Ok(text)
}

#[derive(Default)]
struct Seen {
    answered: u64,
    failed: u64,
    refused: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.refused += other.refused;
    }
}

fn behind_load_balancer(server: &Server) -> Result<Seen> {
    let (turned, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..64)
        .map(|number| {
            let (at, turned, over) = (server.at, Arc::clone(&turned), Arc::clone(&over));
            std::thread::spawn(move || one_client(at, Duration::from_millis(2 + number % 7), &turned, &over))
        })
        .collect();
    park_timeout(Duration::from_millis(500));
    server.terminate()?;
    park_timeout(TURNS_AFTER);
    turned.store(true, Ordering::Relaxed);
    park_timeout(Duration::from_secs(1));
    over.store(true, Ordering::Relaxed);
    let mut sum = Seen::default();
    for client in clients {
        sum.add(&client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?);
    }
    Ok(sum)
}

fn one_client(at: SocketAddr, think: Duration, turned: &AtomicBool, over: &AtomicBool) -> Seen {
    let (mut client, mut seen) = (Client::new(at, true), Seen::default());
    while !over.load(Ordering::Relaxed) && (client.is_connected() || !turned.load(Ordering::Relaxed)) {
        match client.ask("/").0 {
            Outcome::Answered => seen.answered += 1,
            Outcome::Refused => seen.refused += 1,
            // Nothing was sent: it connects again.
            Outcome::ClosedIdle => {}
            _ => seen.failed += 1,
        }
        park_timeout(think);
    }
    seen
}
