//! `restart`: cases 54 to 61.

use rustix::process::Signal;

use crate::harness::{Kind, NOT_TEN, Outcome, SECOND, Target, World, behaviours, eventually, run, skip_test};

behaviours! {
    54 runs_again [docker podman local reference];
    55 exited_is_started [docker podman local reference];
    56 unknown_name_among_others [docker podman local reference];
    57 timeout_kills_first [docker podman local reference];
    58 paused_runs_afterwards [docker podman reference];
    59 auto_remove_waits_for_the_real_end [docker local reference podman("Podman 4.3 may remove a container in the middle of its restart")];
    59 auto_remove_is_not_lost_to_another_signal [docker podman];
    59 auto_remove_after_a_kill [docker local reference podman("Podman 4.3 may remove a container in the middle of its restart")];
    60 client_that_dies_changes_nothing [docker podman local reference];
    33 rm_force_wins_over_a_restart [local];
    33 stop_and_restart_at_once_end_up_running [docker reference];
    33 restart_that_a_stop_overrules_fails [local];
    61 restart_policy_works_afterwards [docker podman local reference];
}

fn started_at(world: &World, target: &Target) -> String {
    world.field(target, "/State/StartedAt").as_str().expect("a time").to_string()
}

fn starts(world: &World, target: &Target) -> usize {
    world.log(target).matches("started").count()
}

