//! `cargo xtask bench`: us against docker, in pairs, as a table in Markdown.
//!
//! Both sides of a row are measured in the same run, one after the other, and chance decides who is first in each pair, so
//! that whatever else the machine does falls on both. The table has medians, the ratio of the medians, and the spread; it
//! says nothing that was not measured in this run.

mod conmon;
mod discovery;
mod drain;
mod init;
mod library;
mod restart;
mod sample;
mod table;
mod workbench;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::conmon::Conmon;
use self::sample::{Samples, pairs, single};
use self::table::Row;
use self::workbench::Workbench;
use crate::artifacts::{self, root};
use crate::{command, setup};

/// The parts of a page, each of which may be measured alone.
const GRACEFULLY: [&str; 3] = ["stop", "drain", "restart"];
const INIT: [&str; 2] = ["init", "suite"];
const LIBRARY: [&str; 1] = ["library"];
const DISCOVERY: [&str; 1] = ["discovery"];

/// Measures everything, or only the parts that are named, and prints the pages; with `--write`, a page that has all its parts is
/// written down, too.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut quick, mut write, mut only) = (false, false, Vec::new());
    let known = [&GRACEFULLY[..], &INIT, &LIBRARY, &DISCOVERY].concat();
    for arg in args {
        match arg.as_str() {
            "--quick" => quick = true,
            "--write" => write = true,
            part if known.contains(&part) => only.push(part),
            other => bail!("unknown word {other}: {}, --quick or --write", known.join(", ")),
        }
    }
    let wanted = |part: &&str| only.is_empty() || only.contains(part);
    for (parts, path, measure) in [
        (&GRACEFULLY[..], "BENCHMARKS.md", gracefully as fn(&[&str], bool) -> Result<String>),
        (&INIT, "docs/init-benchmarks.md", inits),
        (&LIBRARY, "docs/library-benchmarks.md", |_, quick| library::measure(quick)),
        (&DISCOVERY, "docs/discovery-benchmarks.md", |_, quick| discovery::measure(quick)),
    ] {
        let measured: Vec<&str> = parts.iter().copied().filter(wanted).collect();
        if measured.is_empty() {
            continue;
        }
        let page = measure(&measured, quick)?;
        print!("{page}");
        if write && measured.len() == parts.len() {
            fs::write(root().join(path), page)?;
        }
    }
    Ok(())
}

/// `gracefully` beside docker.
fn gracefully(parts: &[&str], quick: bool) -> Result<String> {
    let bench = Workbench::set_up()?;
    let n = if quick { 10 } else { 30 };
    let (mut rows, mut sections) = (Vec::new(), String::new());
    if parts.contains(&"stop") {
        rows.extend(stop(&bench, n, if quick { 1 } else { 10 })?);
    }
    if parts.contains(&"drain") {
        rows.extend(drain::measure(&bench, n)?);
    }
    if parts.contains(&"restart") {
        sections += &restart::measure(&bench, if quick { 5 } else { 20 })?;
        sections += &restart::long_answer(&bench)?;
    }
    table::page(&rows, &sections, &bench.versions()?)
}

/// `gracefully-init` beside other inits.
fn inits(parts: &[&str], quick: bool) -> Result<String> {
    setup::run()?;
    let inits = init::Inits::find(&artifacts::build()?)?;
    let mut page = init::heading();
    if parts.contains(&"init") {
        page += &inits.measure(if quick { 20 } else { 200 })?;
    }
    if parts.contains(&"suite") {
        page += &init::conformance(&inits)?;
    }
    Ok(page + &format!("\n## Machine\n\n{}\n{}", table::machine()?, inits.versions()?))
}

