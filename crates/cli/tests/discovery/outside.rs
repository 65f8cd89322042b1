//! `gracefully stop` and `restart` of what has registered itself: it is had to leave before its door is shut.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_load::{Client, Outcome};
use gracefully_registry::{Deadline, Instance, find};
use gracefully_servers::{eventually, free};
use serde_json::Value;

use crate::agent::{Agent, Ended, Place};
use crate::local::{Local, said};

/// Whoever sends requests: looks in the directory for each of them, and repeats none.
struct Followers {
    is_over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
}

impl Followers {
    fn of(url: &str) -> Self {
        let (is_over, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let follow = |start: usize| {
            let (url, is_over, asked) = (url.to_owned(), Arc::clone(&is_over), Arc::clone(&asked));
            std::thread::spawn(move || {
                let (mut turn, mut failed) = (start, 0);
                while !is_over.load(Ordering::Relaxed) {
                    let found = instances(&url);
                    turn += 1;
                    let answered = found.get(turn % found.len().max(1)).is_some_and(|instance| {
                        let at = instance.host_and_port().parse().unwrap();
                        Client::new(at, false).ask("/").0 == Outcome::Answered
                    });
                    failed += u64::from(!answered);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failed
            })
        };
        let threads = (0..4).map(follow).collect();
        Self { is_over, asked, threads }
    }

    /// Waits until they have asked so often again.
    fn go_on(&self, times: u64) {
        let before = self.asked.load(Ordering::Relaxed);
        eventually("they ask", || (self.asked.load(Ordering::Relaxed) >= before + times).then_some(()));
    }

    /// How many requests failed.
    fn failed(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

fn instances(url: &str) -> Vec<Instance> {
    find(url, "web", Deadline::within(Duration::from_secs(5))).unwrap()
}

/// Waits until so many are registered.
#[track_caller]
fn registered(url: &str, count: usize) {
    eventually(&format!("{count} are registered"), || (instances(url).len() == count).then_some(()));
}

/// Two containers that have registered themselves.
struct World {
    local: Local,
    url: String,
    /// Where `web` listens.
    web: SocketAddr,
    /// `web` is ready as long as this is there.
    ready: PathBuf,
}

impl World {
    fn new() -> Result<Self, String> {
        let (local, web) = (Local::new(), free());
        let (url, ready) = (format!("file://{}", local.file("services").display()), local.file("ready"));
        std::fs::write(&ready, "").unwrap();
        let check = format!("exec:test -e {}", ready.display());
        for (name, at, check) in [("web", web, check.as_str()), ("other", free(), "tcp")] {
            let port = at.port().to_string();
            let words = ["register", &url, "--service", "web", "--address", "127.0.0.1", "--port", &port];
            let words = [&[env!("CARGO_BIN_EXE_gracefully")], &words[..], &["--check", check, "--"]].concat();
            let words = words.into_iter().map(str::to_owned).chain(local.hello(at));
            local.run(name, &words.collect::<Vec<_>>())?;
        }
        registered(&url, 2);
        Ok(Self { local, url, web, ready })
    }

    /// Of `web`.
    fn pid(&self) -> Option<u64> {
        let inspected = self.local.gracefully(&["inspect", "web"]);
        serde_json::from_slice::<Value>(&inspected.stdout).ok()?[0]["State"]["Pid"].as_u64()
    }

    fn running(&self) -> Vec<String> {
        let ps = self.local.gracefully(&["ps", "--format", "{{.Names}}"]);
        String::from_utf8(ps.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn report(&self, words: &[&str]) -> Value {
        let done = self.local.gracefully(&[&words[..1], &["--report", "-"], &words[1..]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", said(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    }
}

fn outcome<'a>(report: &'a Value, phase: &str) -> &'a Value {
    let steps = report["steps"].as_array().unwrap();
    &steps.iter().find(|step| step["phase"] == phase).unwrap()["outcome"]["is"]
}

#[test]
fn a_stop_has_it_leave_before_the_door_is_shut() {
    let world = or_skip!(World::new());
    let followers = Followers::of(&world.url);
    followers.go_on(200);
    let report = world.report(&["stop", "web"]);
    followers.go_on(200);
    assert_eq!(followers.failed(), 0, "{report:#}");
    assert_eq!(outcome(&report, "deregister"), "done", "{report:#}");
    assert_eq!(outcome(&report, "drain"), "done", "{report:#}");
    assert_eq!(report["verdict"], "graceful", "{report:#}");
    registered(&world.url, 1);
    // It has settled once; the agent inside does not do so again.
    let took = report["took_ms"].as_f64().unwrap();
    assert!(took < 2_900.0, "{report:#}");
}

/// The control: whoever follows the directory does see what is lost.
#[test]
fn a_kill_loses_requests() {
    let world = or_skip!(World::new());
    let followers = Followers::of(&world.url);
    followers.go_on(200);
    let killed = world.local.gracefully(&["kill", "web"]);
    assert_eq!(killed.status.code(), Some(0), "{}", said(&killed));
    followers.go_on(200);
    assert!(followers.failed() > 0);
}

#[test]
fn a_restart_is_over_when_it_is_registered_again() {
    let world = or_skip!(World::new());
    let followers = Followers::of(&world.url);
    followers.go_on(200);
    let report = world.report(&["restart", "web"]);
    assert_eq!(instances(&world.url).len(), 2, "{report:#}");
    followers.go_on(200);
    assert_eq!(followers.failed(), 0, "{report:#}");
    assert_eq!(outcome(&report, "deregister"), "done", "{report:#}");
    assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{report:#}");
}

/// The second one leaves only when others find the first again.
#[test]
fn while_both_are_restarted_in_turn_one_is_always_found() {
    let world = or_skip!(World::new());
    let followers = Followers::of(&world.url);
    followers.go_on(200);
    let restarted = world.local.gracefully(&["restart", "--rolling=1", "web", "other"]);
    assert_eq!(restarted.status.code(), Some(0), "{}", said(&restarted));
    followers.go_on(200);
    assert_eq!(followers.failed(), 0, "{}", said(&restarted));
    assert_eq!(said(&restarted).matches("deregistered ").count(), 2, "{}", said(&restarted));
}

#[test]
fn a_program_that_is_not_registered_again_has_not_come_up() {
    let world = or_skip!(World::new());
    std::fs::remove_file(&world.ready).unwrap();
    let before: Vec<_> = instances(&world.url).into_iter().filter(|it| it.port != world.web.port()).collect();
    let restarted = world.local.gracefully(&["restart", "--rolling=1", "--ready-timeout=1s", "web", "other"]);
    assert_eq!(restarted.status.code(), Some(1), "{}", said(&restarted));
    assert!(said(&restarted).contains("restarted, but not ready in time"), "{}", said(&restarted));
    assert_eq!(instances(&world.url), before, "the other one is left alone: {}", said(&restarted));
}

#[test]
fn a_stop_while_a_restart_waits_for_the_registration_stops() {
    let world = or_skip!(World::new());
    std::fs::remove_file(&world.ready).unwrap();
    let before = world.pid();
    let mut restart = world.local.command(&["restart", "--ready-timeout=100s", "web"]);
    let restart = restart.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    registered(&world.url, 1);
    eventually("it runs again", || (world.pid() != before && world.pid() != Some(0)).then_some(()));
    TcpStream::connect(world.web).expect("its door is not shut");
    let stopped = world.local.gracefully(&["stop", "web"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", said(&stopped));
    assert_eq!(world.running(), ["other"], "{}", said(&stopped));
    let restarted = said(&restart.wait_with_output().unwrap());
    assert!(restarted.contains("not started again: a stop was asked for meanwhile"), "{restarted}");
}

/// A plain process that has registered itself, and somebody who stops it.
struct Process {
    place: Place,
    agent: Agent,
    url: String,
}

impl Process {
    fn new() -> Self {
        let place = Place::new();
        let url = format!("file://{}", place.file("services").display());
        let agent = place.register(&[&url], &[], &place.hello());
        registered(&url, 1);
        Self { place, agent, url }
    }

    /// `gracefully stop`, which settles for a minute, as somebody comes all the time.
    fn stop(&self) -> (PidFd, std::process::Child) {
        let mut stop = Command::new(env!("CARGO_BIN_EXE_gracefully"));
        stop.args(["stop", "-t", "100", "--settle", "60s", &format!("pid:{}", self.agent.pid())]);
        let stop = stop.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = PidFd::open(stop.id()).unwrap();
        registered(&self.url, 0);
        (pid, stop)
    }

    fn keep_asking(&self) -> Followers {
        let (at, fixed) = (self.place.at, self.place.file("fixed"));
        let url = format!("file://{}", fixed.display());
        put(&fixed, at);
        Followers::of(&url)
    }
}

/// An entry that nobody takes out.
fn put(directory: &Path, at: SocketAddr) {
    let instance = Instance::new("web", "127.0.0.1", at.port());
    let mut registry = gracefully_registry::open(&format!("file://{}?ttl=600", directory.display())).unwrap();
    registry.register(&instance, Deadline::within(Duration::from_secs(5))).unwrap();
}

#[test]
fn a_stop_that_is_taken_back_has_it_return() {
    let process = Process::new();
    let clients = process.keep_asking();
    clients.go_on(20);
    let (stop, child) = process.stop();
    stop.send(Signal::INT).unwrap();
    let said = child.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(130), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(instances(&process.url).len(), 1, "{}", process.agent.said());
    clients.go_on(20);
    assert_eq!(clients.failed(), 0);
    let ended = process.agent.stop();
    assert!(ended.said.contains("deregistered "), "{}", ended.said);
    assert!(instances(&process.url).is_empty());
}

#[test]
fn whoever_is_killed_in_the_middle_of_a_stop_has_changed_nothing() {
    let process = Process::new();
    let clients = process.keep_asking();
    clients.go_on(20);
    let (stop, mut child) = process.stop();
    stop.send(Signal::KILL).unwrap();
    child.wait().unwrap();
    registered(&process.url, 1);
    clients.go_on(20);
    assert_eq!(clients.failed(), 0);
    process.agent.says("registered again");
}

/// Stops what these words put into namespaces of its own. The report, and what was said inside.
fn stop_inside(namespaces: &[&str]) -> Result<(Value, String), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a network namespace of its own needs root".into());
    }
    // Where others may read and write.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let program = directory.path().join("gracefully");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_gracefully")).arg(&program).status().unwrap();
    assert!(copied.success());
    let url = format!("file://{}", directory.path().join("services").display());
    let mut register = Command::new(namespaces[0]);
    register.args(&namespaces[1..]).arg(program).args(["register", &url, "--service", "web", "--port", "80"]);
    // Its loopback interface is down, so nobody listens that could be asked.
    register.args(["--check", "none", "--", "sleep", "1000"]);
    let agent = Agent::start(&mut register, directory.path().join("said"));
    eventually("it is registered, or cannot be", || {
        (instances(&url).len() == 1 || agent.has_ended()).then_some(())
    });
    let mut stop = Command::new(env!("CARGO_BIN_EXE_gracefully"));
    let stop = stop.args(["stop", "--report", "-", &format!("pid:{}", agent.pid())]).output().unwrap();
    let Ended { said, .. } = agent.ended();
    match serde_json::from_slice(&stop.stdout) {
        Ok(report) => Ok((report, said)),
        Err(_) => Err(format!("it could not be started: {said}")),
    }
}

/// As in a container of docker's: whoever stops it goes there.
#[test]
fn in_another_network_namespace_it_is_found_as_well() {
    let (report, said) = or_skip!(stop_inside(&["unshare", "--net"]));
    assert_eq!(outcome(&report, "deregister"), "done", "{report:#}");
    assert!(said.contains("left, as a stop from outside has begun"), "{said}");
}

/// Its root is not ours, and does not know us.
#[test]
fn in_a_user_namespace_of_somebody_else_it_does_not_heed_us_and_that_is_said() {
    let other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let (report, said) =
        or_skip!(stop_inside(&[&other[..], &["unshare", "--user", "--map-root-user"]].concat()));
    assert_eq!(outcome(&report, "deregister"), "failed", "{report:#}");
    let why = "lets only root and its own user have it leave";
    assert!(report["steps"][0]["outcome"]["why"].as_str().unwrap().contains(why), "{report:#}");
    assert!(!said.contains("from outside"), "{said}");
}

#[test]
fn what_was_had_to_leave_neither_leaves_nor_settles_again() {
    let process = Process::new();
    let mut stop = Command::new(env!("CARGO_BIN_EXE_gracefully"));
    let stop =
        stop.args(["stop", "--report", "-", &format!("pid:{}", process.agent.pid())]).output().unwrap();
    let report: Value = serde_json::from_slice(&stop.stdout).unwrap();
    assert_eq!(outcome(&report, "deregister"), "done", "{report:#}");
    let ended = process.agent.ended();
    assert!(ended.said.contains("left, as a stop from outside has begun"), "{}", ended.said);
    let again = ["deregistered", "settled", "traffic stopped"];
    assert!(!again.iter().any(|words| ended.said.contains(words)), "{}", ended.said);
    assert!(instances(&process.url).is_empty());
}
