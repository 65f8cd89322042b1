//! The docker engine against a real daemon, with the docker CLI as the reference where it can be one.
//!
//! `GRACEFULLY_TEST_DOCKER_HOST` names the daemon; without it every test here is skipped and says so. The daemon must have
//! the image `gracefully-test/victim`, whose program is told by its arguments what to do with signals: `slow N CODE`
//! handles them and ends after N seconds, `ignore` prints them and goes on, `default` has no handlers,
//! `exit N` ends at once. TLS is as the docker CLI's variables say. Podman's socket is a daemon too. The tests make containers of their own, without a network, and remove them.

#![expect(clippy::unwrap_used, reason = "a failed expectation of a test")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

#[path = "docker/bench.rs"]
mod bench;

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use gracefully_core::diagnosis::Reaction;
use gracefully_core::event::ExitStatus;
use gracefully_core::policy::{Policy, Request, Then, Timeout};
use gracefully_core::signal::Signal;
use gracefully_engine::docker::Docker;
use gracefully_engine::docker::endpoint::{Endpoint, EndpointOptions, Environment};
use gracefully_engine::{
    Conductor, Container, Engine, Error, Instance, ListOptions, LogOptions, LogStream, Removal, State,
    Terminate,
};
use tokio::time::{sleep, timeout};

const IMAGE: &str = "gracefully-test/victim";

const FORCED: Removal = Removal { force: true, volumes: true };

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon under test; `None` if there is none, after saying so.
fn daemon() -> Option<Daemon> {
    let Ok(host) = std::env::var("GRACEFULLY_TEST_DOCKER_HOST") else {
        eprintln!("SKIPPED: GRACEFULLY_TEST_DOCKER_HOST names no daemon");
        return None;
    };
    let environment = Environment::from_vars(|name| std::env::var_os(name));
    let options = EndpointOptions { host: Some(host.clone()), environment, ..EndpointOptions::default() };
    let docker = Docker::connect(&Endpoint::resolve(&options).unwrap()).unwrap();
    Some(Daemon { host, docker })
}

struct Daemon {
    host: String,
    docker: Docker,
}

impl Daemon {
    /// Runs the docker CLI.
    fn cli(&self, args: &[&str]) -> Output {
        Command::new("docker").args(["-H", &self.host]).args(args).output().expect("the docker CLI")
    }

    /// What the docker CLI prints, and that it succeeds.
    fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A new container that has been made by `docker VERB OPTIONS IMAGE COMMAND`.
    fn make(&self, verb: &[&str], options: &[&str], command: &[&str]) -> Made<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("gracefully-engine-{}-{number}", std::process::id());
        let fixed = ["--name", &name, "--net=none", "--label=gracefully.test=1"];
        let id = self.cli_ok(&[verb, &fixed, options, &[IMAGE], command].concat());
        Made { daemon: self, name, id }
    }

    fn create(&self, options: &[&str], command: &[&str]) -> Made<'_> {
        self.make(&["create"], options, command)
    }

    /// A container that runs, and whose program has installed its handlers.
    async fn run(&self, options: &[&str], command: &[&str]) -> Made<'_> {
        let made = self.make(&["run", "-d"], options, command);
        made.ready(command).await;
        made
    }
}

/// A container that is removed when its test is over.
struct Made<'a> {
    daemon: &'a Daemon,
    name: String,
    id: String,
}

