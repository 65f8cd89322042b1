//! The program that the end-to-end suite stops: `victim MODE [ARGUMENT…]`.
//!
//! One mode is one way to behave. Every mode that waits says `started MODE` when its handlers are in place, so a test
//! that has read that line may send signals. A handled signal is reported as `got N`.
//!
//! | mode | behaviour |
//! |---|---|
//! | `slow SECONDS CODE` | after SIGTERM or SIGINT (or QUIT, USR1, USR2) goes on for SECONDS, then exits with CODE |
//! | `ignore`, `allsig` | reports every signal and never exits |
//! | `default` | no handler at all |
//! | `shell` | no handler, but a child in mode `slow 0 0`; waits for it |
//! | `orphan` | starts a child in mode `ignore` and exits 0 |
//! | `exit CODE` | exits at once |
//! | `crash SECONDS CODE` | exits by itself after SECONDS |
//! | `abort` | abort(3): SIGABRT; as PID 1, where that is discarded, the fault that follows: SIGSEGV |
//! | `eat MEBIBYTES` | after a stop signal takes that much memory; if it is still there then, exits 0 |
//! | `sigstop` | with handlers, stops itself with SIGSTOP (not as PID 1: that is immune to its own) |
//! | `streams` | one line on each of stdout and stderr, then exits 3 |
//! | `line BYTES` | one line of BYTES × `x`, then waits as `slow 0 0` |
//! | `bytes` | every byte value once, without a newline, then waits as `slow 0 0` |
//! | `ticker` | a numbered line every 10 ms until a stop signal; then `last` and exit 0 |
//! | `http ADDRESS` | the HTTP server of `examples/hello`: no handler, connections are kept for ever |
//! | `http-graceful ADDRESS` | the same as a careful author writes it: after SIGTERM it takes nothing new, for which it wakes itself by a connection to itself, answers what it has begun, and exits 0 |
//! | `http-later LATER ADDRESS` | as `http`, and after SIGUSR1 at LATER, too |
//! | `http-once ADDRESS` | as `http`, but when it is started again it runs and does not listen |
//! | `http-until ADDRESS` | as `http`, and after SIGUSR1 it listens no more |
//! | `http-slow ADDRESS` | as `http-graceful`; it takes half a second to listen, and when it has stopped listening another to exit |
//! | `http-stamp ADDRESS FILE` | as `http`, and at SIGTERM as the last act of `stamp` |
//! | `echo ADDRESS` | no HTTP: answers a line `MS WORDS` with the same line, after so many milliseconds; no handler |
//! | `sink ADDRESS` | accepts connections, reads nothing, and has no handler; others may listen there, too (`SO_REUSEPORT`) |
//! | `sinks ADDRESS PROCESSES` | has so many children in mode `sink` |
//! | `half-requests ADDRESS NUMBER` | so many clients, who send half a request and wait |
//! | `flush MILLISECONDS` | after SIGTERM goes on for so long, says `flushed` and exits 0 |
//! | `clock` | says CLOCK_MONOTONIC, in nanoseconds, as soon as it has SIGUSR1; no handler for SIGTERM |
//! | `stamp FILE` | as `slow 0 0`; its last act is to write CLOCK_MONOTONIC, in nanoseconds, to FILE |

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use rustix::process::{Signal, getpid, kill_process};
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{FORBIDDEN, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// What ends a mode that handles its stop signal.
const STOP_SIGNALS: [i32; 5] = [SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["slow", seconds, code] => slow(&words, number(seconds), number(code)),
        ["ignore" | "allsig"] => ignore(&words),
        ["default"] => wait_for_ever(),
        ["shell"] => shell(),
        ["orphan"] => start_child(&["ignore"]).map(|_| 0),
        ["exit", code] => Ok(number(code)),
        ["crash", seconds, code] => started(&words)
            .map(|()| pause(Duration::from_secs(number(seconds).into())))
            .map(|()| number(code)),
        ["eat", mebibytes] => eat(&words, mebibytes.parse().unwrap_or(0)),
        ["abort"] => std::process::abort(),
        ["sigstop"] => stop_myself(),
        ["streams"] => streams(),
        ["line", bytes] => say(&"x".repeat(bytes.parse().unwrap_or(0))).and_then(|()| slow(&words, 0, 0)),
        ["bytes"] => bytes(),
        ["ticker"] => ticker(),
        ["flush", milliseconds] => flush(&words, milliseconds.parse().unwrap_or(u64::MAX)),
        ["clock"] => clock(&words),
        ["stamp", file] => stamp(&words, file),
        ["http", address] => hello::serve(address).map(|()| 0),
        ["http-later", later, address] => serve_later(later, address),
        ["http-once", address] => serve_once(address),
        ["http-until", address] => serve_until(address),
        ["http-stamp", address, file] => serve_and_stamp(&words, address, file),
        ["echo", address] => echo(address),
        ["sink", address] => sink(&words, address),
        ["sinks", address, processes] => sinks(&words, address, number(processes)),
        ["half-requests", address, clients] => half_requests(&words, address, clients.parse().unwrap_or(0)),
        ["http-graceful", address] => serve_gracefully(address, Duration::ZERO),
        ["http-slow", address] => serve_gracefully(address, Duration::from_millis(500)),
        _ => Err(io::Error::other(format!("unknown mode: {}", words.join(" ")))),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "victim: {error}");
            ExitCode::from(99)
        }
    }
}

