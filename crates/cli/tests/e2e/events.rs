//! What others hear of it: docker's events, case 78, and health checks, case 79.
//!
//! Proxies and registries act on these; so they must be the same whether docker or gracefully stops a container.

use std::fs::{self, File};
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Target, World, behaviours, created, eventually, kill, run};

behaviours! {
    78 stop [docker reference podman("Podman's events have names of their own")];
    78 stop_that_kills [docker reference podman("Podman's events have names of their own")];
    78 stop_of_what_is_paused [docker reference podman("Podman's events have names of their own")];
    78 stop_of_what_has_ended_or_never_ran [docker reference podman("Podman's events have names of their own")];
    78 stop_with_a_signal [docker podman("Podman's events have names of their own")];
    78 kill_without_a_signal [docker reference podman("Podman's events have names of their own")];
    78 kill_with_a_signal [docker reference podman("Podman's events have names of their own")];
    78 restart [docker reference podman("Podman's events have names of their own")];
    78 forced_removal [docker reference podman("Podman's events have names of their own")];
    79 health_checks_go_on_after_a_signal [docker reference podman("Podman's health checks need systemd")];
    79 health_checks_go_on_until_the_end [docker reference podman("Podman's health checks need systemd")];
}

/// What docker tells about one container.
struct Events(PathBuf);

impl Events {
    /// From now on; what was before is left out.
    fn of(world: &World, target: &Target) -> Self {
        let file = world.directory().join(format!("{}.events", target.name));
        let mut events = world.docker(&["events", "--since", "1", "--format", "{{json .}}", "--filter"]);
        events.arg(format!("container={}", target.name)).stdout(File::create(&file).expect("a file"));
        world.adopt(events.spawn().expect("the docker CLI"));
        let events = Self(file);
        // What was before is told first.
        eventually("docker tells", || events.all().contains(&"create".to_string()).then_some(()));
        events
    }

    /// `kill 15`, `die 0`, `stop`: what happened, with the signal or the exit code.
    fn all(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.0).expect("the events");
        // The last line may be half written.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .map(|event| {
                let detail = |name| event["Actor"]["Attributes"][name].as_str();
                let detail = detail("signal").or(detail("exitCode")).unwrap_or_default();
                format!("{} {detail}", event["Action"].as_str().expect("a word")).trim_end().to_string()
            })
            .collect()
    }

    /// Asserts that these, and no others, have been told from the first start to the removal, which is the end of
    /// everything.
    #[track_caller]
    fn are(&self, expected: &str) {
        eventually("the container is removed", || self.all().contains(&"destroy".to_string()).then_some(()));
        assert_eq!(self.all().join(", "), format!("create, start, {expected}, destroy"));
    }
}

/// Removes a container by docker's own means.
#[track_caller]
fn remove(world: &World, target: &Target) {
    run(&mut world.docker(&["rm", "-f", &target.name])).is(0, &target.line());
}

fn stop(world: &World) {
    let target = world.start("slow 0 3");
    let events = Events::of(world, &target);
    world.run(&["stop", &target.name]).is(0, &target.line());
    remove(world, &target);
    events.are("kill 15, die 3, stop");
}

fn stop_that_kills(world: &World) {
    let target = world.start("ignore");
    let events = Events::of(world, &target);
    world.run(&["stop", "-t", "1", &target.name]).is(0, &target.line());
    remove(world, &target);
    events.are("kill 15, kill 9, die 137, stop");
}

fn stop_of_what_is_paused(world: &World) {
    let target = world.start("slow 0 0");
    let events = Events::of(world, &target);
    assert_eq!(run(&mut world.docker(&["pause", &target.name])).code, 0);
    world.run(&["stop", &target.name]).is(0, &target.line());
    remove(world, &target);
    events.are("pause, kill 15, unpause, die 0, stop");
}

