//! `cargo xtask test`: every test of the workspace, with a private Docker daemon and a private Podman, and one summary.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::artifacts::{self, Artifacts, cargo, root};
use crate::dockerd::{Dockerd, Options};
use crate::podman::Podman;
use crate::{autopsy, command, images, setup, wheels};

/// Runs everything; `filters` are passed to the test runner.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    let began = Instant::now();
    setup::run()?;
    let tools = wheels::install()?;
    let interruption = Interruption::watch()?;
    let artifacts = artifacts::build()?;
    let scratch = tempfile::Builder::new().prefix("gracefully-test-").tempdir()?;
    let skips = scratch.path().join("skips");
    fs::write(&skips, "")?;

    // From here on their Drop cleans up, whatever happens.
    let docker = start_docker(&artifacts);
    let podman = start_podman(&artifacts);
    let mut environment = vec![
        ("GRACEFULLY_TEST_VICTIM", artifacts.victim.display().to_string()),
        ("GRACEFULLY_TEST_SEED", artifacts.seed.display().to_string()),
        ("GRACEFULLY_TEST_MONITOR", artifacts.monitor.display().to_string()),
        ("GRACEFULLY_TEST_INIT", artifacts.init.display().to_string()),
        ("GRACEFULLY_TEST_TOOLS", tools.display().to_string()),
        ("GRACEFULLY_TEST_SKIPS", skips.display().to_string()),
    ];
    match &docker {
        Ok((daemon, no_bridge)) => {
            environment.push(("GRACEFULLY_TEST_DOCKER_HOST", daemon.host()));
            environment.push(("GRACEFULLY_TEST_DOCKER_PID", daemon.pid().to_string()));
            if let Some(why) = no_bridge {
                let why = format!("the private dockerd could make no bridge: {why}");
                environment.push(("GRACEFULLY_TEST_NO_BRIDGE", why));
            }
        }
        Err(why) => environment.push(("GRACEFULLY_TEST_NO_DOCKER", format!("{why:#}"))),
    }
    match &podman {
        Ok(podman) => environment.push(("GRACEFULLY_TEST_PODMAN_HOST", podman.host())),
        Err(why) => environment.push(("GRACEFULLY_TEST_NO_PODMAN", format!("{why:#}"))),
    }

    let mut tally = run_tests(filters, &environment, &interruption)?;
    if filters.is_empty() && !interruption.happened() {
        tally.add(&run_doc_tests(&interruption)?);
    }
    let skipped = read_skips(&skips)?;
    if tally.failed > 0
        && let Ok((daemon, _)) = &docker
    {
        eprintln!("the private dockerd:\n{}", autopsy::of(daemon));
    }
    drop((docker, podman));

    summarise(&tally, &skipped, began);
    if interruption.happened() {
        bail!("interrupted");
    }
    if tally.failed > 0 || !tally.ended_well {
        bail!("not all tests passed");
    }
    Ok(())
}

fn start_docker(artifacts: &Artifacts) -> Result<(Dockerd, Option<std::io::Error>)> {
    if !rustix::process::geteuid().is_root() {
        bail!("a private dockerd needs root");
    }
    if command::find("dockerd").is_none() {
        bail!("dockerd is not installed (Debian: docker.io)");
    }
    let (daemon, no_bridge) =
        Dockerd::start(&Options { init: Some(&artifacts.init), path: None }).context("no private dockerd")?;
    eprintln!("test: a private dockerd (pid {}) answers at {}", daemon.pid(), daemon.host());
    images::build(&daemon.host(), artifacts).context("the images could not be built")?;
    Ok((daemon, no_bridge))
}

fn start_podman(artifacts: &Artifacts) -> Result<Podman> {
    if !rustix::process::geteuid().is_root() {
        bail!("a private Podman needs root");
    }
    for (program, package) in [("podman", "podman"), ("runc", "runc"), ("docker", "docker.io")] {
        if command::find(program).is_none() {
            bail!("{program} is not installed (Debian: {package})");
        }
    }
    let podman = Podman::start().context("no private Podman")?;
    eprintln!("test: a private Podman (pid {}) answers at {}", podman.pid(), podman.host());
    images::build(&podman.host(), artifacts).context("Podman could not build the images")?;
    Ok(podman)
}

/// How many tests there were.
#[derive(Debug, Default)]
struct Tally {
    run: usize,
    failed: usize,
    /// Left out by the runner itself (`#[ignore]`).
    ignored: usize,
    ended_well: bool,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.run += other.run;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.ended_well &= other.ended_well;
    }
}