impl Made<'_> {
    async fn find(&self) -> Container {
        self.daemon.docker.find(&self.name).await.unwrap()
    }

    async fn ready(&self, command: &[&str]) {
        if !matches!(command, ["slow" | "ignore", ..]) {
            return;
        }
        let handles = async {
            loop {
                let pid = self.find().await.pid.expect("it runs");
                let process = gracefully_linux::process::read(pid).expect("a daemon of this host");
                if matches!(process.reaction(Signal::TERM), Reaction::Handles | Reaction::Awaits) {
                    return;
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, handles).await.expect("the program installs its handlers");
    }

    async fn instance(&self) -> Box<dyn Instance> {
        match self.daemon.docker.conductor(&self.find().await).await.unwrap() {
            Conductor::Caller(instance) => instance,
            Conductor::Monitor(_) => panic!("docker has no monitor"),
        }
    }

    async fn order(&self, request: &Request) -> Terminate {
        let policy = Policy::resolve(request, &self.find().await.settings);
        Terminate { policy, kill_after: policy.timeout.value.limit(), then: request.then }
    }

    /// A whole stop as the executor walks it: the watch from the beginning, the kill when the budget is used up.
    async fn stop(&self, request: &Request) -> Stopped {
        let instance = self.instance().await;
        let order = self.order(request).await;
        let began = Instant::now();
        let kill = async {
            match order.kill_after {
                Some(after) => sleep(after).await,
                None => std::future::pending().await,
            }
            if !(instance.kills_by_itself() && request.then == Then::Start) {
                instance.kill().await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let both = async {
            tokio::join!(instance.exited(), async { instance.terminate(&order).await.unwrap() }).0.unwrap()
        };
        let status = tokio::select! {
            status = timeout(PATIENCE, both) => status.expect("the stop ends"),
            () = kill => unreachable!(),
        };
        Stopped { status, took: began.elapsed(), findings: instance.findings().len() }
    }

    async fn log(&self) -> String {
        let log = self.daemon.docker.logs(&self.find().await, &LogOptions::default()).await.unwrap();
        let chunks: Vec<_> = log.map(Result::unwrap).collect().await;
        String::from_utf8(chunks.into_iter().flat_map(|chunk| chunk.bytes).collect()).unwrap()
    }

    /// The signals that the program has printed.
    async fn signals(&self) -> Vec<u8> {
        let log = self.log().await;
        log.lines().filter_map(|line| line.strip_prefix("got ")?.trim().parse().ok()).collect()
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.daemon.cli(&["rm", "-f", "-v", &self.id]);
    }
}

#[derive(Debug)]
struct Stopped {
    status: ExitStatus,
    took: Duration,
    findings: usize,
}

fn seconds(seconds: i64) -> Request {
    Request { timeout: Some(Timeout::from_seconds(seconds)), ..Request::default() }
}

fn with_signal(signal: Signal, request: Request) -> Request {
    Request { signal: Some(signal), ..request }
}

fn restart(request: Request) -> Request {
    Request { then: Then::Start, ..request }
}

/// Is it Podman, whose own ways this test does not describe? Says so.
fn is_podman(daemon: &Daemon, way: &str) -> bool {
    let podman = daemon.cli_ok(&["version", "-f", "{{json .Server.Components}}"]).contains("Podman");
    if podman {
        eprintln!("SKIPPED: Podman {way}");
    }
    podman
}

/// Does the daemon obey the signal of a stop?
fn obeys_signals(daemon: &Daemon) -> bool {
    let api = daemon.cli_ok(&["version", "-f", "{{.Server.APIVersion}}"]);
    let (major, minor) = api.split_once('.').unwrap();
    (major.parse::<u32>().unwrap(), minor.parse::<u32>().unwrap()) >= (1, 42)
}

#[tokio::test]
async fn a_program_that_obeys_ends_with_its_own_code() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["slow", "0", "3"]).await;
    let instance = made.instance().await;
    let here = daemon.host.starts_with("unix://");
    assert_eq!(instance.main_pid(), made.find().await.pid.filter(|_| here));
    assert!(instance.kills_by_itself());

    let stopped = made.stop(&Request::default()).await;
    assert_eq!((stopped.status, stopped.findings), (ExitStatus::Code(3), 0));
    let container = made.find().await;
    assert_eq!((container.state, container.exit_code, container.pid), (State::Exited, Some(3), None));
    assert_eq!(made.signals().await, [15]);
}

#[tokio::test]
async fn a_program_that_does_not_obey_is_killed_when_time_is_up() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["ignore"]).await;
    let stopped = made.stop(&seconds(1)).await;
    assert_eq!(stopped.status, ExitStatus::Signal(Signal::KILL));
    assert!(stopped.took >= Duration::from_secs(1), "{stopped:?}");
    assert_eq!(made.signals().await, [15]);
}

