//! `wait`, `run`, `rm`, `ps`, `logs`, `inspect`: cases 63 to 75.

use std::process::Command;

use rustix::process::Signal;

use crate::harness::{
    Kind, Outcome, Target, World, behaviours, created, eventually, new_name, run, skip_test,
};

behaviours! {
    63 wait_prints_exit_codes_in_order [docker podman local reference];
    64 wait_for_what_has_ended [docker podman local reference];
    64 wait_for_created [docker podman reference];
    64 wait_for_nobody [docker podman local reference];
    65 run_passes_streams_and_exit_code [local];
    65 run_passes_the_signal_that_ended_it [local];
    65 run_passes_variables_that_are_not_text [local];
    65 run_passes_every_line [local];
    65 run_says_what_could_not_be_written [local];
    65 run_says_what_cannot_be_started [local];
    66 run_forwards_signals [local];
    67 third_sigterm_ends_the_client_alone [local reference];
    68 name_in_use [local reference];
    69 remove_and_restart_conflict [local reference];
    70 bad_stop_settings [local reference];
    71 rm_refuses_what_runs [docker podman local reference];
    71 rm_force_kills [docker podman local reference];
    71 rm_force_of_nobody [docker podman local reference];
    71 rm_volumes_takes_anonymous_ones_along [docker reference];
    71 rm_volumes_needs_none [local];
    71 name_is_free_after_rm [local reference];
    73 ps_shows_how_it_ended [docker podman local reference];
    73 ps_quiet_prints_identifiers [docker podman local reference];
    73 ps_filters [docker podman local reference];
    73 ps_filters_by_label [docker podman local reference];
    73 ps_filters_by_what_only_docker_knows [docker reference];
    73 ps_refuses_bad_filters [docker local reference podman("Podman has its own words for a bad filter")];
    74 logs_follow_to_the_end [docker podman local reference];
    74 logs_of_what_has_ended [docker podman local reference];
    74 logs_of_nobody [docker podman local reference];
    74 logs_tail [docker podman local reference];
    75 inspect_has_docker_s_keys [docker podman local reference];
    75 inspect_of_what_ran_out_of_memory [docker reference podman("Podman 4.3 does not tell of it with cgroups v1")];
    75 inspect_of_nobody [docker podman local reference];
    75 inspect_format_prints_fields [docker podman local reference];
    75 inspect_format_prints_what_docker_prints [docker podman];
    75 inspect_format_that_is_none [docker podman local reference];
    73 ps_format_prints_fields [docker podman local reference];
}

fn wait_prints_exit_codes_in_order(world: &World) {
    let (a, b) = (world.start("slow 0 42"), world.start("slow 0 7"));
    let waiting = world.spawn(&["wait", &a.name, &b.name]);
    assert_eq!(world.run(&["stop", &b.name, &a.name]).code, 0);
    waiting.ended().is(0, "42\n7\n");
}

fn wait_for_what_has_ended(world: &World) {
    let target = world.start_unready(&[], "exit 99");
    assert_eq!(world.exit_code(&target), 99);
    world.run(&["wait", &target.name]).is(0, "99\n");
}

fn wait_for_created(world: &World) {
    world.run(&["wait", &created(world).name]).is(0, "0\n");
}

fn wait_for_nobody(world: &World) {
    world.run(&["wait", "nope"]).is(1, "").says(&world.no_such("nope"));
}

fn foreground(world: &World, options: &[&str], command: &[&str]) -> Outcome {
    let words = [&["run", "--rm"], options, &["--"], command].concat();
    world.run(&words)
}

fn run_passes_streams_and_exit_code(world: &World) {
    let outcome = foreground(world, &[], &[&world.victim(), "streams"]);
    outcome.is(3, "to stdout\n").says("to stderr\n");
}