fn run_tests(
    filters: &[String],
    environment: &[(&str, String)],
    interruption: &Interruption,
) -> Result<Tally> {
    if command::find("cargo-nextest").is_none() {
        let mut test = cargo();
        test.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]).args(filters);
        return libtest(test.envs(environment.iter().cloned()), interruption);
    }
    // Below the workspace, wherever cargo's own target directory is.
    let results = root().join("target/nextest/xtask/junit.xml");
    let _ = fs::remove_file(&results);
    let mut nextest = cargo();
    nextest
        .args(["nextest", "run", "--workspace", "--profile", "xtask", "--no-fail-fast", "--no-tests", "pass"])
        .args(filters)
        .envs(environment.iter().cloned())
        .current_dir(root());
    let ended_well = interruption.wait_for(nextest.spawn().context("cannot run cargo nextest")?)?;
    let results = fs::read_to_string(&results).context("cargo nextest left no results")?;
    let count = |name| attribute(&results, name).unwrap_or(0);
    Ok(Tally {
        run: count("tests"),
        failed: count("failures") + count("errors"),
        ignored: ignored(filters)?,
        ended_well,
    })
}

/// How many tests are marked `#[ignore]`: the results do not name them.
fn ignored(filters: &[String]) -> Result<usize> {
    let mut list = cargo();
    list.args(["nextest", "list", "--workspace", "--run-ignored", "only", "--message-format", "oneline"])
        .args(filters)
        .current_dir(root());
    Ok(command::output(&mut list)?.lines().filter(|line| !line.is_empty()).count())
}

fn run_doc_tests(interruption: &Interruption) -> Result<Tally> {
    libtest(cargo().args(["test", "--workspace", "--doc", "--no-fail-fast"]), interruption)
}

/// Runs a command that prints libtest's result lines, shows them and adds them up.
fn libtest(command: &mut Command, interruption: &Interruption) -> Result<Tally> {
    let mut child =
        command.current_dir(root()).stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let stdout = child.stdout.take().context("no pipe")?;
    let mut tally = Tally::default();
    let waiter = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| interruption.wait_for(child));
        for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
            let _ = writeln!(std::io::stdout(), "{line}");
            let Some(result) = line.strip_prefix("test result: ") else { continue };
            let count = |word: &str| {
                let before = result.split(word).next()?;
                before.rsplit([' ', '.']).find(|number| !number.is_empty())?.parse::<usize>().ok()
            };
            let failed = count(" failed").unwrap_or(0);
            tally.run += count(" passed").unwrap_or(0) + failed;
            tally.failed += failed;
            tally.ignored += count(" ignored").unwrap_or(0);
        }
        waiter.join()
    });
    tally.ended_well = waiter.map_err(|_| anyhow::anyhow!("the waiting thread panicked"))??;
    Ok(tally)
}

/// The first `name="NUMBER"` of an XML text: the totals are attributes of the root element.
fn attribute(xml: &str, name: &str) -> Option<usize> {
    let start = xml.find(&format!(" {name}=\""))? + name.len() + 3;
    xml[start..].split('"').next()?.parse().ok()
}

/// Reason → tests that were skipped for it. A test that cannot run here writes `test TAB reason` into the file.
fn read_skips(file: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in fs::read_to_string(file)?.lines() {
        let (test, reason) = line.split_once('\t').unwrap_or((line, "no reason given"));
        skipped.entry(reason.to_string()).or_default().push(test.to_string());
    }
    Ok(skipped)
}

fn summarise(tally: &Tally, skipped: &BTreeMap<String, Vec<String>>, began: Instant) {
    println!();
    for (reason, tests) in skipped {
        println!("skipped {}: {reason}: {}", tests.len(), tests.join(", "));
    }
    if tally.ignored > 0 {
        println!("skipped {}: marked #[ignore] in the code", tally.ignored);
    }
    // A skipped test returned early, so the runner has counted it as passed.
    let skips: usize = skipped.values().map(Vec::len).sum();
    let passed = tally.run.saturating_sub(tally.failed + skips);
    println!(
        "{passed} passed, {} failed, {} skipped in {} s",
        tally.failed,
        skips + tally.ignored,
        began.elapsed().as_secs()
    );
}

/// Ctrl-C, SIGTERM and SIGHUP end the tests, not us: the daemon must be taken down first.
#[derive(Debug)]
struct Interruption {
    happened: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Pid>>>,
}

impl Interruption {
    fn watch() -> Result<Self> {
        let happened = Arc::new(AtomicBool::new(false));
        let child = Arc::new(Mutex::new(None));
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (seen, target) = (Arc::clone(&happened), Arc::clone(&child));
        std::thread::spawn(move || {
            for signal in signals.forever() {
                seen.store(true, Ordering::SeqCst);
                // The terminal sends Ctrl-C to the whole group, so the child has it already.
                let pid: Option<Pid> = *target.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(pid) = pid.filter(|_| signal != SIGINT)
                    && let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
                {
                    let _ = pidfd_send_signal(fd, Signal::TERM);
                }
            }
        });
        Ok(Self { happened, child })
    }

    fn happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }

    /// Waits for a child, which is told when we are asked to end. Did it end well?
    fn wait_for(&self, mut child: Child) -> Result<bool> {
        let set = |pid| *self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = pid;
        set(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
        let status = child.wait();
        set(None);
        Ok(status?.success())
    }
}
