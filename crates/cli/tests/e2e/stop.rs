//! `stop`: cases 15 to 37.

use rustix::process::Signal;

use crate::harness::{
    Kind, LONG, NOT_TEN, SECOND, World, behaviours, created, eventually, new_name, run, skip, small_init,
};

behaviours! {
    15 finishes_what_it_is_doing [docker podman local process reference];
    18 timeout_zero_kills_at_once [docker podman local process reference];
    19 timeout_too_small_kills [docker podman local process reference];
    20 negative_timeout_never_kills [docker podman local reference];
    21 stop_timeout_of_the_container [docker podman local reference];
    21 stop_timeout_zero_kills_at_once [docker local reference podman("in Podman's API a stop timeout of 0 is that of a container without one")];
    21 negative_stop_timeout_never_kills [docker podman local reference];
    21 timeout_option_overrides [docker podman local reference];
    22 stop_signal_of_the_container [docker podman local reference];
    22 stop_signal_of_the_image [docker podman reference];
    22 signal_option_overrides [docker podman local process];
    23 already_exited_is_no_error [docker podman local reference];
    24 created_stays_created [docker podman reference];
    25 unknown_name [docker podman local reference];
    26 unknown_name_among_others [docker podman local reference];
    27 parallel_and_in_the_order_of_the_arguments [docker podman local reference];
    28 echoes_identifiers_as_typed [docker podman local reference];
    28 ambiguous_identifier [docker podman local reference];
    29 paused_is_unpaused [docker podman reference];
    30 crash_loop_ends [docker local reference podman("Podman restarts at once: there is no time between two runs")];
    31 restart_policy_does_not_bring_it_back [docker podman local reference];
    32 client_ended_by_sigterm_leaves_the_stop_to_the_engine [docker podman local];
    32 client_ended_by_sigint [docker podman local];
    34 pid_1_without_a_handler [docker podman local reference];
    34 init_in_front_passes_the_signal_on [docker podman local reference];
    34 init_that_is_not_there_is_missed_at_once [local];
    35 child_behind_a_shell_is_not_signalled [docker podman local reference];
    36 auto_remove_is_complete [docker podman local];
    37 same_name_twice [docker podman local reference];
    33 others_who_stop_it_as_well_hurry_nothing [docker local];
    0 a_gateway_of_the_label_is_told_first [docker podman];
    33 second_stop_overrides_the_first [docker podman local reference];
    38 container_stop_is_stop [docker podman local reference];
}