/// More than the log keeps, faster than anybody reads it: the program waits for its reader.
fn run_passes_every_line(world: &World) {
    let outcome = foreground(world, &[], &["seq", "1000000"]);
    assert_eq!((outcome.code, &*outcome.stderr), (0, ""));
    let stdout = outcome.stdout();
    let lines = stdout.lines().zip(1..).take_while(|(line, number)| *line == number.to_string()).count();
    assert_eq!((lines, stdout.lines().count()), (1_000_000, 1_000_000), "every line, in its order");
}

fn run_says_what_could_not_be_written(world: &World) {
    world.small_disk("1m");
    let outcome = foreground(world, &[], &["seq", "1000000"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("GRACEFULLY_STATE_DIR chooses another place.\n"), "{}", outcome.stderr);
}

fn run_passes_variables_that_are_not_text(world: &World) {
    use std::os::unix::ffi::OsStrExt as _;
    let bad = std::ffi::OsStr::from_bytes(b"a\xffb");
    let show = ["run", "--rm", "-e", "NAMED", "--", "printenv", "INHERITED", "NAMED"];
    let mut command = world.command(&show);
    run(command.env("INHERITED", bad).env("NAMED", bad)).is(0, "a\u{fffd}b\na\u{fffd}b\n");
}

fn run_passes_the_signal_that_ended_it(world: &World) {
    foreground(world, &[], &[&world.victim(), "abort"]).is(139, "");
}

fn run_says_what_cannot_be_started(world: &World) {
    foreground(world, &[], &["/nonexistent/program"]).is(127, "").says("/nonexistent/program");
    let text = world.directory().join("text");
    std::fs::write(&text, "not a program").expect("a file");
    foreground(world, &[], &[&text.display().to_string()]).is(126, "");
    foreground(world, &["--bogus"], &["true"]).is(125, "").says("--bogus");
    let left = world.run(&["ps", "-aq"]);
    left.is(0, "");
}

fn run_forwards_signals(world: &World) {
    let name = new_name();
    world.own(&name);
    let client = world.spawn(&["run", "--name", &name, "--", &world.victim(), "slow", "0", "6"]);
    let target = Target { name };
    eventually("it has started", || {
        (world.exists(&target) && world.log(&target).contains("started")).then_some(())
    });
    client.signal(Signal::TERM);
    let outcome = client.ended();
    assert_eq!(outcome.code, 6, "{outcome:#?}");
    assert!(outcome.stdout().contains("got 15"), "{outcome:#?}");
}

/// The program is deaf to what is passed on to it; three of them are enough for the client.
fn third_sigterm_ends_the_client_alone(world: &World) {
    if world.kind == Kind::Reference && docker_cli_is_older_than(28) {
        skip_test!("this docker CLI is older than 28, which was the first to give up");
    }
    let target = Target { name: new_name() };
    world.own(&target.name);
    let client = match world.kind {
        Kind::Reference => {
            let run = ["run", "--net=none", "--name", &target.name, "gracefully-test/victim", "ignore"];
            world.spawn(&run)
        }
        _ => world.spawn(&["run", "--name", &target.name, "--", &world.victim(), "ignore"]),
    };
    eventually("it has started", || {
        (world.exists(&target) && world.log(&target).contains("started")).then_some(())
    });
    for arrived in 1..=2 {
        client.signal(Signal::TERM);
        eventually("it is passed on", || {
            (world.log(&target).matches("got 15").count() == arrived).then_some(())
        });
    }
    client.signal(Signal::TERM);
    client
        .ended()
        .is(1, "started ignore\ngot 15\ngot 15\n")
        .says("\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n");
    assert_eq!(world.status(&target), "running");
}

fn docker_cli_is_older_than(major: u32) -> bool {
    let version = run(Command::new("docker").arg("--version")).stdout();
    let number = version.trim_start_matches("Docker version ").split('.').next().and_then(|n| n.parse().ok());
    number.is_none_or(|number: u32| number < major)
}

fn name_in_use(world: &World) {
    let target = world.start("slow 0 0");
    let id = world.field(&target, "/Id").as_str().expect("an identifier").to_string();
    let outcome = run(&mut world.run_detached(&target.name, &[], "exit 0"));
    outcome.is(125, "").says(&format!(
        "Conflict. The container name \"/{}\" is already in use by container \"{id}\". \
         You have to remove (or rename) that container to be able to reuse that name.",
        target.name
    ));
}

fn remove_and_restart_conflict(world: &World) {
    let options = ["--rm", "--restart", "always"];
    let outcome = run(&mut world.run_detached(&new_name(), &options, "exit 0"));
    outcome.is(125, "").says("--restart and --rm");
}

fn bad_stop_settings(world: &World) {
    let outcome = run(&mut world.run_detached(&new_name(), &["--stop-signal", "BOGUS"], "exit 0"));
    outcome.is(125, "").says("nvalid signal: BOGUS");
    let outcome = run(&mut world.run_detached(&new_name(), &["--stop-timeout", "x"], "exit 0"));
    outcome.is(125, "").says("invalid argument \"x\"");
}

fn rm_refuses_what_runs(world: &World) {
    let target = world.start("slow 0 0");
    let outcome = world.run(&["rm", &target.name]);
    outcome.is(1, "").says("emove");
    assert_eq!(world.status(&target), "running");
}

fn rm_force_kills(world: &World) {
    let target = world.start("ignore");
    world.run(&["rm", "-f", &target.name]).is(0, &target.line());
    assert!(!world.exists(&target));
    assert_eq!(world.processes(), [], "something of it is still alive");
}

/// Docker says so on standard error up to 28, and nothing from 29 on; the exit code is 0 (1 before 23).
fn rm_force_of_nobody(world: &World) {
    let outcome = world.run(&["rm", "-f", "nope"]);
    if world.kind == Kind::Reference {
        assert_eq!(outcome.stdout(), "");
    } else {
        outcome.is(0, "");
    }
}

fn rm_volumes_takes_anonymous_ones_along(world: &World) {
    for (args, stays) in [(&["rm", "-f"][..], true), (&["rm", "-f", "-v"], false), (&["rm", "-fv"], false)] {
        let target = world.start_with(&["--volume", "/data"], "slow 0 0");
        let volume = world.field(&target, "/Mounts/0/Name").as_str().expect("a name").to_string();
        world.run(&[args, &[&target.name]].concat()).is(0, &target.line());
        // To remove it is to find out whether it was there.
        let removed = run(&mut world.docker(&["volume", "rm", &volume]));
        assert_eq!(removed.code == 0, stays, "{args:?}: {removed:#?}");
    }
}

fn rm_volumes_needs_none(world: &World) {
    let target = world.start_unready(&[], "exit 0");
    assert_eq!(world.exit_code(&target), 0);
    world.run(&["rm", "--volumes", &target.name]).is(0, &target.line());
    assert!(!world.exists(&target));
}

fn name_is_free_after_rm(world: &World) {
    let target = world.start("slow 0 0");
    world.run(&["rm", "-f", &target.name]).is(0, &target.line());
    let again = run(&mut world.run_detached(&target.name, &[], "slow 0 0"));
    assert_eq!(again.code, 0, "{again:#?}");
}

fn ps_shows_how_it_ended(world: &World) {
    let (up, down) = (world.start("slow 0 0"), world.start_unready(&[], "exit 137"));
    assert_eq!(world.exit_code(&down), 137);
    let all = world.run(&["ps", "-a"]);
    assert_eq!(all.code, 0, "{all:#?}");
    let line = |name: &str| {
        let line = all
            .stdout()
            .lines()
            .find(|line| line.split_whitespace().any(|word| word == name))
            .map(str::to_string);
        line.unwrap_or_else(|| panic!("no {name} in {all:#?}"))
    };
    assert!(line(&up.name).contains("Up "), "{all:#?}");
    assert!(line(&down.name).contains("Exited (137) "), "{all:#?}");
    assert!(all.stdout().starts_with("CONTAINER ID "), "{all:#?}");

    let running = world.run(&["ps"]).stdout();
    assert!(running.contains(&up.name) && !running.contains(&down.name), "{running}");
}

fn ps_quiet_prints_identifiers(world: &World) {
    let target = world.start("slow 0 0");
    let id = world.field(&target, "/Id").as_str().expect("an identifier")[..12].to_string();
    let outcome = world.run(&["ps", "-q"]);
    assert!(outcome.stdout().lines().any(|line| line == id), "{id}: {outcome:#?}");
}

/// The names of this test's own containers that `ps` lists.
#[track_caller]
fn listed<'a>(world: &World, targets: &[&'a Target], options: &str) -> Vec<&'a str> {
    let args: Vec<&str> = ["ps", "--format", "{{.Names}}"].into_iter().chain(options.split(' ')).collect();
    let outcome = world.run(&args);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    let names = outcome.stdout();
    let is_listed = |target: &&&Target| names.lines().any(|name| name == target.name);
    targets.iter().filter(is_listed).map(|target| target.name.as_str()).collect()
}