#[tokio::test]
async fn no_time_means_signal_and_kill() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["default"]).await;
    let stopped = made.stop(&seconds(0)).await;
    assert_eq!(stopped.status, ExitStatus::Signal(Signal::KILL));
    assert!(stopped.took < Duration::from_secs(5), "{stopped:?}");
}

#[tokio::test]
async fn unlimited_time_outlasts_the_default() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&["--stop-timeout=1"], &["slow", "2", "42"]).await;
    assert_eq!(made.stop(&seconds(-1)).await.status, ExitStatus::Code(42));
}

#[tokio::test]
async fn the_containers_own_settings_hold() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&["--stop-timeout=1", "--stop-signal=USR1"], &["ignore"]).await;
    let stopped = made.stop(&Request::default()).await;
    assert_eq!(stopped.status, ExitStatus::Signal(Signal::KILL));
    assert!(stopped.took >= Duration::from_secs(1) && stopped.took < Duration::from_secs(8), "{stopped:?}");
    assert_eq!(made.signals().await, [10]);
}

#[tokio::test]
async fn another_signal_is_never_dropped() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["ignore"]).await;
    let stopped = made.stop(&with_signal(Signal::USR1, seconds(1))).await;
    assert_eq!(stopped.status, ExitStatus::Signal(Signal::KILL));
    assert_eq!(made.signals().await, [10]);
    assert_eq!(stopped.findings, usize::from(!obeys_signals(&daemon)));
}

/// A signal other than the stop signal leaves dockerd's restart policy in force.
#[tokio::test]
async fn another_signal_stops_a_container_that_is_always_restarted() {
    let Some(daemon) = daemon() else { return };
    if is_podman(&daemon, "restarts at once") {
        return;
    }
    let made = daemon.run(&["--stop-signal=INT", "--restart=always"], &["slow", "0", "7"]).await;
    let stopped = made.stop(&with_signal(Signal::TERM, seconds(5))).await;
    assert_eq!(stopped.status, ExitStatus::Code(7));
    // Its back-off begins with 100 ms.
    sleep(Duration::from_millis(500)).await;
    assert_eq!(made.find().await.state, State::Exited);
}

#[tokio::test]
async fn a_restart_tells_how_the_old_program_ended() {
    let Some(daemon) = daemon() else { return };
    for request in [seconds(5), with_signal(Signal::INT, seconds(5))] {
        let made = daemon.run(&[], &["slow", "0", "4"]).await;
        let before = made.find().await;
        let stopped = made.stop(&restart(request.clone())).await;
        assert_eq!(stopped.status, ExitStatus::Code(4), "{request:?}");
        let after = made.find().await;
        assert_eq!(after.state, State::Running);
        assert!(after.pid != before.pid && after.started > before.started);
    }
}

#[tokio::test]
async fn start_waits_for_the_engines_own_restart() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["slow", "0", "0"]).await;
    let before = made.find().await.pid;
    let instance = made.instance().await;
    let order = made.order(&restart(seconds(5))).await;
    let started = async {
        instance.exited().await.unwrap();
        instance.start().await.unwrap();
        made.find().await
    };
    let (result, container) = tokio::join!(instance.terminate(&order), started);
    result.unwrap();
    assert_eq!(container.state, State::Running);
    assert_ne!(container.pid, before);
}

