//! The local engine's processes: which program is the monitor, and what becomes of a stop whose conductor is lost.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{
    NOT_TEN, SECOND, Target, World, behaviours, clean, eventually, kill, link, new_name, program, run,
    signal, skip_test, small_monitor,
};

behaviours! {
    92 small_monitor_is_used_and_small [local];
    92 gracefully_alone_is_its_own_monitor [local];
    92 monitor_of_another_build_is_not_used [local];
    92 programs_replaced_during_the_life_of_a_container [local];
    92 conductor_killed_after_the_signal [local];
    92 conductor_killed_in_a_restart [local];
    92 conductors_killed_as_they_come [local];
    92 conductor_that_hangs [local];
    92 monitor_asked_by_sigterm [local];
    92 flood_of_output_starves_nobody [local];
}

/// The monitor may take this much memory, in kilobytes; conmon takes 2,128.
const RESIDENT: u64 = 768;

fn executable(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).expect("what it runs")
}

fn small_monitor_is_used_and_small(world: &World) {
    if small_monitor().is_none() {
        skip_test!("the small monitor is not built: run cargo xtask test");
    }
    let target = world.start("slow 0 0");
    let monitor = world.monitor(&target);
    assert_eq!(executable(monitor), program().with_file_name("gracefully-monitor"));
    let status = fs::read_to_string(format!("/proc/{monitor}/status")).expect("its status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().expect("kilobytes");
    assert!(resident <= RESIDENT, "{resident} kB");
}

/// A program of ours in a directory of its own, with nothing or something beside it.
fn installed(world: &World, beside: Option<&Path>) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(new_name());
    fs::create_dir_all(&directory).expect("a directory");
    let ours = directory.join("gracefully");
    link(program(), &ours);
    if let Some(monitor) = beside {
        fs::copy(monitor, directory.join("gracefully-monitor")).expect("a copy");
    }
    let kept = Removed(directory);
    // Everything of a test is gone when its world is.
    world.keep(Box::new(kept));
    ours
}

/// A directory that is removed when this is dropped.
#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start_with(world: &World, program: &Path, mode: &str) -> Target {
    let target = Target { name: new_name() };
    world.own(&target.name);
    let mut command = world.other(program, &["run", "-d", "--name", &target.name, "--", &world.victim()]);
    let started = run(command.args(mode.split(' ')));
    assert_eq!(started.code, 0, "{started:#?}");
    eventually("it has started", || world.log(&target).contains("started").then_some(()));
    target
}

/// What a monitor does, whichever program it is.
fn does_its_work(world: &World, program: &Path, target: &Target) {
    run(&mut world.other(program, &["restart", &target.name])).is(0, &target.line());
    eventually("it has started twice", || (world.log(target).matches("started").count() == 2).then_some(()));
    run(&mut world.other(program, &["stop", &target.name])).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(target), 0);
    assert_eq!(world.report(target)["verdict"], "graceful");
    assert_eq!(world.report(target)["findings"], serde_json::json!([]), "no conductor was lost");
    assert_eq!(world.log(target).matches("got 15").count(), 2);
}

fn gracefully_alone_is_its_own_monitor(world: &World) {
    let program = installed(world, None);
    let target = start_with(world, &program, "slow 0 0");
    assert_eq!(executable(world.monitor(&target)), program);
    does_its_work(world, &program, &target);
}

fn monitor_of_another_build_is_not_used(world: &World) {
    if let Some(monitor) = small_monitor() {
        let refused = run(clean(&monitor).args(["0.0.0+0", "/nonexistent", "9"]));
        assert_eq!((refused.code, &*refused.stderr), (64, ""), "{refused:#?}");
        let by_hand = run(&mut clean(&monitor));
        assert_eq!(by_hand.code, 125, "{by_hand:#?}");
    }
    let other = world.directory().join("other");
    fs::write(&other, "#!/bin/sh\nexit 64\n").expect("a script");
    fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
    let program = installed(world, Some(&other));
    let target = start_with(world, &program, "slow 0 0");
    assert_eq!(executable(world.monitor(&target)), program);
    does_its_work(world, &program, &target);
}

/// An upgrade, or a removal: what conducts stops and makes containers is the program that the container was run with.
fn programs_replaced_during_the_life_of_a_container(world: &World) {
    let program = installed(world, small_monitor().as_deref());
    let target = start_with(world, &program, "slow 0 0");
    let beside = program.with_file_name("gracefully-monitor");
    for file in [&program, &beside] {
        let _ = fs::remove_file(file);
        fs::write(file, "not a program").expect("a file");
    }
    does_its_work(world, crate::harness::program(), &target);
}