fn ps_filters(world: &World) {
    let (up, zero) = (world.start("slow 0 0"), world.start_unready(&[], "exit 0"));
    let killed = world.start_unready(&[], "exit 137");
    assert_eq!((world.exit_code(&zero), world.exit_code(&killed)), (0, 137));
    let (all, id) = ([&up, &zero, &killed], world.field(&zero, "/Id"));
    let id = id.as_str().expect("an identifier");
    let [up, zero, killed] = all.map(|target| target.name.as_str());
    // Docker's names have a slash in front, which may be left out; Podman's have none.
    let slash = if world.kind == Kind::Podman { "" } else { "/" };
    for (options, expected) in [
        ("-a --filter exited=137", &[killed][..]),
        ("-a -f exited=137 -f exited=0", &[zero, killed]),
        ("-a -f exited=9", &[]),
        ("-f exited=137", &[]),
        ("-f status=exited", &[zero, killed]),
        ("-f status=running -f status=paused", &[up]),
        ("-f status=exited -f exited=0", &[zero]),
        (&format!("-a -f id={id}"), &[zero]),
        (&format!("-a --filter=id={}", &id[..12]), &[zero]),
        (&format!("-f id={id}"), &[]),
        (&format!("-a -f name=^{killed}$ -f name=^{slash}{up}$"), &[up, killed]),
        (&format!("-a -f name={killed} -f status=running"), &[]),
        ("-a -f name=", &[up, zero, killed]),
        ("-a -f name=[", &[]),
    ] {
        assert_eq!(listed(world, &all, options), expected, "{options}");
    }
}

