//! `gates GRACEFULLY ORDERS RUNS`: the page of `cargo xtask bench discovery`, on standard output.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to whoever measures")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_linux::family::descendants;
use gracefully_servers::bridge::Change;
use gracefully_servers::consul::Consul;
use gracefully_servers::etcd::Etcd;
use gracefully_servers::gate::{End, Gate, Pair, Seen};
use gracefully_servers::service::Service;
use gracefully_servers::zookeeper::ZooKeeper;
use gracefully_servers::{Missing, eventually, free};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [gracefully, orders, runs] = &words[..] else { return usage() };
    let Ok(runs) = runs.parse() else { return usage() };
    Bench { gracefully: gracefully.into(), orders: orders.into(), runs }.page();
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: gates GRACEFULLY ORDERS RUNS");
    ExitCode::from(2)
}

struct Bench {
    gracefully: PathBuf,
    orders: PathBuf,
    runs: usize,
}

/// What was seen in several runs.
#[derive(Debug, Default)]
struct Runs(Vec<Seen>);

const HEADING: &str = "\
# Behind real gateways

Written by `cargo xtask bench discovery --write`. Two instances of `examples/orders` behind a gateway that repeats nothing and finds them
in a registry; 16 clients keep their connections and ask as fast as they are answered; six requests of two seconds are under way when one
of the instances gets its signal. Failed are requests without an answer of 2xx, also such as a client might ask again.
";

impl Bench {
    fn page(&self) {
        println!("{HEADING}");
        println!("## An instance leaves first\n");
        println!("{}", Runs::HEADING);
        let mut all = Runs::default();
        for pair in Pair::ALL {
            match self.runs(pair, End::Gracefully, self.runs) {
                Ok(runs) => {
                    println!("{}", runs.row(pair.name()));
                    all.0.extend(runs.0);
                }
                Err(missing) => println!("| {}: {missing} |", pair.name()),
            }
        }
        println!(
            "| **all** | {} | {} | **{}** | **{}** of {} | | |",
            all.0.len(),
            all.requests(),
            all.failed(),
            all.slow_lost(),
            all.slow()
        );
        println!("\n## Controls: what the gate sees of others\n\netcd and HAProxy.\n");
        println!("{}", Runs::HEADING);
        for (end, name) in [
            (End::Killed, "killed; its registration stays for 10 s"),
            (End::Closed, "finishes what is under way; its registration stays"),
            (End::Unsettled, "leaves, and closes at once; the gateway hears of it 300 ms later"),
        ] {
            match self.runs(Pair::EtcdHaproxy, end, self.runs.div_ceil(4)) {
                Ok(runs) => println!("{}", runs.row(name)),
                Err(missing) => println!("| {name}: {missing} |"),
            }
        }
        println!(
            "\n## Both are restarted, one after the other\n\n| | rounds | requests | failed |\n|---|---|---|---|"
        );
        for pair in Pair::ALL {
            self.restarts(pair);
        }
        println!(
            "\n## `gracefully register`\n\n| what | median | largest | goal | reached | runs |\n|---|---|---|---|---|---|"
        );
        self.register();
    }

    fn runs(&self, pair: Pair, end: End, runs: usize) -> Result<Runs, Missing> {
        let mut seen = Runs::default();
        let mut gate = Gate::open(pair, end.delay())?;
        for run in 0..runs {
            eprintln!("bench: {}, {end:?}, {} of {runs}", pair.name(), run + 1);
            seen.0.push(end.show(&gate, &self.orders));
            if end != End::Gracefully {
                // What is left of it is not there for the next one.
                gate = Gate::open(pair, end.delay())?;
            }
        }
        Ok(seen)
    }

    fn restarts(&self, pair: Pair) {
        let rounds = self.runs.div_ceil(4);
        let Ok(gate) = Gate::open(pair, Duration::ZERO) else { return };
        let (mut requests, mut failed) = (0, 0);
        for round in 0..rounds {
            eprintln!("bench: {}, restarts, {} of {rounds}", pair.name(), round + 1);
            let tally = gate.both_are_restarted(&Service::registered(&self.orders, &gate.url));
            requests += tally.requests();
            failed += tally.failed() + tally.raced;
        }
        println!("| {} | {rounds} | {requests} | {failed} |", pair.name());
    }

