//! Programs that make it hard to end them. Each is this executable again, with its name in the environment.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use gracefully::{Phase, Shutdown};
use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use tokio::io::AsyncReadExt;
use tokio::runtime::Builder;

/// Which program this process is.
const PROGRAM: &str = "GRACEFULLY_TEST_PROGRAM";

/// The threads of its runtime.
const WORKERS: usize = 2;

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// No test, but the programs, when one of them is asked for.
#[test]
fn program() {
    let Ok(name) = std::env::var(PROGRAM) else { return };
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    let entered = runtime.enter();
    let another = Shutdown::install().unwrap();
    let builder = Shutdown::builder().budget(ms(5_000)).settle(Duration::ZERO).reserve(ms(500));
    let shutdown = if name == "busy" { builder.budget(ms(1_000)) } else { builder }.install().unwrap();
    shutdown.on(Phase::Flush, "journal", async |_| say("flushed"));
    match name.as_str() {
        // A task that never hears of the stop.
        "deaf" => shutdown.spawn("deaf", async |_| std::future::pending().await).unwrap(),
        // Every thread of the runtime computes for ever.
        "busy" => {
            let all_are = Arc::new(Barrier::new(WORKERS + 1));
            for _ in 0..WORKERS {
                let all_are = Arc::clone(&all_are);
                runtime.spawn(async move {
                    all_are.wait();
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            all_are.wait();
        }
        // A flush that does not end, and a task: nothing is quick.
        "stuck" => {
            shutdown.spawn("deaf", async |_| std::future::pending().await).unwrap();
            shutdown.on(Phase::Flush, "disk", async |_| std::future::pending::<()>().await);
        }
        // A thread that nobody can end, of those whose end a runtime waits for.
        "blocking" => drop(runtime.spawn_blocking(|| std::thread::park_timeout(Duration::from_secs(60)))),
        "reads" => drop(runtime.spawn(async { tokio::io::stdin().read_u8().await })),
        // It computes, and only then looks.
        "late" => {
            say("ready");
            let until = Instant::now() + ms(500);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        _ => {}
    }
    if name != "late" {
        say("ready");
    }
    drop(entered);
    let ended = runtime.block_on(shutdown.wait());
    match name.as_str() {
        "raises" => ended.re_raise(),
        // They do not know of each other.
        "plain" => drop(runtime.block_on(another.wait())),
        _ => {}
    }
    let _ = std::io::stdout().write_all(b"a word without an end of line");
    ended.exit()
}

fn say(what: &str) {
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// A program at work; killed if the test fails.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

struct Ended {
    status: ExitStatus,
    /// What it has said since it was ready.
    said: String,
    complained: String,
    took: Duration,
}

impl Running {
    fn start(name: &str) -> Self {
        Self::start_by(name, &[])
    }

    /// The words come in front of the command.
    fn start_by(name: &str, words: &[&str]) -> Self {
        let us = std::env::current_exe().unwrap().display().to_string();
        let words = [words, &[&us, "program", "--exact", "--nocapture", "--quiet"]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env(PROGRAM, name).env_remove("GRACEFULLY_GRACE");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("ready\n") {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "{name} is not ready");
        }
        Self { child, stdout }
    }

    fn signal(&self, signal: Signal) {
        PidFd::open(self.child.id()).unwrap().send(signal).unwrap();
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn ended(mut self) -> Ended {
        let began = Instant::now();
        while !self.has_ended() {
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::park_timeout(ms(2));
        }
        let took = began.elapsed();
        let status = self.child.wait().unwrap();
        let (mut said, mut complained) = (String::new(), String::new());
        self.stdout.read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut complained).unwrap();
        Ended { status, said, complained, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Longer than two deliveries of one press are apart.
fn between_presses() {
    std::thread::park_timeout(ms(300));
}

#[test]
fn a_second_signal_ends_the_waiting_and_not_the_flush() {
    let program = Running::start("deaf");
    program.signal(Signal::TERM);
    between_presses();
    program.signal(Signal::INT);
    let ended = program.ended();
    assert!(ended.took < ms(2_000), "{:?}", ended.took);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.said.contains("flushed"), "{:?}", ended.said);
    let said = &ended.complained;
    assert!(said.starts_with("forced: ") && said.contains("deaf (drain): not finished after"), "{said}");
}

#[test]
fn a_third_signal_ends_the_process() {
    let program = Running::start("stuck");
    program.signal(Signal::TERM);
    for _ in 0..2 {
        between_presses();
        program.signal(Signal::TERM);
    }
    let ended = program.ended();
    assert!(ended.took < ms(2_000), "{:?}", ended.took);
    assert_eq!(ended.status.code(), Some(143));
}

/// As many as somebody can send who does not know that one is enough.
#[test]
fn a_flood_of_signals_is_a_few_presses() {
    let mut program = Running::start("stuck");
    let began = Instant::now();
    while !program.has_ended() && began.elapsed() < ms(2_000) {
        program.signal(Signal::TERM);
        std::thread::park_timeout(ms(5));
    }
    assert_eq!(program.ended().status.code(), Some(143));
    assert!(began.elapsed() > ms(400), "three presses are half a second");
}

#[test]
fn a_busy_runtime_is_ended_when_the_time_is_over() {
    let program = Running::start("busy");
    program.signal(Signal::TERM);
    let ended = program.ended();
    assert_eq!(ended.status.code(), Some(143), "{}", ended.complained);
    assert!((ms(1_500)..ms(8_000)).contains(&ended.took), "{:?}", ended.took);
}

#[test]
fn threads_that_cannot_be_ended_are_not_waited_for() {
    for name in ["blocking", "reads"] {
        let program = Running::start(name);
        program.signal(Signal::TERM);
        let ended = program.ended();
        assert_eq!(ended.status.code(), Some(0), "{name}: {}", ended.complained);
        assert!(ended.took < ms(3_000), "{name}: {:?}", ended.took);
    }
}

#[test]
fn what_was_printed_is_seen() {
    let program = Running::start("plain");
    program.signal(Signal::TERM);
    let ended = program.ended();
    assert!(ended.said.ends_with("a word without an end of line"), "{:?}", ended.said);
}

#[test]
fn a_signal_before_anybody_waits_is_not_lost() {
    let program = Running::start("late");
    program.signal(Signal::TERM);
    assert_eq!(program.ended().status.code(), Some(0));
}

#[test]
fn the_signal_is_raised_again_for_those_who_want_to_see_it() {
    let program = Running::start("raises");
    program.signal(Signal::TERM);
    let ended = program.ended();
    assert_eq!(ended.status.signal(), Some(15), "{:?}", ended.status);
    assert!(ended.said.contains("flushed"));
}

/// `command &` in a shell without job control ignores SIGINT. Whoever installs a handler wants to hear it.
#[test]
fn a_signal_that_the_parent_ignores_is_heard() {
    let program = Running::start_by("plain", &["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]);
    program.signal(Signal::INT);
    assert_eq!(program.ended().status.code(), Some(0));
}

/// It is for reloading, or nobody handles it.
#[test]
fn sighup_is_no_request() {
    let program = Running::start("plain");
    program.signal(Signal::HUP);
    assert_eq!(program.ended().status.signal(), Some(1));
}