#[tokio::test]
async fn a_paused_program_is_thawed_and_stopped() {
    let Some(daemon) = daemon() else { return };
    for request in [seconds(5), with_signal(Signal::INT, seconds(5))] {
        let made = daemon.run(&["--stop-signal=TERM"], &["slow", "0", "6"]).await;
        daemon.cli_ok(&["pause", &made.name]);
        assert_eq!(made.find().await.state, State::Paused);
        assert_eq!(made.stop(&request).await.status, ExitStatus::Code(6), "{request:?}");
    }
}

#[tokio::test]
async fn a_stop_between_two_runs_cancels_the_next() {
    let Some(daemon) = daemon() else { return };
    if is_podman(&daemon, "restarts at once") {
        return;
    }
    let made = daemon.run(&["--restart=always"], &["exit", "9"]).await;
    // The back-off doubles, so it is soon between two runs for long enough.
    let waiting = async {
        loop {
            let started = made.find().await.started;
            sleep(Duration::from_millis(300)).await;
            let container = made.find().await;
            if container.state == State::Restarting && container.started == started {
                return;
            }
        }
    };
    timeout(PATIENCE, waiting).await.expect("it waits to be restarted");
    let stopped = made.stop(&with_signal(Signal::USR1, Request::default())).await;
    assert_eq!(stopped.status, ExitStatus::Code(9));
    assert_eq!(made.find().await.state, State::Exited);
}

#[tokio::test]
async fn a_container_that_removes_itself_is_gone() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&["--rm"], &["slow", "0", "5"]).await;
    let container = made.find().await;
    assert!(container.auto_remove);
    assert_eq!(made.stop(&seconds(5)).await.status, ExitStatus::Code(5));
    timeout(PATIENCE, daemon.docker.wait_removed(&container)).await.unwrap().unwrap();
    assert!(daemon.docker.find(&made.name).await.unwrap_err().is_not_found());
    // And once more, when there is nobody to wait for.
    timeout(PATIENCE, daemon.docker.wait_removed(&container)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_goes_on_when_we_do_not() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["ignore"]).await;
    let instance = made.instance().await;
    let order = made.order(&seconds(1)).await;
    // Dropped, and its connection with it, as when the client dies.
    let cut = timeout(Duration::from_millis(300), instance.terminate(&order)).await;
    assert!(cut.is_err());
    assert_eq!(made.find().await.state, State::Running);
    assert_eq!(timeout(PATIENCE, daemon.docker.wait(&made.find().await)).await.unwrap().unwrap(), 137);
}

#[tokio::test]
async fn a_second_request_kills_at_once() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["ignore"]).await;
    let instance = made.instance().await;
    let order = made.order(&seconds(60)).await;
    let hurried = async {
        while made.signals().await.is_empty() {
            sleep(Duration::from_millis(2)).await;
        }
        instance.kill().await.unwrap();
    };
    let stop = async { tokio::join!(instance.terminate(&order), instance.exited(), hurried) };
    let (terminated, status, ()) = timeout(PATIENCE, stop).await.unwrap();
    terminated.unwrap();
    assert_eq!(status.unwrap(), ExitStatus::Signal(Signal::KILL));
}

#[tokio::test]
async fn who_is_not_running_is_stopped_already() {
    let Some(daemon) = daemon() else { return };
    if is_podman(&daemon, "knows no exit code before the first start") {
        return;
    }
    let created = daemon.create(&[], &["exit", "4"]);
    assert_eq!(created.find().await.state, State::Created);
    assert_eq!(created.stop(&Request::default()).await.status, ExitStatus::Code(0));
    assert_eq!(created.find().await.state, State::Created);

    let container = created.find().await;
    daemon.docker.start(&container).await.unwrap();
    assert_eq!(timeout(PATIENCE, daemon.docker.wait(&container)).await.unwrap().unwrap(), 4);
    assert_eq!(created.stop(&Request::default()).await.status, ExitStatus::Code(4));
    let instance = created.instance().await;
    assert!(matches!(instance.kill().await, Err(Error::NotRunning { .. })));
}

