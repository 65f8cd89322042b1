//! `gracefully stop` and `restart` of one of two programs behind HAProxy, which is told by us.

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_load::{Client, Load, Outcome};
use gracefully_registry::{Alive, Deadline, Instance, open};
use gracefully_servers::consul::Consul;
use gracefully_servers::haproxy::Haproxy;
use gracefully_servers::{eventually, free};
use serde_json::Value;

use crate::local::{Local, said};

/// HAProxy's bits.
const DRAIN: u32 = 8;

/// The program `web` on the embedded engine, and another one beside it behind HAProxy.
struct World {
    local: Local,
    haproxy: Haproxy,
    web: SocketAddr,
    other: Child,
}

impl World {
    fn new() -> Result<Self, String> {
        let haproxy = Haproxy::start().map_err(|missing| missing.to_string())?;
        let local = Local::new();
        let (web, beside) = (free(), free());
        local.run("web", &local.hello(web))?;
        let mut other = Command::new(&local.hello(beside)[0]);
        other.arg(beside.to_string()).stdout(Stdio::null());
        let world = Self { local, haproxy, web, other: other.spawn().unwrap() };
        for (place, at) in [(1, web), (2, beside)] {
            eventually("it listens", || std::net::TcpStream::connect(at).ok());
            world.haproxy.put(place, at);
        }
        Ok(world)
    }

    fn command(&self, words: &[&str]) -> Command {
        self.local.command(words)
    }

    fn gracefully(&self, words: &[&str]) -> Output {
        self.local.gracefully(words)
    }

    /// Of the server `sN` of its backend.
    fn url(&self, server: &str) -> String {
        format!("haproxy://{}?server=web/{server}", self.haproxy.socket().display())
    }

    fn load(&self) -> gracefully_load::Running {
        Load { keep_alive: true, ..Load::new(self.haproxy.at(), 8) }.start()
    }

    /// Waits until so many more requests came to it.
    fn is_asked(&self, times: u64) {
        let before = self.haproxy.requests(1);
        eventually("it is asked", || (self.haproxy.requests(1) >= before + times).then_some(()));
    }

    fn is_running(&self) -> bool {
        String::from_utf8_lossy(&self.gracefully(&["ps", "-q"]).stdout).lines().count() == 1
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.other.kill();
        let _ = self.other.wait();
    }
}

