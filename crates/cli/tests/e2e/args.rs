//! The command line itself: cases 1 to 13, and arguments that nobody expects.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::harness::{Kind, World, behaviours, run};

behaviours! {
    1 no_target [local reference];
    3 bad_numbers [local reference];
    4 missing_value [local reference];
    7 unknown_flags [local reference];
    9 every_way_to_say_two_seconds [local docker reference];
    10 time_is_deprecated [local];
    11 time_and_timeout_conflict [local];
    12 empty_name [local docker reference];
    13 help_is_data [local reference];
    13 duration_with_units [local];
    13 name_that_is_not_utf_8 [local docker];
    13 name_that_could_be_a_path [local docker];
}

fn no_target(world: &World) {
    let verbs = if world.kind == Kind::Reference {
        &["stop"][..]
    } else {
        &["stop", "kill", "restart", "wait", "rm"]
    };
    for verb in verbs {
        // Docker 20.10 says `"docker stop" requires at least 1 argument.`, 28 `'docker stop' requires at least 1 argument`.
        world
            .run(&[verb])
            .is(1, "")
            .says("requires at least 1 argument")
            .says("Usage:")
            .says(&format!("{verb} --help"));
    }
}

fn bad_numbers(world: &World) {
    for (bad, why) in [
        ("x", "invalid syntax"),
        ("1.5", "invalid syntax"),
        ("", "invalid syntax"),
        ("99999999999999999999", "value out of range"),
    ] {
        let outcome = world.run(&["stop", "-t", bad, "nope"]);
        outcome.is(125, "").says(&format!("invalid argument \"{bad}\" for \"-t, --time")).says(why);
    }
}

fn missing_value(world: &World) {
    world.run(&["stop", "-t"]).is(125, "").says("flag needs an argument: 't' in -t");
}

fn unknown_flags(world: &World) {
    world.run(&["stop", "--bogus", "x"]).is(125, "").says("unknown flag: --bogus");
    world.run(&["stop", "-x", "x"]).is(125, "").says("unknown shorthand flag: 'x' in -x");
}

fn every_way_to_say_two_seconds(world: &World) {
    let target = world.start_unready(&[], "exit 0");
    assert_eq!(world.exit_code(&target), 0);
    let name = target.name.as_str();
    for args in [
        &["stop", "-t2", name][..],
        &["stop", "-t=2", name],
        &["stop", "-t", "2", name],
        &["stop", name, "-t", "2"],
        &["stop", "--", name],
    ] {
        world.run(args).is(0, &target.line());
    }
    if world.kind != Kind::Reference {
        world.run(&["stop", "--timeout=2", name]).is(0, &target.line());
    }
}

/// Docker 28 says so on standard output, where the name belongs.
fn time_is_deprecated(world: &World) {
    let target = world.start_unready(&[], "exit 0");
    world
        .run(&["stop", "--time", "2", &target.name])
        .is(0, &target.line())
        .says("--time has been deprecated");
}

fn time_and_timeout_conflict(world: &World) {
    world
        .run(&["stop", "--time", "2", "--timeout", "2", "x"])
        .is(1, "")
        .says("conflicting options: cannot specify both --timeout and --time");
}

fn empty_name(world: &World) {
    for name in ["", " "] {
        let outcome = world.run(&["stop", name]);
        assert_ne!(outcome.code, 0, "{outcome:#?}");
        assert_eq!(outcome.stdout(), "");
        if world.kind != Kind::Reference {
            outcome.is(1, "").says("invalid container name or ID: value is empty");
        }
    }
}

fn help_is_data(world: &World) {
    for args in [&["stop", "--help"][..], &["--help"]] {
        let outcome = world.run(args);
        assert_eq!((outcome.code, &*outcome.stderr), (0, ""), "{outcome:#?}");
        assert!(outcome.stdout().contains("Usage:"), "{outcome:#?}");
    }
}

fn duration_with_units(world: &World) {
    let target = world.start_unready(&[], "exit 0");
    world.run(&["stop", "-t", "1m30s", &target.name]).is(0, &target.line());
}

fn name_that_is_not_utf_8(world: &World) {
    for verb in ["stop", "kill", "restart", "wait", "rm", "logs", "inspect"] {
        let mut command = world.command(&[verb]);
        let outcome = run(command.arg(OsStr::from_bytes(b"we\xffb")));
        assert!([1, 125].contains(&outcome.code), "{outcome:#?}");
        assert!(!outcome.stderr.is_empty() && !outcome.stderr.contains("panicked"), "{outcome:#?}");
    }
}

fn name_that_could_be_a_path(world: &World) {
    for name in ["../../etc", "../images/json", "a/b", "a%2fb", "a?force=1", "a\nb", &"n".repeat(5000)] {
        let outcome = world.run(&["stop", name]);
        outcome.is(1, "");
        assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
    }
}