fn number(word: &str) -> u8 {
    word.parse().unwrap_or(u8::MAX)
}

fn slow(words: &[&str], seconds: u8, code: u8) -> io::Result<u8> {
    slow_silently(seconds, code, |signals| {
        started(words)?;
        if let Some(signal) = signals.forever().next() {
            say(&format!("got {signal}"))?;
        }
        Ok(())
    })
}

/// Installs the handlers, lets `wait` wait for the first signal, then takes its time.
fn slow_silently(seconds: u8, code: u8, wait: impl FnOnce(&mut Signals) -> io::Result<()>) -> io::Result<u8> {
    let mut signals = Signals::new(STOP_SIGNALS)?;
    wait(&mut signals)?;
    pause(Duration::from_secs(seconds.into()));
    Ok(code)
}

fn flush(words: &[&str], milliseconds: u64) -> io::Result<u8> {
    let mut signals = Signals::new([SIGTERM])?;
    started(words)?;
    signals.forever().next();
    pause(Duration::from_millis(milliseconds));
    say("flushed")?;
    Ok(0)
}

fn clock(words: &[&str]) -> io::Result<u8> {
    let mut signals = Signals::new([SIGUSR1])?;
    started(words)?;
    for _ in signals.forever() {
        let now = clock_gettime(ClockId::Monotonic);
        say(&(i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)).to_string())?;
    }
    Ok(0)
}

fn bytes() -> io::Result<u8> {
    slow_silently(0, 0, |signals| {
        write(&(0..=u8::MAX).collect::<Vec<_>>())?;
        signals.forever().next();
        Ok(())
    })
}

fn ignore(words: &[&str]) -> io::Result<u8> {
    // Of the signals that can be handled at all, glibc keeps 32 and 33 for itself.
    let all = (1..=64).filter(|n| !FORBIDDEN.contains(n) && ![32, 33].contains(n));
    let mut signals = Signals::new(all)?;
    started(words)?;
    for signal in signals.forever() {
        say(&format!("got {signal}"))?;
    }
    Ok(0)
}

fn wait_for_ever() -> io::Result<u8> {
    started(&["default"])?;
    loop {
        pause(Duration::from_hours(1));
    }
}

fn shell() -> io::Result<u8> {
    start_child(&["slow", "0", "0"])?.wait()?;
    Ok(0)
}

/// Takes nothing new, finishes what it has begun, leaves.
fn serve_gracefully(address: &str, slowness: Duration) -> io::Result<u8> {
    let mut signals = Signals::new(STOP_SIGNALS)?;
    pause(slowness);
    let server = hello::Server::listen(address)?;
    serve_until_signal(&server, &mut signals);
    while server.busy() > 0 {
        pause(Duration::from_millis(1));
    }
    drop(server);
    pause(slowness);
    Ok(0)
}

fn serve_until(address: &str) -> io::Result<u8> {
    let mut signals = Signals::new([SIGUSR1])?;
    let server = hello::Server::listen(address)?;
    serve_until_signal(&server, &mut signals);
    drop(server);
    wait_for_ever()
}

fn serve_until_signal(server: &hello::Server, signals: &mut Signals) {
    let accepting = server.clone();
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let accept = std::thread::spawn(move || accepting.accept(|| is_over.load(Ordering::SeqCst)));
    signals.forever().next();
    over.store(true, Ordering::SeqCst);
    // One more connection, so that the loop looks.
    drop(server.wake());
    let _ = accept.join();
}

fn serve_later(later: &str, address: &str) -> io::Result<u8> {
    let mut signals = Signals::new([SIGUSR1])?;
    let server = hello::Server::listen(address)?;
    std::thread::spawn(move || server.accept(|| false));
    signals.forever().next();
    hello::serve(later).map(|()| 0)
}