#[test]
fn a_stop_leaves_the_gateway_first_and_loses_nobody() {
    let world = or_skip!(World::new());
    let clients = world.load();
    world.is_asked(50);
    let slow = {
        let at = world.web;
        std::thread::spawn(move || Client::new(at, false).ask("/sleep/1000").0)
    };
    world.is_asked(10);
    let stopped = world.gracefully(&["stop", "--gateway", &world.url("s1"), "--report", "-", "web"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", said(&stopped));
    assert_eq!(slow.join().unwrap(), Outcome::Answered);
    let tally = clients.stop();
    assert_eq!(tally.failed() + tally.raced, 0, "{tally}: {}", said(&stopped));
    assert_eq!(world.haproxy.state(1), DRAIN, "nobody comes back");
    let report: Value = serde_json::from_slice(&stopped.stdout).unwrap();
    let step = &report["steps"][0];
    assert!(step["phase"] == "deregister" && step["outcome"]["is"] == "done", "{report}");
    assert!(said(&stopped).contains("deregistered "), "{}", said(&stopped));
}

#[test]
fn after_a_restart_it_is_sent_requests_again() {
    let world = or_skip!(World::new());
    let clients = world.load();
    world.is_asked(50);
    let restarted = world.gracefully(&["restart", "--gateway", &world.url("s1"), "web"]);
    assert_eq!(restarted.status.code(), Some(0), "{}", said(&restarted));
    assert_eq!(world.haproxy.state(1), 0, "{}", said(&restarted));
    world.is_asked(50);
    let tally = clients.stop();
    assert_eq!(tally.failed() + tally.raced, 0, "{tally}: {}", said(&restarted));
}

#[test]
fn whoever_takes_a_stop_back_puts_it_in_again() {
    let world = or_skip!(World::new());
    let at = world.web;
    let slow = std::thread::spawn(move || Client::new(at, false).ask("/sleep/3000").0);
    let url = world.url("s1");
    let mut stop = world.command(&["stop", "-t", "60", "--gateway", &url, "web"]);
    let mut stop = stop.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it is told", || (world.haproxy.state(1) == DRAIN).then_some(()));
    PidFd::open(stop.id()).unwrap().send(Signal::INT).unwrap();
    assert_eq!(stop.wait().unwrap().code(), Some(130));
    assert!(world.is_running());
    eventually("it is put in again", || (world.haproxy.state(1) == 0).then_some(()));
    assert_eq!(slow.join().unwrap(), Outcome::Answered);
}

#[test]
fn what_a_gateway_does_not_know_stops_nothing() {
    let world = or_skip!(World::new());
    for (url, why) in [
        (world.url("s99"), "there is no server \"s99\" in the backend \"web\""),
        ("haproxy:///no/such/socket?server=web/s1".to_owned(), "No such file or directory"),
        ("haproxy:///run/haproxy.sock".to_owned(), "server=BACKEND/SERVER says which"),
        ("etcd://localhost".to_owned(), "service=NAME and id=ID say which"),
        ("file:///run/services?service=web&id=a".to_owned(), "as a gateway the known ones are haproxy"),
    ] {
        let stopped = world.gracefully(&["stop", "--gateway", &url, "web"]);
        assert!(
            stopped.status.code() == Some(1) && said(&stopped).contains(why),
            "{url}: {}",
            said(&stopped)
        );
        assert!(world.is_running(), "{url}");
    }
    let url = world.url("s1");
    let several = world.gracefully(&["stop", "--gateway", &url, "web", "api"]);
    assert!(said(&several).contains("--gateway is about one container"), "{}", said(&several));
    assert!(world.is_running() && world.haproxy.state(1) == 0);
}

#[test]
fn a_gateway_that_is_lost_meanwhile_stops_no_stop() {
    let world = or_skip!(World::new());
    let proxy = gracefully_servers::Proxy::before(free());
    proxy.set(gracefully_servers::Fault::Silent);
    let url = format!("haproxy://{}?server=web/s1", proxy.at());
    // It does not even say whether it knows the program.
    let stopped = world.gracefully(&["stop", "--gateway", &url, "web"]);
    assert!(
        stopped.status.code() == Some(1) && said(&stopped).contains("does not answer in time"),
        "{}",
        said(&stopped)
    );
    assert!(world.is_running());
}

/// It dies at the signal, and never says a word to its registry.
#[test]
fn what_has_registered_itself_is_hidden_and_nothing_of_it_stays() {
    let consul = Consul::start();
    let url = format!("consul://{}", consul.at());
    let world = or_skip!(World::new());
    let within = || Deadline::within(Duration::from_secs(5));
    let mut theirs = open(&url).unwrap();
    let instance = Instance { id: "web-1".into(), ..Instance::new("web", "127.0.0.1", world.web.port()) };
    theirs.register(&instance, within()).unwrap();
    let gateway = format!("{url}?service=web&id=web-1&settle=0");
    let restarted = world.gracefully(&["restart", "--gateway", &gateway, "web"]);
    assert!(restarted.status.success() && theirs.is_visible(within()).unwrap(), "{}", said(&restarted));
    let stopped = world.gracefully(&["stop", "--gateway", &gateway, "web"]);
    assert!(stopped.status.success() && !theirs.is_visible(within()).unwrap(), "{}", said(&stopped));
    assert_eq!(theirs.keep_alive(within()).unwrap(), Alive::Lost, "it is out");
    theirs.register(&instance, within()).unwrap();
    assert!(theirs.is_visible(within()).unwrap(), "who comes after it is not hidden");
}
