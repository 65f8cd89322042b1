//! `cargo xtask bench init`: our init beside tini, dumb-init and catatonit, all in one run.
//!
//! What takes time is measured in rounds: each init once per round, in an order that moves on, so that whatever else the machine
//! does falls on all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;

use super::sample::{monotonic_nanoseconds, quantile};
use crate::artifacts::{Artifacts, cargo, root};
use crate::command;

/// How the page begins.
pub(crate) fn heading() -> String {
    String::from(
        "# gracefully-init beside tini, dumb-init and catatonit\n\n\
         Written by `cargo xtask bench init suite --write`, each section in one run. Where time is measured each init has its turn in every\n\
         round; the numbers are medians where nothing else is said.\n",
    )
}

/// The inits, ours first.
#[derive(Debug)]
pub(crate) struct Inits {
    all: Vec<Init>,
    victim: PathBuf,
}

#[derive(Debug)]
struct Init {
    name: &'static str,
    path: PathBuf,
}

/// One line: what, and a value for each init, in a form that can be compared and one that can be read.
struct Line {
    what: String,
    values: Vec<Option<f64>>,
    unit: &'static str,
    /// Against which of the others we are held; empty: against the best of them.
    against: &'static [&'static str],
}

impl Inits {
    pub(crate) fn find(artifacts: &Artifacts) -> Result<Self> {
        let mut all = vec![Init { name: "gracefully-init", path: artifacts.init.clone() }];
        for name in ["tini-static", "tini", "dumb-init", "catatonit"] {
            let path = command::find(name).with_context(|| format!("{name} is not installed"))?;
            all.push(Init { name, path });
        }
        Ok(Self { all, victim: artifacts.victim.clone() })
    }