fn runs_again(world: &World) {
    let target = world.start("slow 0 0");
    let before = started_at(world, &target);
    world.run(&["restart", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.status(&target), "running");
    assert_ne!(started_at(world, &target), before);
    assert_eq!(world.field(&target, "/RestartCount"), 0);
    eventually("the log goes on", || (starts(world, &target) == 2).then_some(()));
}

fn exited_is_started(world: &World) {
    let target = world.start("slow 0 0");
    world.run(&["stop", &target.name]).is(0, &target.line());
    world.run(&["restart", &target.name]).is(0, &target.line());
    assert_eq!(world.status(&target), "running");
}

fn unknown_name_among_others(world: &World) {
    let target = world.start("slow 0 0");
    let before = started_at(world, &target);
    world.run(&["restart", "nope", &target.name]).is(1, &target.line()).says(&world.no_such("nope"));
    assert_ne!(started_at(world, &target), before);
}

fn timeout_kills_first(world: &World) {
    let target = world.start("ignore");
    world.run(&["restart", "-t", "1", &target.name]).is(0, &target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(world.status(&target), "running");
    eventually("it has started twice", || (starts(world, &target) == 2).then_some(()));
}

fn paused_runs_afterwards(world: &World) {
    let target = world.start("slow 0 0");
    assert_eq!(run(&mut world.docker(&["pause", &target.name])).code, 0);
    world.run(&["restart", &target.name]).is(0, &target.line());
    assert_eq!(world.status(&target), "running");
}

/// Docker before 23 takes the flag down only until the program has ended (moby pull request 43751), and its removal may
/// look at it later than that.
fn may_remove_in_restart(world: &World) -> bool {
    match world.kind {
        Kind::Docker | Kind::Bridge | Kind::Reference => {
            let version = run(&mut world.docker(&["version", "--format", "{{.Server.Version}}"])).stdout();
            version.split('.').next().and_then(|major| major.parse().ok()).is_none_or(|major: u32| major < 23)
        }
        Kind::Podman | Kind::Local | Kind::Process => false,
    }
}

fn auto_remove_waits_for_the_real_end(world: &World) {
    if may_remove_in_restart(world) {
        skip_test!("Docker before 23 may remove a container in the middle of its restart");
    }
    let target = world.start_with(&["--rm"], "slow 0 0");
    world.run(&["restart", &target.name]).is(0, &target.line());
    assert_eq!(world.status(&target), "running");
    eventually("it has started twice", || (starts(world, &target) == 2).then_some(()));
    world.run(&["stop", &target.name]).is(0, &target.line());
    eventually("it is removed", || (!world.exists(&target)).then_some(()));
}

fn auto_remove_after_a_kill(world: &World) {
    if may_remove_in_restart(world) {
        skip_test!("Docker before 23 may remove a container in the middle of its restart");
    }
    let target = world.start_with(&["--rm"], "slow 0 0");
    world.run(&["restart", &target.name]).is(0, &target.line());
    assert_eq!(world.status(&target), "running");
    world.run(&["kill", &target.name]).is(0, &target.line());
    eventually("it is removed", || (!world.exists(&target)).then_some(()));
}

/// Where the engine would take the end of the program for the end of the container, the restart is refused.
fn auto_remove_is_not_lost_to_another_signal(world: &World) {
    let target = world.start_with(&["--rm"], "slow 0 0");
    let outcome = world.run(&["restart", "-s", "INT", &target.name]);
    if outcome.code != 0 {
        outcome.is(1, "").says("created with --rm: restart it with its own stop signal");
        assert_eq!(world.log(&target), "started slow 0 0\n");
    }
    assert_eq!(world.status(&target), "running");
}

fn client_that_dies_changes_nothing(world: &World) {
    let target = world.start("slow 2 0");
    let client = world.spawn(&["restart", &target.name]);
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    client.signal(Signal::KILL);
    client.ended().is(137, "");
    eventually("it is started again", || (starts(world, &target) == 2).then_some(()));
    assert_eq!(world.status(&target), "running");
}

fn restart_policy_works_afterwards(world: &World) {
    let target = world.start_with(&["--restart", "on-failure:1"], "crash 1 3");
    world.run(&["restart", "-t", "0", &target.name]).is(0, &target.line());
    eventually("the policy starts it again", || (world.field(&target, "/RestartCount") == 1).then_some(()));
    assert_eq!(world.exit_code(&target), 3);
}

/// A restart of a container that is being stopped, or a stop of one that is being restarted; and the outcomes of both.
fn at_once(world: &World, verbs: [&str; 2]) -> (Target, [Outcome; 2]) {
    let target = world.start("slow 2 0");
    let first = world.spawn(&[verbs[0], &target.name]);
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    let second = world.run(&[verbs[1], &target.name]);
    (target, [first.ended(), second])
}

/// The restart goes on whatever else is asked of docker.
/// Whoever removes it by force wants it to be gone, whatever others want.
fn rm_force_wins_over_a_restart(world: &World) {
    for _ in 0..5 {
        let target = world.start("slow 0 0");
        let restarts = [(); 3].map(|()| world.spawn(&["restart", &target.name]));
        world.run(&["rm", "-f", &target.name]).is(0, &target.line());
        for restart in restarts {
            let outcome = restart.ended();
            assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
        }
        world.run(&["ps", "-aq"]).is(0, "");
        let left = std::fs::read_dir(world.state_directory().join("containers")).expect("the state").count();
        assert_eq!((left, world.processes()), (0, vec![]));
    }
}

fn stop_and_restart_at_once_end_up_running(world: &World) {
    for verbs in [["stop", "restart"], ["restart", "stop"]] {
        let (target, outcomes) = at_once(world, verbs);
        for outcome in &outcomes {
            outcome.is(0, &target.line());
        }
        eventually(&format!("{verbs:?}: it runs"), || (world.status(&target) == "running").then_some(()));
        eventually(&format!("{verbs:?}: it says so"), || (starts(world, &target) == 2).then_some(()));
    }
}

/// Whoever wants it to be stopped has the last word, and whoever wanted it to run is told so.
fn restart_that_a_stop_overrules_fails(world: &World) {
    for verbs in [["stop", "restart"], ["restart", "stop"]] {
        let (target, outcomes) = at_once(world, verbs);
        for (verb, outcome) in verbs.iter().zip(&outcomes) {
            match *verb {
                "stop" => outcome.is(0, &target.line()),
                _ => outcome.is(1, "").says("stopped, but not started again: a stop was asked for meanwhile"),
            };
            outcome.says("graceful: stopped in ");
        }
        assert_eq!(world.exit_code(&target), 0);
        assert_eq!(starts(world, &target), 1);
    }
}