#[tokio::test]
async fn names_are_looked_up_as_docker_looks_them_up() {
    let Some(daemon) = daemon() else { return };
    if is_podman(&daemon, "has words of its own") {
        return;
    }
    let made = daemon.create(&[], &["exit", "0"]);
    for name in [&made.name, &format!("/{}", made.name), &made.id, &made.id[..20].to_owned()] {
        assert_eq!(daemon.docker.find(name).await.unwrap().id, made.id);
    }
    for name in ["nope", "no such one", "no/such", "%6e", "\u{e9}", "a?b", "a#b"] {
        let error = daemon.docker.find(name).await.unwrap_err();
        assert!(error.is_not_found(), "{name}: {error:?}");
        let reference = daemon.cli(&["stop", name]);
        let reference = String::from_utf8(reference.stderr).unwrap();
        assert!(reference.trim_end().ends_with(&error.to_string()), "{name}: {error} is not {reference}");
    }
    let nope = daemon.docker.find("nope").await.unwrap_err();
    assert_eq!(nope.to_string(), "Error response from daemon: No such container: nope");
}

#[tokio::test]
async fn a_beginning_that_fits_two_is_ambiguous() {
    let Some(daemon) = daemon() else { return };
    if is_podman(&daemon, "has words of its own") {
        return;
    }
    // Of 17 identifiers two begin with the same digit.
    let mut made: Vec<Made<'_>> = Vec::new();
    let digit = loop {
        let next = daemon.create(&[], &["exit", "0"]);
        let twin = made.iter().any(|other| other.id[..1] == next.id[..1]);
        made.push(next);
        if twin {
            break made.last().unwrap().id[..1].to_owned();
        }
    };
    let error = daemon.docker.find(&digit).await.unwrap_err();
    assert!(error.is_ambiguous() && !error.is_not_found(), "{error:?}");
    let reference = String::from_utf8(daemon.cli(&["stop", &digit]).stderr).unwrap();
    assert_eq!(error.to_string(), reference.trim_end());
}

#[tokio::test]
async fn one_signal_is_sent_as_docker_kill_sends_it() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["ignore"]).await;
    let container = made.find().await;
    let realtime = Signal::from_number(37).unwrap();
    daemon.docker.signal(&container, realtime).await.unwrap();
    let seen = async {
        while made.signals().await != [37] {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, seen).await.expect("the program gets the signal");

    daemon.docker.signal(&container, Signal::KILL).await.unwrap();
    assert_eq!(made.find().await.state, State::Exited);
    let error = daemon.docker.signal(&container, Signal::TERM).await.unwrap_err();
    assert!(error.is_not_running());
    let reference = String::from_utf8(daemon.cli(&["kill", "-s", "TERM", &made.id]).stderr).unwrap();
    assert_eq!(error.to_string(), reference.trim_end());
}

#[tokio::test]
async fn removal_is_refused_while_it_runs() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["ignore"]).await;
    let container = made.find().await;
    let error = daemon.docker.remove(&container, Removal::default()).await.unwrap_err();
    let reference = String::from_utf8(daemon.cli(&["rm", &made.id]).stderr).unwrap();
    assert_eq!(error.to_string(), reference.trim_end());
    daemon.docker.remove(&container, FORCED).await.unwrap();
    assert!(daemon.docker.find(&made.id).await.unwrap_err().is_not_found());
    assert!(daemon.docker.remove(&container, FORCED).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn all_or_only_those_that_run_the_youngest_first() {
    let Some(daemon) = daemon() else { return };
    let running = daemon.run(&[], &["ignore"]).await;
    let created = daemon.create(&[], &["exit", "0"]);
    let ids = |containers: Vec<Container>| -> Vec<String> {
        let ours = |container: &Container| [&running.id, &created.id].contains(&&container.id);
        containers.into_iter().filter(ours).map(|container| container.id).collect()
    };
    let all = ListOptions { all: true, ..ListOptions::default() };
    assert_eq!(ids(daemon.docker.list(&all).await.unwrap()), [created.id.clone(), running.id.clone()]);
    let up = ListOptions::default();
    assert_eq!(ids(daemon.docker.list(&up).await.unwrap()), std::slice::from_ref(&running.id));
}

#[tokio::test]
async fn inspect_is_an_element_of_what_docker_inspect_prints() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.create(&["--stop-signal=RTMIN+3", "-e", "A=B"], &["exit", "0"]);
    let ours = daemon.docker.inspect(&made.find().await).await.unwrap();
    let reference: serde_json::Value = serde_json::from_str(&daemon.cli_ok(&["inspect", &made.id])).unwrap();
    let keys = |value: &serde_json::Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&ours), keys(&reference[0]));
    assert_eq!(ours["Config"], reference[0]["Config"]);
}

