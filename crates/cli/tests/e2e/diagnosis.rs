//! What a stop tells about itself: the report, the verdict, the reason and the remedy.

use serde_json::Value;

use crate::harness::{Kind, NOT_TEN, Target, World, behaviours, eventually, new_name};

behaviours! {
    90 graceful_report [docker podman local process];
    90 forced_report [docker podman local process];
    90 strict_tells_forced_from_graceful [docker podman local process];
    90 shell_form_is_explained [docker podman];
    90 shell_in_front_is_explained [local];
    90 stopped_program_is_named [docker podman];
    90 stopped_program_is_continued [local process];
    90 dry_run_changes_nothing [docker podman local process];
    90 inits_react_without_a_handler [local];
}

/// The report of a stop, which goes to standard output with `--report -`, behind the name.
fn report(world: &World, target: &Target, args: &[&str]) -> Value {
    let file = world.directory().join("report.json");
    let file = file.display().to_string();
    let args = [&["stop", "--report", &file], args, &[&target.name]].concat();
    let outcome = world.run(&args);
    outcome.is(0, &target.line());
    let text = std::fs::read(&file).unwrap_or_else(|error| panic!("no report: {error}: {outcome:#?}"));
    let report: Value = serde_json::from_slice(&text).expect("the report is JSON");
    // One target: one report, alone or as the only element of a list.
    let report = report.get(0).cloned().unwrap_or(report);
    assert_eq!(report["version"], 1, "{report:#}");
    report
}

fn graceful_report(world: &World) {
    let target = world.start("slow 0 0");
    let report = report(world, &target, &[]);
    assert_eq!(report["verdict"], "graceful", "{report:#}");
    // Podman is docker's API to us, and writes a stop signal down even if none was asked for.
    let (engine, source) = match world.kind {
        Kind::Docker | Kind::Bridge | Kind::Reference => ("docker", "default"),
        Kind::Podman => ("docker", "container"),
        Kind::Local => ("local", "default"),
        Kind::Process => ("process", "default"),
    };
    assert_eq!((&report["target"]["engine"], &report["signal"]["source"]), (&engine.into(), &source.into()));
    assert_eq!(report["findings"], Value::Array(vec![]), "{report:#}");
}

fn forced_report(world: &World) {
    let target = world.start("ignore");
    let report = report(world, &target, &["-t", "1"]);
    assert_eq!(
        (&report["verdict"], &report["reason"]["is"]),
        (&"forced".into(), &"killed".into()),
        "{report:#}"
    );
    let codes: Vec<_> = report["findings"].as_array().expect("a list").iter().map(|f| &f["code"]).collect();
    assert_eq!(codes, ["still_alive"], "{report:#}");
}

fn strict_tells_forced_from_graceful(world: &World) {
    let target = world.start("slow 0 0");
    world.run(&["stop", "--strict", &target.name]).is(0, &target.line());
    if world.kind != Kind::Process {
        let target = world.start("ignore");
        world.run(&["stop", "--strict", "-t", "1", &target.name]).is(3, &target.line()).says("forced");
    }
}

fn shell_form_is_explained(world: &World) {
    let target = world.start_image(&[], "gracefully-test/shell", &[]);
    let outcome = world.run(&["stop", "-t", "1", &target.name]);
    outcome
        .is(0, &target.line())
        .says("a shell passes no signal on")
        .says("Use CMD [\"/victim\",\"slow\",\"0\",\"0\"]");
}

fn shell_in_front_is_explained(world: &World) {
    let target = Target { name: new_name() };
    world.own(&target.name);
    let line = format!("{} slow 0 0; true", world.victim());
    let started = world.run(&["run", "-d", "--name", &target.name, "--", "/bin/sh", "-c", &line]);
    assert_eq!(started.code, 0, "{started:#?}");
    eventually("it has started", || world.log(&target).contains("started").then_some(()));
    let outcome = world.run(&["stop", "-t", "1", &target.name]);
    outcome.is(0, &target.line()).says("a shell passes no signal on").says("slow\",\"0\",\"0\"]");
}

fn stopped_program_is_named(world: &World) {
    let target = world.start("slow 0 0");
    assert_eq!(world.run(&["kill", "-s", "STOP", &target.name]).code, 0);
    world.run(&["stop", "-t", "1", &target.name]).is(0, &target.line()).says("state T");
    assert_eq!(world.exit_code(&target), 137);
}

/// Where we send the signals ourselves, a stopped program is continued, so that it can act on its stop signal.
fn stopped_program_is_continued(world: &World) {
    let target = world.start("slow 0 5");
    assert_eq!(world.run(&["kill", "-s", "STOP", &target.name]).code, 0);
    world.run(&["stop", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 5);
}

fn dry_run_changes_nothing(world: &World) {
    let target = world.start("ignore");
    let outcome = world.run(&["stop", "--dry-run", &target.name]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert!(format!("{}{}", outcome.stdout(), outcome.stderr).contains("SIGTERM"), "{outcome:#?}");
    assert!(world.exists(&target));
    assert!(!world.log(&target).contains("got"));
}

/// tini, catatonit and dumb-init show no handler (they wait in sigwait or read a signalfd) and still react.
fn inits_react_without_a_handler(world: &World) {
    for init in ["tini", "catatonit", "dumb-init"] {
        let path = format!("/usr/bin/{init}");
        if !std::path::Path::new(&path).exists() {
            crate::harness::skip(&format!("{}::{init}", module_path!()), &format!("{init} is not installed"));
            continue;
        }
        let target = Target { name: new_name() };
        world.own(&target.name);
        let started = world.run(&[
            "run",
            "-d",
            "--name",
            &target.name,
            "--",
            &path,
            "--",
            &world.victim(),
            "slow",
            "0",
            "5",
        ]);
        assert_eq!(started.code, 0, "{started:#?}");
        eventually("it has started", || world.log(&target).contains("started").then_some(()));
        let outcome = world.run(&["stop", &target.name]);
        outcome.is(0, &target.line()).took_less_than(NOT_TEN);
        assert!(!outcome.stderr.contains("no handler"), "{init}: {outcome:#?}");
        assert_eq!(world.exit_code(&target), 5, "{init}");
    }
}