/// What docker does, too: run and stop. `n` times each, and `many` times fifty containers.
fn stop(bench: &Workbench, n: usize, many: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (what, measure) in [
        ("stop", stop_on_docker as fn(&Workbench, usize) -> Result<Row>),
        ("stop, local", stop_on_local),
        ("run", run_detached),
        ("version", version),
        ("plugin metadata", metadata),
        ("exit to return", exit_to_return),
    ] {
        eprintln!("bench: {what} ({n} times)");
        rows.push(measure(bench, n).with_context(|| format!("{what} could not be measured"))?);
    }
    eprintln!("bench: stop of 50 ({many} times)");
    rows.insert(1, stop_of_fifty(bench, many)?);
    eprintln!("bench: memory ({n} times)");
    rows.extend(memory(bench, n)?);
    Ok(rows)
}

fn stop_on_docker(bench: &Workbench, n: usize) -> Result<Row> {
    let samples = pairs(
        n,
        || stop_once(bench, Workbench::docker, &["stop"]),
        || stop_once(bench, Workbench::gracefully_on_docker, &["stop"]),
    )?;
    Ok(Row::ratio("stop of a program that exits at once on SIGTERM, docker engine", samples, 1.0)
        .commands("docker stop NAME", "gracefully --engine docker stop NAME"))
}

fn stop_once(bench: &Workbench, program: fn(&Workbench, &[&str]) -> Command, verb: &[&str]) -> Result<f64> {
    let name = bench.start_on_docker()?;
    let took = sample::milliseconds(&mut program(bench, &[verb, &[&name]].concat()))?;
    command::output(&mut bench.docker(&["rm", "--force", &name]))?;
    Ok(took)
}

fn stop_of_fifty(bench: &Workbench, n: usize) -> Result<Row> {
    let once = |program: fn(&Workbench, &[&str]) -> Command| {
        let names = (0..50).map(|_| bench.start_on_docker()).collect::<Result<Vec<_>>>()?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let took = sample::milliseconds(&mut program(bench, &[&["stop"], &names[..]].concat()))?;
        command::output(&mut bench.docker(&[&["rm", "--force"], &names[..]].concat()))?;
        Ok(took)
    };
    let samples = pairs(n, || once(Workbench::docker), || once(Workbench::gracefully_on_docker))?;
    Ok(Row::ratio("the same, 50 containers in one command", samples, 1.0)
        .commands("docker stop NAME…", "gracefully --engine docker stop NAME…"))
}

fn stop_on_local(bench: &Workbench, n: usize) -> Result<Row> {
    let ours = || {
        let name = bench.start_on_local(&["slow", "0", "0"])?;
        let took = sample::milliseconds(&mut bench.gracefully(&["stop", &name]))?;
        command::output(&mut bench.gracefully(&["rm", "-f", &name]))?;
        Ok(took)
    };
    let samples = pairs(n, || stop_once(bench, Workbench::docker, &["stop"]), ours)?;
    Ok(Row::ratio("the same, local engine", samples, 0.15)
        .commands("docker stop NAME", "gracefully --engine local stop NAME"))
}

fn run_detached(bench: &Workbench, n: usize) -> Result<Row> {
    let theirs = || {
        let name = bench.new_name();
        let took = sample::milliseconds(&mut bench.run_on_docker(&name))?;
        command::output(&mut bench.docker(&["rm", "--force", &name]))?;
        Ok(took)
    };
    let ours = || {
        let name = bench.new_name();
        let took = sample::milliseconds(&mut bench.run_on_local(&name, &["slow", "0", "0"]))?;
        command::output(&mut bench.gracefully(&["rm", "-f", &name]))?;
        Ok(took)
    };
    let samples = pairs(n, theirs, ours)?;
    Ok(Row::ratio("run -d, local engine", samples, 0.2).commands(
        "docker run -d --net=none --name NAME IMAGE slow 0 0",
        "gracefully --engine local run -d --name NAME -- victim slow 0 0",
    ))
}

fn version(bench: &Workbench, n: usize) -> Result<Row> {
    let samples = single(n, || sample::milliseconds(&mut bench.gracefully(&["version"])))?;
    Ok(Row::limit("version", samples, 5.0).commands("–", "gracefully version"))
}