/// Nothing on the local engine has labels.
fn ps_filters_by_label(world: &World) {
    let options: &[&str] = if world.kind == Kind::Local { &[] } else { &["--label", "app=web"] };
    let (labelled, other) = (world.start_with(options, "slow 0 0"), world.start("slow 0 0"));
    let expected: &[&str] = if world.kind == Kind::Local { &[] } else { &[&labelled.name] };
    for label in ["label=app", "label=app=web"] {
        assert_eq!(listed(world, &[&labelled, &other], &format!("-f {label}")), expected, "{label}");
    }
    assert_eq!(listed(world, &[&labelled, &other], "-f label=app=db"), [""; 0]);
}

fn ps_filters_by_what_only_docker_knows(world: &World) {
    let target = world.start("slow 0 0");
    assert_eq!(listed(world, &[&target], "-f ancestor=gracefully-test/victim"), [&target.name]);
    assert_eq!(listed(world, &[&target], "-f ancestor=gracefully-test/seed"), [""; 0]);
}

fn ps_refuses_bad_filters(world: &World) {
    for (filter, code, why) in [
        ("bogus=1", 1, "nvalid filter 'bogus'"),
        ("=1", 1, "nvalid filter ''"),
        ("status=bogus", 1, "nvalid filter 'status=bogus'"),
        ("exited=x", 1, "strconv.Atoi: parsing \"x\": invalid syntax"),
        (
            "bogus",
            125,
            "invalid argument \"bogus\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
        ),
    ] {
        world.run(&["ps", "-a", "--filter", filter]).is(code, "").says(why);
    }
    world.run(&["ps", "-f"]).is(125, "").says("flag needs an argument: 'f' in -f");
    assert_eq!(world.run(&["ps", "-f", ""]).code, 0);
}

