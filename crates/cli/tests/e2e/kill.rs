//! `kill`: cases 40 to 50.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::harness::{Kind, NOT_TEN, Target, World, behaviours, created, eventually, kill, run};

behaviours! {
    40 without_a_signal_it_is_dead_afterwards [docker podman local reference];
    40 process_is_killed [process];
    41 harmless_signal_leaves_it_running [docker podman local process reference];
    41 handled_signal_ends_it [docker podman local process reference];
    42 stop_and_continue [docker podman local process reference];
    43 exited_is_not_running [docker podman local reference];
    43 created_is_not_running [docker podman reference];
    44 unknown_name [docker podman local reference];
    45 invalid_signals_are_refused [docker podman local process reference];
    46 every_spelling_of_a_signal [docker podman local process reference];
    47 number_beyond_the_platform [docker podman local reference];
    49 stays_down_in_spite_of_its_restart_policy [docker local reference podman("Podman 4.3 restarts after every signal that is not its own stop")];
    49 other_signal_than_the_stop_signal_restarts [docker podman local reference];
    50 paused_is_killed [docker podman reference];
    51 program_of_another_user_is_killed [docker podman local reference];
    53 reload_then_crash_stays_down [docker reference];
    53 reload_then_crash_restarts [local podman];
}

fn without_a_signal_it_is_dead_afterwards(world: &World) {
    let target = world.start("ignore");
    world.run(&["kill", &target.name]).is(0, &target.line());
    assert_eq!(world.status(&target), "exited");
    assert_eq!(world.exit_code(&target), 137);
}