    /// The agent itself.
    fn register(&self) {
        let Ok(etcd) = Etcd::start() else { return };
        let url = format!("etcd://{}/apps?ttl=60", etcd.at());
        // A client that is started for each look would be too late.
        let is_there = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_there);
        etcd.watch("apps/", move |change| told.store(matches!(change, Change::Put(..)), Ordering::SeqCst));
        let is_gone = || !is_there.load(Ordering::SeqCst);
        let times = |what: &str, once: &dyn Fn() -> f64| -> Vec<f64> {
            (0..self.runs)
                .map(|run| {
                    eprintln!("bench: {what}, {} of {}", run + 1, self.runs);
                    once()
                })
                .collect()
        };
        let stop = times("a stop without traffic", &|| {
            let agent = Agent::start(&self.gracefully, &url, "orders", true);
            eventually("it is registered", || (!is_gone()).then_some(()));
            let began = Instant::now();
            agent.signal(Signal::TERM);
            agent.ended();
            milliseconds(began.elapsed())
        });
        row("SIGTERM → ended, without traffic, etcd, settle auto (hint 2 s), ms", &stop, 2_100.0);
        let crash = times("a crash, etcd", &|| self.crash(&url, &is_gone));
        row("the program is killed → gone from etcd (time to live 60 s), ms", &crash, 50.0);
        if let Ok(zookeeper) = ZooKeeper::start() {
            let url = format!("zookeeper://{}/apps?ttl=10", zookeeper.at());
            let is_gone = || zookeeper.nodes("/apps/orders").len() < 2;
            let crash = times("a crash, ZooKeeper", &|| self.crash(&url, &is_gone));
            row("the same, ZooKeeper (session of 10 s), ms", &crash, 50.0);
        }
        let consul = Consul::start();
        let url = format!("consul://{}?ttl=60", consul.at());
        let health = format!("http://{}/v1/health/service/orders?passing=true", consul.at());
        let is_gone = || {
            let found =
                ureq::get(&health).call().ok().and_then(|found| found.into_body().read_to_string().ok());
            found.is_some_and(|found| found.trim() == "[]")
        };
        let crash = times("a crash, Consul's double", &|| self.crash(&url, &is_gone));
        row("the same, Consul's double (time to live 60 s), ms", &crash, 50.0);
        let url = format!("etcd://{}/apps?ttl=60", etcd.at());
        let is_gone = || !is_there.load(Ordering::SeqCst);
        for (field, what) in
            [("VmRSS:", "resident memory of a sidecar"), ("RssAnon:", "of that, what is not of files")]
        {
            let memory = times(what, &|| {
                let agent = Agent::start(&self.gracefully, &url, "orders", false);
                eventually("it is registered", || (!is_gone()).then_some(()));
                let kilobytes = agent.kilobytes(field);
                agent.signal(Signal::TERM);
                agent.signal(Signal::TERM);
                agent.ended();
                eventually("it is gone", || is_gone().then_some(()));
                kilobytes / 1024.0
            });
            row(&format!("{what} ({}), MB", field.trim_end_matches(':')), &memory, 6.0);
        }
    }

    /// From the end of the program until nobody finds it.
    fn crash(&self, url: &str, is_gone: &dyn Fn() -> bool) -> f64 {
        let agent = Agent::start(&self.gracefully, url, "orders", true);
        eventually("it is registered", || (!is_gone()).then_some(()));
        let began = Instant::now();
        agent.program().send(Signal::KILL).expect("it runs");
        eventually("it is gone", || is_gone().then_some(()));
        let took = milliseconds(began.elapsed());
        agent.ended();
        took
    }
}

impl Runs {
    const HEADING: &str = "| | runs | requests | failed | slow requests lost | signal → last new request, ms: median (largest) | signal → ended, s: median (largest) |\n|---|---|---|---|---|---|---|";

    fn requests(&self) -> u64 {
        self.0.iter().map(Seen::requests).sum()
    }

    fn failed(&self) -> u64 {
        self.0.iter().map(Seen::failed).sum()
    }

    fn slow(&self) -> u64 {
        self.0.iter().map(|seen| seen.slow).sum()
    }

    fn slow_lost(&self) -> u64 {
        self.0.iter().map(|seen| seen.slow_lost).sum()
    }

    fn row(&self, name: &str) -> String {
        let last: Vec<f64> =
            self.0.iter().filter_map(|seen| Some(milliseconds(seen.last_request?))).collect();
        let ended: Vec<f64> = self.0.iter().map(|seen| seen.ended.as_secs_f64()).collect();
        let last = if last.is_empty() {
            "does not tell".to_owned()
        } else {
            format!("{:.1} ({:.1})", median(&last), largest(&last))
        };
        format!(
            "| {name} | {} | {} | {} | {} of {} | {last} | {:.2} ({:.2}) |",
            self.0.len(),
            self.requests(),
            self.failed(),
            self.slow_lost(),
            self.slow(),
            median(&ended),
            largest(&ended)
        )
    }
}

fn row(what: &str, samples: &[f64], goal: f64) {
    let reached = if median(samples) <= goal { "yes" } else { "**no**" };
    println!(
        "| {what} | {:.1} | {:.1} | ≤ {goal} | {reached} | {} |",
        median(samples),
        largest(samples),
        samples.len()
    );
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn largest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::NAN, f64::max)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A running `gracefully register`. Dropping it kills it.
struct Agent {
    child: Child,
    pidfd: PidFd,
}

impl Agent {
    /// With `sleep infinity` as the program, or without one.
    fn start(gracefully: &Path, url: &str, service: &str, has_program: bool) -> Self {
        let mut agent = Command::new(gracefully);
        agent.args([
            "register",
            url,
            "--service",
            service,
            "--check",
            "none",
            "--port",
            &free().port().to_string(),
        ]);
        if has_program {
            agent.args(["--", "sleep", "infinity"]);
        }
        let child = agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("it starts");
        let pidfd = PidFd::open(child.id()).expect("it has not been waited for");
        Self { child, pidfd }
    }

    fn signal(&self, signal: Signal) {
        // One that has ended hears nothing.
        let _ = self.pidfd.send(signal);
    }

    fn program(&self) -> PidFd {
        let children = descendants(self.child.id());
        PidFd::open(*children.first().expect("it has a child")).expect("it runs")
    }

    fn kilobytes(&self, field: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("there is such a field");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn ended(mut self) {
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