fn logs_follow_to_the_end(world: &World) {
    let target = world.start("ticker");
    let following = world.spawn(&["logs", "-f", &target.name]);
    eventually("it has ticked a little", || world.log(&target).contains("tick 20").then_some(()));
    world.run(&["stop", &target.name]).is(0, &target.line());
    let followed = following.ended();
    assert_eq!(followed.code, 0, "{followed:#?}");
    assert!(followed.stdout().ends_with("\nlast\n"), "{followed:#?}");
    assert_eq!(followed.stdout(), world.log(&target), "what was followed is what was written");
}

fn logs_of_what_has_ended(world: &World) {
    let target = world.start_unready(&[], "streams");
    assert_eq!(world.exit_code(&target), 3);
    for args in [&["logs", &target.name][..], &["logs", "-f", &target.name]] {
        world.run(args).is(0, "to stdout\n").says("to stderr\n");
    }
}

fn logs_of_nobody(world: &World) {
    world.run(&["logs", "nope"]).is(1, "").says(&world.no_such("nope"));
}

fn logs_tail(world: &World) {
    let target = world.start("slow 0 0");
    world.run(&["stop", &target.name]).is(0, &target.line());
    world.run(&["logs", "--tail", "1", &target.name]).is(0, "got 15\n");
    world.run(&["logs", "-n", "0", &target.name]).is(0, "");
}

fn inspect_has_docker_s_keys(world: &World) {
    let target = world.start("slow 0 5");
    let name = world.field(&target, "/Name");
    assert_eq!(name, format!("/{}", target.name));
    world.run(&["stop", &target.name]).is(0, &target.line());
    let state = world.field(&target, "/State");
    let keys = [
        "Status",
        "Running",
        "Paused",
        "Restarting",
        "OOMKilled",
        "Dead",
        "Pid",
        "ExitCode",
        "Error",
        "StartedAt",
        "FinishedAt",
    ];
    for key in keys {
        assert!(state.get(key).is_some(), "no {key} in {state:#}");
    }
    let seen = ["Status", "Running", "OOMKilled", "Pid", "ExitCode"].map(|key| state[key].to_string());
    assert_eq!(seen, ["\"exited\"", "false", "false", "0", "5"]);
}

fn inspect_of_what_ran_out_of_memory(world: &World) {
    let limits = run(&mut world.docker(&["info", "--format", "{{.MemoryLimit}} {{.SwapLimit}}"])).stdout();
    if limits != "true true\n" {
        skip_test!("this kernel does not limit a container's memory");
    }
    let eat = |mebibytes: u32| {
        let limit = ["--memory", "32m", "--memory-swap", "32m"];
        let target = world.start_with(&limit, &format!("eat {mebibytes}"));
        // Not before containerd listens for what happens in its cgroup, as it does when `run` returns.
        world.run(&["kill", "-s", "USR1", &target.name]).is(0, &target.line());
        target
    };
    let target = eat(256);
    assert_eq!(world.exit_code(&target), 137);
    // dockerd hears of it by another way than of the exit.
    eventually("it is said why", || (world.field(&target, "/State/OOMKilled") == true).then_some(()));
    world.run(&["inspect", "-f", "{{.State.OOMKilled}}", &target.name]).is(0, "true\n");
    world.run(&["stop", &target.name]).is(0, &target.line());
    let control = eat(1);
    assert_eq!((world.exit_code(&control), world.field(&control, "/State/OOMKilled")), (0, false.into()));
}

fn inspect_of_nobody(world: &World) {
    world.run(&["inspect", "nope"]).is(1, "[]\n").says("No such");
}