fn process_is_killed(world: &World) {
    let target = world.start("ignore");
    world.run(&["kill", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 137);
}

fn harmless_signal_leaves_it_running(world: &World) {
    let target = world.start("ignore");
    world.run(&["kill", "-s", "WINCH", &target.name]).is(0, &target.line());
    eventually("it reports the signal", || world.log(&target).contains("got 28").then_some(()));
    assert!(world.exists(&target));
}

fn handled_signal_ends_it(world: &World) {
    let target = world.start("slow 0 6");
    world.run(&["kill", "--signal=SIGTERM", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 6);
}

fn stop_and_continue(world: &World) {
    let target = world.start("slow 0 6");
    world.run(&["kill", "-s", "STOP", &target.name]).is(0, &target.line());
    world.run(&["kill", "-s", "TERM", &target.name]).is(0, &target.line());
    world.run(&["kill", "-s", "CONT", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 6);
}

fn exited_is_not_running(world: &World) {
    let target = world.start_unready(&[], "exit 0");
    assert_eq!(world.exit_code(&target), 0);
    world.run(&["kill", &target.name]).is(1, "").says(world.not_running());
}

fn created_is_not_running(world: &World) {
    let target = created(world);
    let outcome = world.run(&["kill", &target.name]);
    outcome.is(1, "").says(world.not_running());
    if world.kind == Kind::Docker || world.kind == Kind::Reference {
        outcome.says(&format!("annot kill container: {}: ", target.name));
    }
}

fn unknown_name(world: &World) {
    let outcome = world.run(&["kill", "nope"]);
    outcome.is(1, "").says(&world.no_such("nope"));
    // Podman says it shorter.
    if world.kind == Kind::Docker || world.kind == Kind::Reference {
        outcome.says("annot kill container: nope: ");
    }
}

fn invalid_signals_are_refused(world: &World) {
    let target = world.start("ignore");
    for bad in ["0", "SIG42", "BOGUS", "SIG", "SIGSIGTERM", " HUP", "0xf", "15.0", "RTMIN+16", "RTMAX-15"] {
        let outcome = world.run(&["kill", "-s", bad, &target.name]);
        outcome.is(1, "").says(&format!("nvalid signal: {bad}"));
    }
    assert!(world.exists(&target));
    assert!(!world.log(&target).contains("got"));
}

fn every_spelling_of_a_signal(world: &World) {
    let rows: &[(&[&str], u8)] = &[
        (&["HUP", "hup", "1", "SIGHUP", "sighup", "SigHup"], 1),
        (&["15", "+15", "015", "TERM"], 15),
        (&["RTMIN", "SIGRTMIN", "34"], 34),
        (&["RTMIN+3", "rtmin+3", "37"], 37),
        (&["SIGRTMIN+15"], 49),
        (&["RTMAX-14"], 50),
        (&["RTMAX", "64"], 64),
        (&["CLD"], 17),
        (&["IOT"], 6),
        (&["POLL", "IO"], 29),
        (&["SYS"], 31),
        (&["PWR"], 30),
        (&["STKFLT"], 16),
    ];
    let target = world.start("ignore");
    let mut expected = String::from("started ignore\n");
    for (spellings, number) in rows {
        for spelling in *spellings {
            world.run(&["kill", "-s", spelling, &target.name]).is(0, &target.line());
            expected += &format!("got {number}\n");
            // Standard signals of one number merge while they are pending: wait for each.
            eventually(&format!("{spelling} arrives as {number}"), || {
                (world.log(&target) == expected).then_some(())
            });
        }
    }
}

fn number_beyond_the_platform(world: &World) {
    let target = world.start("ignore");
    world.run(&["kill", "-s", "65", &target.name]).is(1, "").says("does not support signal 65");
    assert_eq!(world.status(&target), "running");
}

fn stays_down_in_spite_of_its_restart_policy(world: &World) {
    let target = world.start_with(&["--restart", "always"], "slow 0 5");
    world.run(&["kill", "-s", "TERM", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 5);
    assert_eq!(world.field(&target, "/RestartCount"), 0);
}

fn other_signal_than_the_stop_signal_restarts(world: &World) {
    let target = world.start_with(&["--restart", "always", "--stop-signal", "CONT"], "slow 0 5");
    world.run(&["kill", "-s", "TERM", &target.name]).is(0, &target.line());
    eventually("it is started again", || (world.field(&target, "/RestartCount") == 1).then_some(()));
}

fn paused_is_killed(world: &World) {
    let target = world.start("ignore");
    assert_eq!(run(&mut world.docker(&["pause", &target.name])).code, 0);
    world.run(&["kill", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 137);
}

fn program_of_another_user_is_killed(world: &World) {
    // On the local engine it is executed from here.
    fs::set_permissions(world.directory(), fs::Permissions::from_mode(0o755)).expect("permissions");
    let target = world.start_with(&["--user", "65534:65534"], "ignore");
    let owner = fs::metadata(format!("/proc/{}", world.main_pid(&target))).map(|it| it.uid()).ok();
    assert_eq!(owner, Some(65534));
    world.run(&["kill", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 137);
}

/// A container with a restart policy that gets SIGHUP, which it survives, and later crashes.
fn reload_then_crash(world: &World) -> Target {
    let target = world.start_with(&["--restart", "always"], "ignore");
    // The control: a crash alone is what the policy is for.
    kill(world.main_pid(&target));
    eventually("the policy starts it again", || {
        (world.status(&target) == "running" && world.field(&target, "/RestartCount") == 1).then_some(())
    });
    eventually("it has started twice", || (world.log(&target).matches("started").count() == 2).then_some(()));
    world.run(&["kill", "-s", "HUP", &target.name]).is(0, &target.line());
    eventually("it has survived", || world.log(&target).contains("got 1\n").then_some(()));
    kill(world.main_pid(&target));
    target
}

/// dockerd takes every signal for the wish to end, if the container has no stop signal of its own. It is the daemon that
/// restarts, so from outside nothing can be done about it.
fn reload_then_crash_stays_down(world: &World) {
    let target = reload_then_crash(world);
    assert_eq!(world.exit_code(&target), 137);
    assert_eq!(world.field(&target, "/RestartCount"), 1);
}

fn reload_then_crash_restarts(world: &World) {
    let target = reload_then_crash(world);
    eventually("the policy starts it again", || (world.field(&target, "/RestartCount") == 2).then_some(()));
}
