//! The stop of a service as whoever starts it sees it.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gracefully::durable::DurableFile;
use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;

mod common;

use common::example;

fn send(child: &Child, signal: Signal) {
    PidFd::open(child.id()).unwrap().send(signal).unwrap();
}

fn piped(command: &mut Command) -> Child {
    command
        .env_remove("GRACEFULLY_GRACE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn text(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_smallest_service() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = piped(&mut example("01_wait_for_sigterm"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "Program started...");
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(rest, ["SIGTERM received!", "Exiting..."]);
        assert!(text(child.stderr.take().unwrap()).starts_with("graceful: stopped after 0.0"));
    }
}

/// A parent may have blocked the signal for everybody it starts.
#[test]
fn a_blocked_signal_is_heard() {
    let script = "import os,signal,sys; signal.pthread_sigmask(signal.SIG_BLOCK,[15]); os.execv(sys.argv[1], sys.argv[1:])";
    let path = example("01_wait_for_sigterm").get_program().to_owned();
    let mut child = piped(Command::new("python3").args(["-c", script]).arg(path));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "Program started...");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_program_without_a_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut child = piped(example("04_without_tokio").arg(&path));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "piece 0");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(DurableFile::read(&path).unwrap().len(), 1 + lines.count());
}

/// Nobody reads what it says.
#[test]
fn closed_streams_do_not_keep_it_from_flushing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut child = piped(example("02_finish_what_was_begun").arg(&path));
    let mut first = BufReader::new(child.stdout.take().unwrap());
    first.read_line(&mut String::new()).unwrap();
    drop((first, child.stderr.take()));
    send(&child, Signal::TERM);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!DurableFile::read(&path).unwrap().is_empty());
}

/// The axum example under load: whoever keeps a connection is told to close it, and nobody's request is lost.
#[test]
fn an_axum_service_finishes_what_it_has_begun() {
    let at = gracefully_load::free_address().unwrap();
    let mut child = piped(example("03_axum").arg(at.to_string()));
    let connected = || std::net::TcpStream::connect(at).is_ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !connected() {
        assert!(Instant::now() < deadline, "it does not listen");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let load = gracefully_load::Load {
        keep_alive: true,
        think: Duration::from_millis(5),
        ..gracefully_load::Load::new(at, 16)
    };
    let clients = load.start();
    std::thread::park_timeout(Duration::from_millis(300));
    send(&child, Signal::TERM);
    // It settles: clients that stop now have lost nothing.
    std::thread::park_timeout(Duration::from_millis(300));
    let tally = clients.stop();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(tally.failed(), 0, "{tally}");
    assert!(tally.answered > 100, "{tally}");
    assert!(text(child.stderr.take().unwrap()).starts_with("graceful: stopped after "));
}

/// What it has said is in the journal, however it ends.
fn everything_said_is_written(path: &Path, signal: Signal, after: Duration) -> usize {
    let mut child = piped(example("02_finish_what_was_begun").arg(path));
    let killer = PidFd::open(child.id()).unwrap();
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        // The last line may be torn: it was not said.
        let said = text(stdout);
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let until = Instant::now() + after;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
    killer.send(signal).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(
        if signal == Signal::KILL { status.signal() } else { status.code() },
        Some(if signal == Signal::KILL { 9 } else { 0 })
    );
    let said = reader.join().unwrap();
    if said.is_empty() && !path.exists() {
        // It was killed before it got so far.
        return 0;
    }
    let written: HashSet<Vec<u8>> = DurableFile::read(path).unwrap().into_iter().collect();
    for line in &said {
        assert!(written.contains(line.as_bytes()), "{line} was said and is not there");
    }
    said.len()
}

/// `kill -9` at 500 random moments, from the start on.
#[test]
fn killed_at_random_moments_it_loses_nothing_that_it_has_said() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = 88_172_645_463_325_252_u64;
    let mut said = 0;
    for round in 0..500 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Each file is written again and again, torn tails included.
        let path = directory.path().join(format!("journal-{}", round % 5));
        said += everything_said_is_written(&path, Signal::KILL, Duration::from_micros(random % 40_000));
        if round % 50 == 49 {
            // It does not grow for ever.
            let _ = std::fs::remove_file(&path);
        }
    }
    assert!(said > 500, "{said}");
}

#[test]
fn stopped_gracefully_it_says_and_writes_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let said = everything_said_is_written(&path, Signal::TERM, Duration::from_millis(200));
    assert_eq!(DurableFile::read(&path).unwrap().len(), said);
}
