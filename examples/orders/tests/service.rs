//! The order service as its clients and whoever stops it see it.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_load::{Client, Outcome};
use tempfile::TempDir;

/// The service at work; killed if the test fails.
struct Service {
    child: Child,
    at: SocketAddr,
    directory: TempDir,
}

/// How a service has ended.
struct Ended {
    /// `None`: by a signal.
    code: Option<i32>,
    said: String,
    /// What is on the disk.
    orders: Vec<String>,
    directory: TempDir,
}

impl Service {
    /// With a directory of its own, in which is the book.
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), env!("CARGO_BIN_EXE_orders"), &["serve"])
    }

    /// The same, and in `services` it is registered.
    fn start_registered() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), env!("CARGO_BIN_EXE_orders"), &["serve", "--register"])
    }

    fn start_in(directory: TempDir, program: &str, words: &[&str]) -> Self {
        let mut command = Command::new(program);
        let (verb, registers) = words.split_at(words.len().min(1));
        command.args(verb).arg("127.0.0.1:0").arg(directory.path().join("book")).args(registers);
        if !registers.is_empty() {
            command.arg(format!("file://{}/services", directory.path().display()));
        }
        command.env_remove("GRACEFULLY_GRACE").env_remove("GRACEFULLY_SETTLE");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let at = line.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { child, at, directory }
    }

    fn registrations(&self) -> Vec<PathBuf> {
        files(&self.directory.path().join("services/orders"))
    }

    fn signal(&self, signal: Signal) {
        PidFd::open(self.child.id()).unwrap().send(signal).unwrap();
    }

    fn ended(mut self) -> Ended {
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let book = self.directory.path().join("book");
        let list = Command::new(env!("CARGO_BIN_EXE_orders")).arg("list").arg(book).output().unwrap();
        let orders = String::from_utf8(list.stdout).unwrap().lines().map(str::to_owned).collect();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        Ended { code, said, orders, directory }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Clients that order until they are refused or cut; gives what was acknowledged.
fn order_until_it_ends(at: SocketAddr, path: &'static str) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let clients: Vec<_> = (0..8)
            .map(|number| {
                std::thread::spawn(move || {
                    let mut client = Client::new(at, false);
                    let orders = (0..).map(|n| format!("{number}-{n}"));
                    orders.take_while(|order| client.post(path, order).0 == Outcome::Answered).collect()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| -> Vec<String> { client.join().unwrap() }).collect()
    })
}

fn assert_all_there(acknowledged: &[String], ended: &Ended) {
    let there: HashSet<&String> = ended.orders.iter().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|order| !there.contains(order)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
}

fn wait_until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// How many orders the service says it has.
fn count(at: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(b"GET /orders HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().last().unwrap().parse().unwrap()
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    let service = Service::start();
    let orders = order_until_it_ends(service.at, "/orders");
    wait_until(|| count(service.at) > 200);
    service.signal(Signal::KILL);
    let ended = service.ended();
    assert_eq!(ended.code, None);
    let acknowledged = orders.join().unwrap();
    assert!(acknowledged.len() > 100);
    assert_all_there(&acknowledged, &ended);
    // And it starts again, and goes on.
    let again = Service::start_in(ended.directory, env!("CARGO_BIN_EXE_orders"), &["serve"]);
    assert_eq!(count(again.at), ended.orders.len());
    assert_eq!(Client::new(again.at, false).post("/orders", "one more").0, Outcome::Answered);
    again.signal(Signal::TERM);
    assert_eq!(again.ended().orders.last().unwrap(), "one more");
}

#[test]
fn what_was_acknowledged_early_is_there_after_sigterm() {
    let service = Service::start();
    let orders = order_until_it_ends(service.at, "/orders/early");
    wait_until(|| count(service.at) > 200);
    service.signal(Signal::TERM);
    let ended = service.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.starts_with("graceful: stopped after "), "{}", ended.said);
    assert_all_there(&orders.join().unwrap(), &ended);
}

/// The control: without it the tests above would prove nothing.
#[test]
fn the_naive_twin_loses_what_it_has_acknowledged() {
    for signal in [Signal::KILL, Signal::TERM] {
        let service =
            Service::start_in(tempfile::tempdir().unwrap(), env!("CARGO_BIN_EXE_orders-naive"), &[]);
        let mut client = Client::new(service.at, true);
        for order in 0..10 {
            assert_eq!(client.post("/orders", &format!("order {order}")).0, Outcome::Answered);
        }
        service.signal(signal);
        let book = std::fs::read_to_string(service.ended().directory.path().join("book")).unwrap();
        assert_eq!(book, "", "ten orders are less than a buffer");
    }
}

#[test]
fn slow_and_streamed_answers_end_as_they_should() {
    let service = Service::start();
    let at = service.at;
    let slow = std::thread::spawn(move || Client::new(at, false).ask("/slow/1000"));
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(b"GET /orders/new HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    assert_eq!(Client::new(at, false).post("/orders", "one coffee").0, Outcome::Answered);
    while line != "one coffee\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    let began = Instant::now();
    service.signal(Signal::TERM);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the last chunk is the end: {rest:?}");
    assert_eq!(slow.join().unwrap().0, Outcome::Answered);
    assert_eq!(service.ended().code, Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "it ends when all has ended");
}

#[test]
fn it_is_out_of_the_registry_before_it_stops_serving() {
    let service = Service::start_registered();
    let [entry] = &service.registrations()[..] else { panic!("one registration") };
    let text = std::fs::read_to_string(entry).unwrap();
    assert!(text.contains(&format!("\"port\":{}", service.at.port())), "{text}");
    service.signal(Signal::TERM);
    wait_until(|| service.registrations().is_empty());
    // Whoever has read the registry before may still come.
    assert_eq!(Client::new(service.at, false).ask("/").0, Outcome::Answered);
    let ended = service.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.said);
}

#[test]
fn a_registration_that_somebody_else_has_removed_is_no_failure() {
    let service = Service::start_registered();
    std::fs::remove_file(&service.registrations()[0]).unwrap();
    service.signal(Signal::TERM);
    let ended = service.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.said);
}

#[test]
fn a_registration_that_cannot_be_removed_is_told_and_stops_nothing() {
    let service = Service::start_registered();
    let entry = &service.registrations()[0];
    std::fs::remove_file(entry).unwrap();
    std::fs::create_dir(entry).unwrap();
    service.signal(Signal::TERM);
    let ended = service.ended();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.said.contains("services (deregister): ") && ended.said.contains("Is a directory"),
        "{}",
        ended.said
    );
}

#[test]
fn what_is_no_order_is_refused() {
    let service = Service::start();
    let mut client = Client::new(service.at, true);
    for (order, status) in [("", 400), (&"x".repeat(1001)[..], 413)] {
        assert_eq!(client.post("/orders", order).0, Outcome::Status(status));
    }
    assert_eq!(count(service.at), 0);
}

#[test]
fn a_wrong_command_line_is_named() {
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_orders")).args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let directory = tempfile::tempdir().unwrap();
    let book = directory.path().join("book").display().to_string();
    for (words, named) in [
        (&[][..], "usage: orders serve"),
        (&["serve", "nowhere", &book], "nowhere: "),
        (&["serve", "127.0.0.1:0", "/no/such/directory/book"], "/no/such/directory/book: No such file"),
        (&["list", "/no/such/book"], "/no/such/book: No such file"),
        (&["serve", "127.0.0.1:0", &book, "--register", "zoo://x"], "\"zoo://x\" is not understood"),
    ] {
        let (code, said) = run(words);
        assert_eq!(code, Some(1), "{words:?}");
        assert!(said.starts_with("orders: ") && said.contains(named), "{words:?}: {said}");
    }
}