#[tokio::test]
async fn the_log_is_what_docker_logs_prints() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["slow", "0", "0"]).await;
    made.stop(&seconds(5)).await;
    for (options, args) in [
        (LogOptions::default(), &[][..]),
        (LogOptions { tail: Some(1), ..LogOptions::default() }, &["--tail=1"]),
        (LogOptions { tail: Some(0), ..LogOptions::default() }, &["--tail=0"]),
        (
            LogOptions { timestamps: true, follow: true, ..LogOptions::default() },
            &["--timestamps", "--follow"],
        ),
    ] {
        let log = daemon.docker.logs(&made.find().await, &options).await.unwrap();
        let chunks: Vec<_> = log.map(Result::unwrap).collect().await;
        let of = |stream| -> Vec<u8> {
            chunks
                .iter()
                .filter(|chunk| chunk.stream == stream)
                .flat_map(|chunk| chunk.bytes.clone())
                .collect()
        };
        let reference = daemon.cli(&[&["logs"], args, &[made.id.as_str()]].concat());
        assert_eq!(of(LogStream::Stdout), reference.stdout, "{options:?}");
        assert_eq!(of(LogStream::Stderr), reference.stderr, "{options:?}");
    }
}

#[tokio::test]
async fn a_log_can_begin_at_a_moment() {
    let Some(daemon) = daemon() else { return };
    let made = daemon.run(&[], &["ignore"]).await;
    let container = made.find().await;
    let count = async |wanted: usize| {
        while made.signals().await.len() < wanted {
            sleep(Duration::from_millis(2)).await;
        }
    };
    daemon.docker.signal(&container, Signal::HUP).await.unwrap();
    timeout(PATIENCE, count(1)).await.unwrap();
    let since = SystemTime::now();
    daemon.docker.signal(&container, Signal::USR1).await.unwrap();
    timeout(PATIENCE, count(2)).await.unwrap();

    let options = LogOptions { since: Some(since), ..LogOptions::default() };
    let log = daemon.docker.logs(&container, &options).await.unwrap();
    let text: Vec<u8> =
        log.map(Result::unwrap).flat_map(|chunk| futures_util::stream::iter(chunk.bytes)).collect().await;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("got 10") && !text.contains("got 1\n"), "{text}");
}

#[tokio::test]
async fn a_followed_log_ends_with_the_container_and_misses_nothing() {
    let Some(daemon) = daemon() else { return };
    for options in [&[][..], &["-t"]] {
        let made = daemon.run(options, &["slow", "0", "0"]).await;
        let container = made.find().await;
        let follow = LogOptions { follow: true, ..LogOptions::default() };
        let log = daemon.docker.logs(&container, &follow).await.unwrap();
        let collect = log.map(Result::unwrap).collect::<Vec<_>>();
        let request = seconds(5);
        let both = async { tokio::join!(collect, made.stop(&request)) };
        let (chunks, _) = timeout(PATIENCE, both).await.unwrap();
        let text: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.bytes).collect();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("15"), "{options:?}: {text:?}");
        assert_eq!(text.contains("\r\n"), !options.is_empty(), "a terminal ends lines with both");
    }
}