fn metadata(bench: &Workbench, n: usize) -> Result<Row> {
    let samples =
        single(n, || sample::milliseconds(Command::new(bench.plugin()).arg("docker-cli-plugin-metadata")))?;
    Ok(Row::limit("docker-cli-plugin-metadata", samples, 5.0)
        .commands("–", "docker-gracefully docker-cli-plugin-metadata"))
}

/// The program's last act is to write the monotonic clock into a file; we look at the clock when `stop` has returned.
fn exit_to_return(bench: &Workbench, n: usize) -> Result<Row> {
    let samples = single(n, || {
        let name = bench.start_on_local(&["stamp", &bench.stamp()])?;
        command::output(&mut bench.gracefully(&["stop", &name]))?;
        let now = sample::monotonic_nanoseconds();
        let last = bench.take_stamp()?;
        command::output(&mut bench.gracefully(&["rm", "-f", &name]))?;
        Ok(sample::milliseconds_between(last, now))
    })?;
    Ok(Row::limit("from the program's last act to the return of stop, local engine", samples, 5.0)
        .commands("–", "gracefully --engine local stop NAME"))
}

/// How many containers share a machine.
const MANY: usize = 10;

/// Resident memory, and the share of it that is not shared with others (Pss), of whoever watches one container.
fn memory(bench: &Workbench, n: usize) -> Result<Vec<Row>> {
    let (mut rss, mut pss) = (Samples::default(), Samples::default());
    if command::find("conmon").is_none() || command::find("runc").is_none() {
        eprintln!("bench: conmon or runc is not installed: its memory is not measured");
        return Ok(Vec::new());
    }
    for _ in 0..n.min(5) {
        let conmon = Conmon::start(bench)?;
        rss.theirs.push(kilobytes(conmon.pid(), "status", "VmRSS:")?);
        pss.theirs.push(kilobytes(conmon.pid(), "smaps_rollup", "Pss:")?);
        drop(conmon);

        let name = bench.start_on_local(&["slow", "0", "0"])?;
        let monitor = bench.monitor_of(&name)?;
        rss.ours.push(kilobytes(monitor, "status", "VmRSS:")?);
        pss.ours.push(kilobytes(monitor, "smaps_rollup", "Pss:")?);
        command::output(&mut bench.gracefully(&["rm", "-f", &name]))?;
    }
    let commands = ("conmon --full-attach --runtime runc …", "the monitor of gracefully run -d");
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..MANY {
        theirs.push(Conmon::start(bench)?);
        ours.push(bench.start_on_local(&["slow", "0", "0"])?);
    }
    let mut many = Samples::default();
    many.theirs.push(mean(theirs.iter().map(|conmon| kilobytes(conmon.pid(), "smaps_rollup", "Pss:")))?);
    let each = |name: &String| kilobytes(bench.monitor_of(name)?, "smaps_rollup", "Pss:");
    many.ours.push(mean(ours.iter().map(each))?);
    for name in &ours {
        command::output(&mut bench.gracefully(&["rm", "-f", name]))?;
    }

    Ok(vec![
        Row::ratio("monitor's resident memory (VmRSS, kB)", rss, 1.0).commands(commands.0, commands.1),
        Row::ratio("the same, proportional to sharing (Pss, kB)", pss, 1.0).commands(commands.0, commands.1),
        Row::ratio("the same, each of 10 containers (Pss, kB)", many, 1.0).commands(commands.0, commands.1),
    ])
}

fn mean(values: impl ExactSizeIterator<Item = Result<f64>>) -> Result<f64> {
    let n = u32::try_from(values.len())?;
    Ok(values.sum::<Result<f64>>()? / f64::from(n))
}

fn kilobytes(pid: u32, file: &str, field: &str) -> Result<f64> {
    let path = Path::new("/proc").join(pid.to_string()).join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