/// The conductor of the stop that is under way, as soon as there is one.
fn conductor(world: &World) -> u32 {
    eventually("there is a conductor", || find_conductor(world))
}

fn find_conductor(world: &World) -> Option<u32> {
    let all = world.processes();
    all.iter().find(|(_, line)| line.starts_with("gracefully conduct ")).map(|(pid, _)| *pid)
}

fn conductor_killed_after_the_signal(world: &World) {
    let target = world.start("ignore");
    let client = world.spawn(&["stop", "-t", "2", &target.name]);
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    kill(conductor(world));
    let outcome = client.ended();
    outcome.is(0, &target.line()).took_between(2 * SECOND, NOT_TEN);
    outcome.says("forced: SIGKILL after 2").says("The conductor of this stop was lost");
    assert_eq!(world.exit_code(&target), 137);
    assert_eq!(world.log(&target).matches("got 15").count(), 1, "one stop signal");
    let report = world.report(&target);
    assert_eq!((&report["verdict"], &report["reason"]["is"]), (&"forced".into(), &"killed".into()));
    assert_eq!(report["findings"][0]["code"], "conductor_lost");
}

fn conductor_killed_in_a_restart(world: &World) {
    let target = world.start("slow 2 0");
    let client = world.spawn(&["restart", "-t", "8", &target.name]);
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    kill(conductor(world));
    // A client that dies, too, changes nothing either.
    client.signal(Signal::KILL);
    client.ended().is(137, "");
    eventually("it has started twice", || (world.log(&target).matches("started").count() == 2).then_some(()));
    assert_eq!(world.status(&target), "running");
    assert_eq!(world.log(&target).matches("got 15").count(), 1, "one stop signal");
    eventually("it is reported", || (world.report(&target)["verdict"] == "graceful").then_some(()));
}

fn conductors_killed_as_they_come(world: &World) {
    let target = world.start("slow 0 7");
    let client = world.spawn(&["stop", &target.name]);
    let mut killed = 0;
    // There are three at the most; then the monitor does without.
    eventually("it has ended", || {
        while let Some(pid) = find_conductor(world) {
            kill(pid);
            killed += 1;
        }
        (world.status(&target) == "exited").then_some(())
    });
    let outcome = client.ended();
    outcome.is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 7);
    assert_eq!(world.log(&target).matches("got 15").count(), 1, "one stop signal");
    assert_eq!(world.report(&target)["verdict"], "graceful");
}

/// The monitor kills at the deadline, and gives the conductor up five seconds later.
fn conductor_that_hangs(world: &World) {
    let target = world.start("ignore");
    let client = world.spawn(&["stop", "-t", "1", &target.name]);
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    assert!(signal(conductor(world), Signal::STOP));
    let outcome = client.ended();
    outcome.is(0, &target.line()).took_between(6 * SECOND, 9 * SECOND);
    outcome.says("forced: SIGKILL after 1.0").says("The conductor of this stop was lost");
    assert_eq!(world.exit_code(&target), 137);
    eventually("nothing is left", || find_conductor(world).is_none().then_some(()));
}

fn monitor_asked_by_sigterm(world: &World) {
    let target = world.start_with(&["--restart", "always"], "slow 0 5");
    assert!(signal(world.monitor(&target), Signal::TERM));
    assert_eq!(world.exit_code(&target), 5);
    assert!(world.log(&target).contains("got 15"));
    assert_eq!(world.report(&target)["verdict"], "graceful");
}

/// `yes` writes as fast as it is read.
fn flood_of_output_starves_nobody(world: &World) {
    let target = Target { name: new_name() };
    world.own(&target.name);
    let started = world.run(&["run", "-d", "--name", &target.name, "--", "/bin/sh", "-c", "exec yes"]);
    assert_eq!(started.code, 0, "{started:#?}");
    eventually("the log is put aside", || {
        let id = world.field(&target, "/Id");
        let home = world.state_directory().join("containers").join(id.as_str().expect("an identifier"));
        home.join("log.1").exists().then_some(())
    });
    let outcome = world.run(&["stop", "-t", "1", &target.name]);
    outcome.is(0, &target.line()).took_less_than(NOT_TEN);
}