fn finishes_what_it_is_doing(world: &World) {
    let target = world.start("slow 1 42");
    world.run(&["stop", &target.name]).is(0, &target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(world.exit_code(&target), 42);
    assert!(world.log(&target).contains("got 15"));
}

/// What a gateway does when it is there is in the suite `discovery`; here it is not, which shows that it was asked, and that nothing has
/// happened then.
fn a_gateway_of_the_label_is_told_first(world: &World) {
    let label = "gracefully.gateway=haproxy:///no/such/socket?server=web/s1";
    let target = world.start_with(&["--label", label], "slow 0 0");
    for verb in ["stop", "restart"] {
        let outcome = world.run(&[verb, &target.name]);
        assert_eq!(outcome.code, 1, "{outcome:#?}");
        outcome.says("haproxy:///no/such/socket: No such file or directory");
    }
    assert_eq!(world.status(&target), "running");
    assert!(!world.log(&target).contains("got 15"));
    let label = "gracefully.deregister=consul://localhost";
    let target = world.start_with(&["--label", label], "slow 0 0");
    world.run(&["stop", &target.name]).says("service=NAME and id=ID say which instance it is");
    assert_eq!(world.status(&target), "running");
}

/// A load balancer, an operator and a deployment want the same: the program has the time that each of them gives.
fn others_who_stop_it_as_well_hurry_nothing(world: &World) {
    let target = world.start("slow 1 42");
    let clients = [(); 3].map(|()| world.spawn(&["stop", "-t", "8", &target.name]));
    for outcome in clients.map(crate::harness::Running::ended) {
        outcome.is(0, &target.line()).says("graceful: stopped");
    }
    assert_eq!(world.exit_code(&target), 42);
}

fn timeout_zero_kills_at_once(world: &World) {
    let target = world.start("ignore");
    world.run(&["stop", "-t", "0", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 137);
}

fn timeout_too_small_kills(world: &World) {
    let target = world.start("slow 60 0");
    world.run(&["stop", "-t", "1", &target.name]).is(0, &target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(world.exit_code(&target), 137);
    assert!(world.log(&target).contains("got 15"));
}

fn negative_timeout_never_kills(world: &World) {
    let target = world.start_with(&["--stop-timeout", "1"], "slow 3 42");
    world.run(&["stop", "-t", "-1", &target.name]).is(0, &target.line()).took_between(3 * SECOND, NOT_TEN);
    assert_eq!(world.exit_code(&target), 42);
}

fn stop_timeout_of_the_container(world: &World) {
    let target = world.start_with(&["--stop-timeout", "1"], "ignore");
    world.run(&["stop", &target.name]).is(0, &target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(world.exit_code(&target), 137);
}

fn stop_timeout_zero_kills_at_once(world: &World) {
    let target = world.start_with(&["--stop-timeout", "0"], "ignore");
    world.run(&["stop", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 137);
}

/// Longer than the ten seconds that would end it otherwise.
fn negative_stop_timeout_never_kills(world: &World) {
    let target = world.start_with(&["--stop-timeout", "-1"], "slow 11 42");
    world.run(&["stop", &target.name]).is(0, &target.line()).took_between(11 * SECOND, LONG);
    assert_eq!(world.exit_code(&target), 42);
}

fn timeout_option_overrides(world: &World) {
    let target = world.start_with(&["--stop-timeout", "-1"], "ignore");
    world.run(&["stop", "-t", "1", &target.name]).is(0, &target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(world.exit_code(&target), 137);
    let target = world.start_with(&["--stop-timeout", "0"], "slow 1 42");
    world.run(&["stop", "-t", "30", &target.name]).is(0, &target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(world.exit_code(&target), 42);
}

fn stop_signal_of_the_container(world: &World) {
    let target = world.start_with(&["--stop-signal", "USR1"], "slow 0 0");
    world.run(&["stop", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 0);
    assert!(world.log(&target).contains("got 10"));
}

fn stop_signal_of_the_image(world: &World) {
    let target = world.start_image(&[], "gracefully-test/quit", &["slow", "0", "0"]);
    world.run(&["stop", &target.name]).is(0, &target.line());
    assert!(world.log(&target).contains("got 3"));
}

/// The reference drops the option silently on an engine older than 23 (API 1.42); we never do.
fn signal_option_overrides(world: &World) {
    let options: &[&str] = if world.kind == Kind::Process { &[] } else { &["--stop-signal", "USR1"] };
    let target = world.start_with(options, "slow 0 7");
    world.run(&["stop", "-s", "INT", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 7);
    let log = world.log(&target);
    assert!(log.contains("got 2") && !log.contains("got 15") && !log.contains("got 10"), "{log}");
}

fn already_exited_is_no_error(world: &World) {
    let target = world.start_unready(&[], "exit 4");
    assert_eq!(world.exit_code(&target), 4);
    world.run(&["stop", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 4);
}

fn created_stays_created(world: &World) {
    let target = created(world);
    world.run(&["stop", &target.name]).is(0, &target.line());
    assert_eq!(world.status(&target), "created");
}

fn unknown_name(world: &World) {
    let outcome = world.run(&["stop", "nope"]);
    outcome.is(1, "").says(&world.no_such("nope"));
    if world.kind != Kind::Local {
        outcome.says(&format!("Error response from daemon: {}", world.no_such("nope")));
    }
}

fn unknown_name_among_others(world: &World) {
    let (a, b) = (world.start("slow 0 0"), world.start("slow 0 0"));
    let outcome = world.run(&["stop", &a.name, "nope", &b.name]);
    outcome.is(1, &(a.line() + &b.line())).says(&world.no_such("nope"));
    assert_eq!((world.exit_code(&a), world.exit_code(&b)), (0, 0));
}

fn parallel_and_in_the_order_of_the_arguments(world: &World) {
    let targets = [world.start("slow 4 0"), world.start("slow 3 0"), world.start("slow 3 0")];
    let [a, b, c] = targets.each_ref().map(|target| target.name.as_str());
    world
        .run(&["stop", "-t", "60", a, b, c])
        .is(0, &format!("{a}\n{b}\n{c}\n"))
        .took_between(4 * SECOND, NOT_TEN);
}

fn echoes_identifiers_as_typed(world: &World) {
    let targets = [world.start("slow 0 0"), world.start("slow 0 0"), world.start("slow 0 0")];
    let id = |n: usize| world.field(&targets[n], "/Id").as_str().expect("an identifier").to_string();
    let (full, short, slash) = (id(0), id(1)[..12].to_string(), format!("/{}", targets[2].name));
    world.run(&["stop", &full, &short, &slash]).is(0, &format!("{full}\n{short}\n{slash}\n"));
    for target in &targets {
        assert_eq!(world.exit_code(target), 0);
    }
}

/// Of 17 identifiers two begin with the same hexadecimal digit.
fn ambiguous_identifier(world: &World) {
    let targets: Vec<_> = (0..17).map(|_| world.start_unready(&[], "exit 0")).collect();
    let digit =
        |target| world.field(target, "/Id").as_str().and_then(|id| id.chars().next()).expect("a digit");
    let mut digits: Vec<char> = targets.iter().map(digit).collect();
    digits.sort_unstable();
    let twice =
        digits.windows(2).find(|pair| pair[0] == pair[1]).expect("17 pigeons in 16 holes")[0].to_string();
    world.run(&["stop", &twice]).is(1, "").says(&world.ambiguous(&twice));
}

fn paused_is_unpaused(world: &World) {
    let target = world.start("slow 0 3");
    assert_eq!(run(&mut world.docker(&["pause", &target.name])).code, 0);
    world.run(&["stop", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 3);
}

fn crash_loop_ends(world: &World) {
    let target = world.start_unready(&["--restart", "always"], "exit 9");
    eventually("it waits to be restarted", || (world.status(&target) == "restarting").then_some(()));
    world.run(&["stop", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 9);
}

fn restart_policy_does_not_bring_it_back(world: &World) {
    let target = world.start_with(&["--restart", "always"], "slow 0 5");
    world.run(&["stop", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 5);
    assert_eq!(world.field(&target, "/RestartCount"), 0);
}

fn client_ended_by_sigterm_leaves_the_stop_to_the_engine(world: &World) {
    let target = world.start("ignore");
    let client = world.spawn(&["stop", "-t", "3", &target.name]);
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    client.signal(Signal::TERM);
    client.ended().is(143, "");
    let status = if world.kind == Kind::Podman { "stopping" } else { "running" };
    assert_eq!(world.status(&target), status);
    assert_eq!(world.exit_code(&target), 137);
}

fn client_ended_by_sigint(world: &World) {
    let target = world.start("ignore");
    let client = world.spawn(&["stop", "-t", "3", &target.name]);
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    client.signal(Signal::INT);
    client.ended().is(130, "");
    assert_eq!(world.exit_code(&target), 137);
}

fn pid_1_without_a_handler(world: &World) {
    let target = world.start("default");
    world.run(&["stop", "-t", "2", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 137);
}

/// docker-init is tini, the local engine's is ours: the program is no PID 1 any more, so that SIGTERM ends it without a handler.
fn init_in_front_passes_the_signal_on(world: &World) {
    if world.kind == Kind::Local && small_init().is_none() {
        return skip(&format!("{}::init", module_path!()), "cargo xtask test builds gracefully-init");
    }
    let target = world.start_with(&["--init"], "default");
    world.run(&["stop", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 143);
    let target = world.start_with(&["--init"], "slow 0 5");
    world.run(&["stop", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 5);
}

fn init_that_is_not_there_is_missed_at_once(world: &World) {
    let rootfs = tempfile::tempdir().expect("a directory");
    let options = ["--init", "--rootfs", rootfs.path().to_str().expect("UTF-8")];
    let outcome = run(&mut world.run_detached(&new_name(), &options, "default"));
    outcome.is(125, "").says("there is no /gracefully-init in");
    world.run(&["ps", "-aq"]).is(0, "");
}

fn child_behind_a_shell_is_not_signalled(world: &World) {
    let target = world.start("shell");
    world.run(&["stop", "-t", "1", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 137);
    assert!(!world.log(&target).contains("got 15"));
}

/// The reference prints the name before the removal is complete.
fn auto_remove_is_complete(world: &World) {
    let target = world.start_with(&["--rm"], "slow 0 0");
    world.run(&["stop", &target.name]).is(0, &target.line());
    assert!(!world.exists(&target));
}

fn same_name_twice(world: &World) {
    let target = world.start("slow 1 0");
    world.run(&["stop", &target.name, &target.name]).is(0, &target.line().repeat(2));
    assert_eq!(world.exit_code(&target), 0);
}

fn second_stop_overrides_the_first(world: &World) {
    let target = world.start("ignore");
    let first = world.spawn(&["stop", "-t", "60", &target.name]);
    eventually("the first signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    world.run(&["stop", "-t", "0", &target.name]).is(0, &target.line());
    first.ended().is(0, &target.line()).took_less_than(30 * SECOND);
    assert_eq!(world.exit_code(&target), 137);
}

fn container_stop_is_stop(world: &World) {
    let target = world.start("slow 0 5");
    world.run(&["container", "stop", &target.name]).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 5);
    world.run(&["container", "rm", &target.name]).is(0, &target.line());
    assert!(!world.exists(&target));
}
