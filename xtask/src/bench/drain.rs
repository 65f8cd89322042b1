//! What draining costs: from the last answer to the stop signal, and a look at many connections.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use gracefully_load::{Client, Outcome, free_address};
use rustix::process::{Pid, Signal, kill_process_group};

use super::sample::{self, Samples, single};
use super::table::Row;
use super::workbench::{Workbench, wait_until_it_says};
use crate::command;

/// All rows; what is quick is measured `n` times.
pub(super) fn measure(bench: &Workbench, n: usize) -> Result<Vec<Row>> {
    eprintln!("bench: from the answer to the signal ({n} times)");
    let mut rows = vec![answer_to_signal(bench, n)?];
    eprintln!("bench: looking at many connections (3 times)");
    let commands = ("–", "gracefully stop --new serve --drain 10s -t 30 pid:N");
    let few = single(3, || look(bench, 10_000))?.ours;
    let mut each = Samples { theirs: few.iter().map(|ms| ms / 10.0).collect(), ours: Vec::new() };
    each.ours = single(3, || look(bench, 50_000))?.ours.iter().map(|ms| ms / 50.0).collect();
    let few = Samples { theirs: Vec::new(), ours: few };
    let one = Row::limit("processor time of a look at 10,000 connections", few, 10.0);
    rows.push(one.commands(commands.0, commands.1));
    let per_thousand = Row::ratio("per 1,000 connections: 50,000 (ours) against 10,000 (theirs)", each, 1.2);
    rows.push(per_thousand.commands(commands.1, commands.1));
    Ok(rows)
}

/// How long after a client has the last byte of the last answer the program gets its stop signal.
///
/// The program's handler writes the monotonic clock into a file; so does the client, in its own memory.
fn answer_to_signal(bench: &Workbench, n: usize) -> Result<Row> {
    let samples = single(n, || {
        let at = free_address().context("there is no free port for the server")?;
        let name = bench.start_on_local(&["http-stamp", &at.to_string(), &bench.stamp()])?;
        let client = std::thread::spawn(move || {
            let (outcome, _) = Client::new(at, false).ask("/sleep/300");
            (outcome, sample::monotonic_nanoseconds())
        });
        std::thread::park_timeout(Duration::from_millis(100));
        command::output(&mut bench.gracefully(&["stop", &name]))?;
        let (outcome, answered) = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
        anyhow::ensure!(outcome == Outcome::Answered, "the answer was lost: {outcome:?}");
        let signalled = bench.take_stamp()?;
        command::output(&mut bench.gracefully(&["rm", "-f", &name]))?;
        Ok(sample::milliseconds_between(answered, signalled))
    })?;
    Ok(Row::limit("from the last byte of the last answer to the stop signal, local engine", samples, 20.0)
        .commands("–", "gracefully --engine local stop NAME"))
}

/// How many connections a process of the bench has: each is a file, and no process may have many.
const PER_PROCESS: usize = 10_000;

/// The processor time of a look at so many connections, each with half a request, in milliseconds: all that a drain of 10 s
/// has used, divided by its looks.
fn look(bench: &Workbench, connections: usize) -> Result<f64> {
    let port = free_address().context("there is no free port for the server")?.port();
    // The kernel deals connections out among them by chance, so none gets much more than its share.
    let processes = connections / PER_PROCESS + 1;
    let server = Victim::start(bench, &["sinks", &format!("0.0.0.0:{port}"), &processes.to_string()])?;
    let clients = (0..connections / PER_PROCESS).map(|n| {
        // One address has 28,000 ports for its clients.
        let to = format!("127.0.0.{}:{port}", n + 1);
        Victim::start(bench, &["half-requests", &to, &PER_PROCESS.to_string()])
    });
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let file = bench.directory().join("report.json");
    let words = ["stop", "--new", "serve", "--drain", "10s", "-t", "30", "--report"];
    let mut stop = bench.gracefully_on_processes(&words);
    command::output(stop.arg(&file).arg(format!("pid:{}", server.0.id())))?;
    drop((clients, server));
    let report = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    let value = |name| number_after(&report, name).with_context(|| format!("no {name} in the report"));
    anyhow::ensure!(value("\"open\":")? >= f64::from(u32::try_from(connections)?), "not all were seen");
    Ok(value("\"cpu_ms\":")? / value("\"looks\":")?)
}

fn number_after(json: &str, name: &str) -> Option<f64> {
    let from = json.find(name)? + name.len();
    json[from..].trim_start().split([',', '}', '\n']).next()?.trim().parse().ok()
}

/// The victim in some mode, with everything that it starts.
struct Victim(Child);

impl Victim {
    fn start(bench: &Workbench, mode: &[&str]) -> Result<Self> {
        let log = bench.directory().join(mode.join("-"));
        let mut victim = Command::new(bench.victim());
        victim.args(mode).stdin(Stdio::null()).stdout(fs::File::create(&log)?).process_group(0);
        let victim = Self(victim.spawn()?);
        let said = format!("started {}", mode.join(" "));
        wait_until_it_says(&said, || {
            let mut cat = Command::new("cat");
            cat.arg(&log);
            cat
        })?;
        Ok(victim)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Its number is not given away before we have waited.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