/// It remembers that it has run in a file beside itself.
fn serve_once(address: &str) -> io::Result<u8> {
    match fs::File::create_new(std::env::current_exe()?.with_extension("ran")) {
        Ok(_) => hello::serve(address).map(|()| 0),
        Err(_) => wait_for_ever(),
    }
}

fn start_child(words: &[&str]) -> io::Result<Child> {
    Command::new(std::env::current_exe()?).args(words).spawn()
}

fn eat(words: &[&str], mebibytes: usize) -> io::Result<u8> {
    let mut signals = Signals::new(STOP_SIGNALS)?;
    started(words)?;
    signals.forever().next();
    let mut eaten = Vec::new();
    for n in 0..mebibytes {
        // Not zero: pages of zeros are not there until they are written to.
        eaten.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&eaten[n]);
    }
    Ok(0)
}

fn stop_myself() -> io::Result<u8> {
    slow_silently(0, 0, |signals| {
        started(&["sigstop"])?;
        stop()?;
        signals.forever().next();
        Ok(())
    })
}

#[expect(clippy::disallowed_methods, reason = "our own PID cannot be recycled while we run")]
fn stop() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::STOP)?)
}

fn streams() -> io::Result<u8> {
    say("to stdout")?;
    writeln!(io::stderr(), "to stderr")?;
    Ok(3)
}

fn ticker() -> io::Result<u8> {
    let mut signals = Signals::new(STOP_SIGNALS)?;
    started(&["ticker"])?;
    let mut n = 0;
    while signals.pending().next().is_none() {
        say(&format!("tick {n}"))?;
        n += 1;
        pause(Duration::from_millis(10));
    }
    say("last")?;
    Ok(0)
}

fn stamp(words: &[&str], file: &str) -> io::Result<u8> {
    let code = slow(words, 0, 0)?;
    write_stamp(file)?;
    Ok(code)
}

fn serve_and_stamp(words: &[&str], address: &str, file: &str) -> io::Result<u8> {
    let server = hello::Server::listen(address)?;
    std::thread::spawn(move || server.accept(|| false));
    stamp(words, file)
}

fn write_stamp(file: &str) -> io::Result<()> {
    let now = clock_gettime(ClockId::Monotonic);
    fs::write(file, format!("{}{:09}", now.tv_sec, now.tv_nsec))
}

fn echo(address: &str) -> io::Result<u8> {
    let listener = TcpListener::bind(address)?;
    say(&format!("listening on {address}"))?;
    for connection in listener.incoming() {
        let mut connection = connection?;
        std::thread::spawn(move || -> io::Result<()> {
            for line in BufReader::new(connection.try_clone()?).lines() {
                let line = line?;
                let ms = line.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
                pause(Duration::from_millis(ms));
                connection.write_all(format!("{line}\n").as_bytes())?;
            }
            Ok(())
        });
    }
    Ok(0)
}

/// Each process may have no more than some thousand files, and each connection is one: several share the port.
fn sinks(words: &[&str], address: &str, processes: u8) -> io::Result<u8> {
    let mut children = Vec::new();
    for _ in 0..processes {
        let mut child =
            Command::new(std::env::current_exe()?).args(["sink", address]).stdout(Stdio::piped()).spawn()?;
        // It listens when it has said so.
        let said = child.stdout.take().map(|said| BufReader::new(said).lines().next());
        said.flatten().transpose()?;
        children.push(child);
    }
    started(words)?;
    for mut child in children {
        child.wait()?;
    }
    Ok(0)
}

fn sink(words: &[&str], address: &str) -> io::Result<u8> {
    let address: SocketAddrV4 = address.parse().map_err(io::Error::other)?;
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 4096)?;
    started(words)?;
    let mut kept = Vec::new();
    for connection in TcpListener::from(socket).incoming() {
        kept.push(connection?);
    }
    Ok(0)
}

fn half_requests(words: &[&str], address: &str, number: usize) -> io::Result<u8> {
    let mut clients = Vec::new();
    for _ in 0..number {
        let mut client = TcpStream::connect(address)?;
        client.write_all(b"GET / HTTP/1.1\r\n")?;
        clients.push(client);
    }
    started(words)?;
    wait_for_ever()
}

fn started(words: &[&str]) -> io::Result<()> {
    say(&format!("started {}", words.join(" ")))
}

fn say(line: &str) -> io::Result<()> {
    write(format!("{line}\n").as_bytes())
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Waits for `time`, also when signals interrupt it.
#[expect(clippy::disallowed_methods, reason = "taking its time is what this program is for")]
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::sleep(left);
    }
}