fn stop_of_what_has_ended_or_never_ran(world: &World) {
    let target = created(world);
    let events = Events::of(world, &target);
    world.run(&["stop", &target.name]).is(0, &target.line());
    assert_eq!(run(&mut world.docker(&["start", &target.name])).code, 0);
    kill(world.main_pid(&target));
    assert_eq!(world.exit_code(&target), 137);
    world.run(&["stop", &target.name]).is(0, &target.line());
    remove(world, &target);
    events.are("die 137");
}

/// Below API 1.42 docker's own stop takes no signal: the signal is sent by itself, and nothing is left to stop then.
fn stop_with_a_signal(world: &World) {
    let target = world.start("slow 0 0");
    let events = Events::of(world, &target);
    world.run(&["stop", "-s", "INT", &target.name]).is(0, &target.line());
    let version = run(&mut world.docker(&["version", "--format", "{{.Server.APIVersion}}"])).stdout();
    let minor: u32 = version.trim().trim_start_matches("1.").parse().expect("an API version");
    remove(world, &target);
    events.are(if minor < 42 { "kill 2, die 0" } else { "kill 2, die 0, stop" });
}

fn kill_without_a_signal(world: &World) {
    let target = world.start("slow 0 0");
    let events = Events::of(world, &target);
    world.run(&["kill", &target.name]).is(0, &target.line());
    remove(world, &target);
    events.are("kill 9, die 137");
}

fn kill_with_a_signal(world: &World) {
    let target = world.start("slow 0 5");
    let events = Events::of(world, &target);
    world.run(&["kill", "-s", "USR1", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 5);
    remove(world, &target);
    events.are("kill 10, die 5");
}

fn restart(world: &World) {
    let target = world.start("slow 0 0");
    let events = Events::of(world, &target);
    world.run(&["restart", &target.name]).is(0, &target.line());
    remove(world, &target);
    events.are("kill 15, die 0, stop, start, restart, kill 9, die 137");
}

fn forced_removal(world: &World) {
    let target = world.start("slow 0 0");
    let events = Events::of(world, &target);
    world.run(&["rm", "-f", &target.name]).is(0, &target.line());
    events.are("kill 9, die 137");
}

/// A container whose health is looked at ten times a second, once it is found healthy.
fn healthy(world: &World) -> Target {
    let check = ["--health-cmd", "/victim exit 0", "--health-interval", "100ms"];
    let target = world.start_image(&check, "gracefully-test/shell", &["/victim", "allsig"]);
    eventually("it is healthy", || (health(world, &target) == "healthy").then_some(()));
    target
}

fn health(world: &World, target: &Target) -> Value {
    world.field(target, "/State/Health/Status")
}

/// Waits for two more probes; the second one has begun after this was called.
fn two_more_probes(world: &World, target: &Target) {
    let newest = || world.field(target, "/State/Health/Log").as_array().and_then(|log| log.last().cloned());
    for _ in 0..2 {
        let seen = newest();
        eventually("its health is looked at again", || (newest() != seen).then_some(()));
    }
}

fn health_checks_go_on_after_a_signal(world: &World) {
    let target = healthy(world);
    world.run(&["kill", "-s", "USR1", &target.name]).is(0, &target.line());
    eventually("the signal has arrived", || world.log(&target).contains("got 10").then_some(()));
    two_more_probes(world, &target);
    assert_eq!((world.status(&target), health(world, &target)), ("running".into(), "healthy".into()));
}

/// While it is being stopped nobody can tell it from one that is not, until it has ended.
fn health_checks_go_on_until_the_end(world: &World) {
    let target = healthy(world);
    let stop = world.spawn(&["stop", "-t", "60", &target.name]);
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    two_more_probes(world, &target);
    assert_eq!((world.status(&target), health(world, &target)), ("running".into(), "healthy".into()));
    world.run(&["stop", "-t", "0", &target.name]).is(0, &target.line());
    stop.ended().is(0, &target.line());
    assert_eq!((world.status(&target), health(world, &target)), ("exited".into(), "unhealthy".into()));
}