fn inspect_format_prints_fields(world: &World) {
    let (up, down) = (world.start("slow 0 0"), world.start_unready(&[], "exit 5"));
    assert_eq!(world.exit_code(&down), 5);
    let format = "{{.Name}} {{.State.Status}}: {{.State.ExitCode}}, {{json .State.OOMKilled}}";
    let expected = format!("/{} running: 0, false\n/{} exited: 5, false\n", up.name, down.name);
    world.run(&["inspect", "-f", format, &up.name, &down.name]).is(0, &expected);
    let pid = format!("{}\n", world.main_pid(&up));
    world.run(&["inspect", "--format={{.State.Pid}}", &up.name]).is(0, &pid);
}

fn inspect_format_prints_what_docker_prints(world: &World) {
    let target = world.start_with(&["--label", "app=web", "--stop-timeout", "3"], "slow 0 0");
    for format in [
        "{{.Id}} {{.Created}} {{.Path}} {{.Args}}",
        "{{json .State}}",
        "{{ .State.StartedAt }}",
        "{{json .Config.Cmd}}{{.Config.Env}}",
        "{{.Config.Labels.app}} {{json .Config.Labels}} {{.Config.StopTimeout}}",
        "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.PidsLimit}} {{.HostConfig.ShmSize}} {{.Mounts}}",
        r"a\tb }} {{.Driver}}}",
        "{{.Foo}}",
        "{{.State.Foo}}",
        "{{.State.Status.Foo}}",
        "{{json .Foo}}",
        "{{",
        "{{}}",
    ] {
        let args = ["inspect", "--format", format, &target.name];
        let (docker, ours) = (run(&mut world.docker(&args)), world.run(&args));
        ours.is(docker.code, &docker.stdout());
        assert_eq!(ours.stderr, docker.stderr, "{format}");
    }
}

fn inspect_format_that_is_none(world: &World) {
    let target = world.start_unready(&[], "exit 0");
    // Nobody is asked: the name may be anything.
    let refused = world.run(&["inspect", "-f", "{{.State", "nope"]);
    refused.is(64, "").says("template parsing error: template: :1: unclosed action\n");
    let missing = "template parsing error: template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"\n";
    world.run(&["inspect", "-f", "{{.State.Foo}}", &target.name]).is(1, "\n").says(missing);
    world.run(&["inspect", "-f", "{{.Name}}", "nope"]).is(1, "\n").says("No such object: nope");
    let one = world.run(&["inspect", "-f", "{{.Name}}", "nope", &target.name]);
    one.is(1, &format!("/{}\n", target.name)).says("No such object: nope");
    if world.kind != Kind::Reference {
        let range = world.run(&["inspect", "-f", "{{range .Mounts}}x{{end}}", &target.name]);
        range.is(64, "").says("{{range .Mounts}} is not supported");
    }
}

fn ps_format_prints_fields(world: &World) {
    let (up, down) = (world.start("slow 0 0"), world.start_unready(&[], "exit 5"));
    assert_eq!(world.exit_code(&down), 5);
    let all = world.run(&["ps", "-a", "--format", "{{.Names}}\\t{{.State}}"]);
    assert_eq!(all.code, 0, "{all:#?}");
    for line in [format!("{}\trunning", up.name), format!("{}\texited", down.name)] {
        assert!(all.stdout().lines().any(|printed| printed == line), "{line:?}: {all:#?}");
    }
    let quiet = world.run(&["ps", "-q", "--format", "{{.Names}}"]);
    assert!(quiet.code == 0 && !quiet.stdout().contains(&up.name), "{quiet:#?}");
    quiet.says("WARNING: Ignoring custom format, because both --format and --quiet are set.\n");
    world.run(&["ps", "--format", "{{"]).is(1, "").says("template: :1: unclosed action");
    world.run(&["ps", "-a", "--format", "{{.Foo}}"]).is(1, "").says("executing \"\" at <.Foo>:");
}