    /// Measures everything; gives a section in Markdown.
    pub(crate) fn measure(&self, rounds: usize) -> Result<String> {
        let mut lines = Vec::new();
        lines.push(self.line("size of the file, kB", "kB", &["tini-static"], |init| {
            Ok(kilo(fs::metadata(&init.path)?.len()))
        })?);
        eprintln!("bench: memory of inits");
        for (what, field) in
            [("resident memory when idle, kB", "VmRSS"), ("the same, its anonymous part, kB", "RssAnon")]
        {
            lines.push(self.line(what, "kB", &["tini-static"], |init| self.memory(init, field))?);
        }
        eprintln!("bench: start and exit ({rounds} rounds)");
        lines.push(self.in_rounds(
            "start and exit of `true`, ms",
            "ms",
            &["tini-static"],
            rounds,
            start_and_exit,
        )?);
        eprintln!("bench: latency of signals");
        lines.extend(self.latency(rounds * 50)?);
        eprintln!("bench: orphans");
        let orphans = rounds * 500;
        let what = format!("{orphans} orphans made and reaped, s");
        lines.push(self.line(&what, "s", &["tini"], |init| reap(init, orphans))?);
        eprintln!("bench: signals right at the start ({} each)", rounds * 5);
        lines.push(self.line("SIGTERM lost right at the start, of 1,000", "", &[], |init| {
            Ok(lost_at_start(init, rounds * 5)? * 1_000.0)
        })?);
        eprintln!("bench: idle");
        lines.push(self.line("wake-ups in 4 s without anything to do", "", &[], |init| self.idle(init))?);

        let mut text = String::from("\n## What it costs\n\n| what |");
        text.extend(self.all.iter().map(|init| format!(" {} |", init.name)));
        text += " goal | reached |\n|---|";
        text.extend(self.all.iter().map(|_| "---|"));
        text += "---|---|\n";
        text.extend(lines.iter().map(|line| self.row(line)));
        text += "\nWhat flushes when SIGTERM comes (it needs half a second for that):\n\n| what |";
        text.extend(self.all.iter().map(|init| format!(" {} |", init.name)));
        text += "\n|---|";
        text.extend(self.all.iter().map(|_| "---|"));
        text.push('\n');
        for (what, script) in FLUSHES {
            text += &format!("| {what} |");
            for init in &self.all {
                text += if self.flushes(init, script)? { " yes |" } else { " no |" };
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// Which versions were measured.
    pub(crate) fn versions(&self) -> Result<String> {
        let mut text = String::new();
        for init in self.all.iter().filter(|init| init.name != "tini-static") {
            let output = Command::new(&init.path).arg("--version").output()?;
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            text += &format!("{}: {}\n", init.name, said.lines().next().unwrap_or_default());
        }
        Ok(text)
    }

    fn row(&self, line: &Line) -> String {
        let ours = line.values[0];
        let others = self.all.iter().zip(&line.values).skip(1);
        let against = others.filter(|(init, _)| line.against.is_empty() || line.against.contains(&init.name));
        let best = against.filter_map(|(_, value)| *value).min_by(f64::total_cmp);
        let reached = match (ours, best) {
            (Some(ours), Some(best)) if ours <= best => "yes",
            (Some(_), None) => "yes",
            _ => "**no**",
        };
        let mut text = format!("| {} |", line.what);
        for value in &line.values {
            text += &match value {
                Some(value) if line.unit == "ms" || line.unit == "s" => format!(" {value:.3} |"),
                Some(value) => format!(" {value:.0} |"),
                None => " – |".to_owned(),
            };
        }
        let goal = if line.against.is_empty() {
            "the best of them".to_owned()
        } else {
            format!("≤ {}", line.against.join(", "))
        };
        text + &format!(" {goal} | {reached} |\n")
    }

    /// Each init once.
    fn line(
        &self,
        what: &str,
        unit: &'static str,
        against: &'static [&'static str],
        measure: impl Fn(&Init) -> Result<f64>,
    ) -> Result<Line> {
        let value = |init| measure(init).map(Some).with_context(|| format!("{what} of {}", init.name));
        let values = self.all.iter().map(value).collect::<Result<_>>()?;
        Ok(Line { what: what.to_owned(), values, unit, against })
    }

    /// Each init in turn, so many times; the median counts.
    fn in_rounds(
        &self,
        what: &str,
        unit: &'static str,
        against: &'static [&'static str],
        rounds: usize,
        measure: impl Fn(&Init) -> Result<f64>,
    ) -> Result<Line> {
        let mut samples = vec![Vec::new(); self.all.len()];
        for round in 0..rounds {
            for turn in 0..self.all.len() {
                let which = (round + turn) % self.all.len();
                samples[which].push(
                    measure(&self.all[which])
                        .with_context(|| format!("{what} of {}", self.all[which].name))?,
                );
            }
        }
        let values = samples.iter().map(|samples| Some(quantile(samples, 0.5))).collect();
        Ok(Line { what: what.to_owned(), values, unit, against })
    }

    /// Of an init that has done all that it does at the start.
    fn memory(&self, init: &Init, field: &str) -> Result<f64> {
        let running = self.idle_init(init)?;
        park_timeout(Duration::from_secs(6));
        let status = fs::read_to_string(format!("/proc/{}/status", running.id()))?;
        let value = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        let value = value.split_whitespace().nth(1).context("no number")?.parse()?;
        end(running)?;
        Ok(value)
    }

    fn idle_init(&self, init: &Init) -> Result<Child> {
        let mut child = Command::new(&init.path)
            .arg("--")
            .arg(&self.victim)
            .args(["slow", "0", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        // It says that its handlers are in place.
        read_line(&mut child)?;
        Ok(child)
    }

    /// From a signal's being sent to the init until main has it: the median, and what one of a hundred takes longer than.
    fn latency(&self, signals: usize) -> Result<Vec<Line>> {
        let mut running = Vec::new();
        for init in &self.all {
            let mut child = Command::new(&init.path)
                .arg("--")
                .arg(&self.victim)
                .arg("clock")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            read_line(&mut child)?;
            let pidfd = PidFd::open(child.id()).context("the init is gone")?;
            running.push((child, pidfd));
        }
        park_timeout(Duration::from_secs(6));
        let mut samples = vec![Vec::new(); self.all.len()];
        for round in 0..signals {
            for turn in 0..running.len() {
                let which = (round + turn) % running.len();
                let (child, pidfd) = &mut running[which];
                let sent = monotonic_nanoseconds();
                pidfd.send(Signal::USR1).context("the init is gone")?;
                let received: i128 = read_line(child)?.trim().parse()?;
                #[expect(clippy::cast_precision_loss, reason = "microseconds in nanoseconds")]
                samples[which].push((received - sent) as f64 / 1e6);
            }
        }
        for (child, _) in running {
            end(child)?;
        }
        let line = |what: &str, part| Line {
            what: format!("a signal until main has it, {what} of {signals}, ms"),
            values: samples.iter().map(|samples| Some(quantile(samples, part))).collect(),
            unit: "ms",
            against: &["tini", "dumb-init", "catatonit"],
        };
        Ok(vec![line("median", 0.5), line("99th percentile", 0.99)])
    }

    fn idle(&self, init: &Init) -> Result<f64> {
        let running = self.idle_init(init)?;
        park_timeout(Duration::from_secs(6));
        let wakes = || -> Result<f64> {
            let status = fs::read_to_string(format!("/proc/{}/status", running.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            Ok(line.context("no such field")?.trim().parse()?)
        };
        let before = wakes()?;
        park_timeout(Duration::from_secs(4));
        let woken = wakes()? - before;
        end(running)?;
        Ok(woken)
    }

    fn flushes(&self, init: &Init, script: &str) -> Result<bool> {
        let mut child = Command::new("unshare")
            .args(["--fork", "--pid", "--mount-proc", "--kill-child"])
            .arg(&init.path)
            .args(["--", "sh", "-c", script, "sh"])
            .arg(&self.victim)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        read_line(&mut child)?;
        let target = gracefully_linux::family::descendants(child.id());
        let pidfd = PidFd::open(*target.first().context("no init")?).context("the init is gone")?;
        pidfd.send(Signal::TERM).context("the init is gone")?;
        let mut said = String::new();
        child.stdout.take().context("no pipe")?.read_to_string(&mut said)?;
        child.wait()?;
        Ok(said.contains("flushed"))
    }
}

/// The victim says "flushed" when its half second is over.
const FLUSHES: [(&str, &str); 3] = [
    ("a process in the background", "\"$1\" flush 500 & exec sleep 100"),
    ("a daemon in a session of its own", "setsid \"$1\" flush 500 & exec sleep 100"),
    ("the program of a shell form, `sh -c 'app; true'`", "\"$1\" flush 500; true"),
];

fn start_and_exit(init: &Init) -> Result<f64> {
    super::sample::milliseconds(Command::new(&init.path).args(["--", "true"]))
}

/// In a PID namespace, until the last one is reaped.
fn reap(init: &Init, orphans: usize) -> Result<f64> {
    let script = format!(
        "i=0; while [ $i -lt {orphans} ]; do (: &); i=$((i+1)); done\n\
         while grep -qs '^State:.Z' /proc/[0-9]*/status; do :; done"
    );
    let began = Instant::now();
    let mut unshare = Command::new("unshare");
    unshare.args(["--fork", "--pid", "--mount-proc"]).arg(&init.path).args(["--", "sh", "-c", &script]);
    command::output(&mut unshare)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Which part of the signals that come as soon as main has a PID does not end it.
fn lost_at_start(init: &Init, tries: usize) -> Result<f64> {
    let mut lost = 0;
    for _ in 0..tries {
        let mut child =
            Command::new(&init.path).args(["--", "sleep", "0.3"]).stderr(Stdio::null()).spawn()?;
        let pidfd = PidFd::open(child.id()).context("the init is gone")?;
        while gracefully_linux::family::descendants(child.id()).is_empty() {
            std::hint::spin_loop();
        }
        pidfd.send(Signal::TERM).context("the init is gone")?;
        // To its own end: it was not told.
        lost += usize::from(child.wait()?.success());
    }
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    Ok(lost as f64 / tries as f64)
}

fn end(mut child: Child) -> Result<()> {
    PidFd::open(child.id()).context("the init is gone")?.send(Signal::TERM).context("the init is gone")?;
    child.wait()?;
    Ok(())
}

fn read_line(child: &mut Child) -> Result<String> {
    let stdout = child.stdout.as_mut().context("no pipe")?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stdout.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8(line)?)
}

#[expect(clippy::cast_precision_loss, reason = "the size of a file")]
fn kilo(bytes: u64) -> f64 {
    bytes as f64 / 1000.0
}

/// Who passes which case of the suite: a table in Markdown.
pub(crate) fn conformance(inits: &Inits) -> Result<String> {
    let mut passed = Vec::new();
    for init in inits.all.iter().filter(|init| init.name != "tini-static") {
        eprintln!("bench: the suite with {}", init.name);
        // Another one fails some, and is not waited for as long.
        let patience = if passed.is_empty() { "20" } else { "5" };
        passed.push((init.name, suite(&init.path, patience)?));
    }
    let Some((_, ours)) = passed.first() else { bail!("no inits") };
    let mut cases: Vec<&String> = ours.keys().collect();
    cases.sort();
    let mut text = String::from(
        "\n## The suite\n\nIn how many of the ways in which a case runs (as PID 1, as PID 1 without any right, not as PID 1) each init\npasses it; –: it has not the option that the case is about.\n\n| case |",
    );
    text.extend(passed.iter().map(|(name, _)| format!(" {name} |")));
    text += "\n|---|";
    text.extend(passed.iter().map(|_| "---|"));
    text.push('\n');
    for case in cases {
        text += &format!("| {} |", case.replace('_', " "));
        for (_, results) in &passed {
            text += &format!(" {} |", results.get(case).copied().unwrap_or_default());
        }
        text.push('\n');
    }
    Ok(text)
}

/// In how many ways a case was run.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    all: u32,
    passed: u32,
    /// The init has not the option that the case is about.
    without: u32,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { all, passed, .. } if all == passed => f.write_str("yes"),
            Self { all, without, .. } if all == without => f.write_str("–"),
            Self { passed: 0, .. } => f.write_str("no"),
            Self { all, passed, .. } => write!(f, "{passed} of {all}"),
        }
    }
}

/// How each case ends.
fn suite(init: &Path, patience: &str) -> Result<BTreeMap<String, Tried>> {
    let skips = tempfile::NamedTempFile::new()?;
    let mut test = cargo();
    test.args(["test", "--quiet", "--package", "gracefully-init", "--test", "suite", "--"])
        // What is in Docker is about ours alone.
        .args(["--test-threads", "4", "--format", "pretty", "--skip", "docker::"])
        .env("GRACEFULLY_TEST_INIT", init)
        .env("GRACEFULLY_TEST_PATIENCE", patience)
        .env("GRACEFULLY_TEST_SKIPS", skips.path())
        .current_dir(root())
        .stderr(Stdio::null());
    // Others fail some, which is what is asked.
    let output = test.output().context("cannot run cargo test")?;
    let skipped = fs::read_to_string(skips.path())?;
    let skipped: BTreeSet<&str> = skipped.lines().filter_map(|line| line.split('\t').next()).collect();
    let mut cases = BTreeMap::<String, Tried>::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((path, result)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
        else {
            continue;
        };
        let Some(case) = path.rsplit("::").next() else { continue };
        let entry = cases.entry(case.to_owned()).or_default();
        entry.all += 1;
        entry.passed += u32::from(result == "ok");
        entry.without += u32::from(skipped.contains(path));
    }
    if cases.is_empty() {
        bail!("the suite did not run: {}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(cases)
}
