//! Exit codes and the command line (34 to 44).

use crate::harness::{Setup, Way, is_ours, shell};

/// 34
fn every_exit_code(way: Way) {
    for code in (0..=255).step_by(if way == Way::Subreaper { 1 } else { 17 }) {
        let end = Setup::new(way).start(&shell(&format!("exit {code}"))).end();
        assert_eq!(end.code, code);
        assert!(!is_ours() || end.err.is_empty(), "an end by itself is no news: {:?}", end.err);
    }
}

/// 35
fn deaths_by_signals(way: Way) {
    for signal in [15, 1, 3, 9, 11, 34] {
        let end = Setup::new(way).start(&shell(&format!("kill -{signal} $$"))).end();
        assert_eq!(end.code, 128 + signal);
    }
}

/// 36
fn a_code_may_count_as_success(way: Way) {
    for (exit, code) in [(7, 0), (143, 0), (8, 8), (0, 0)] {
        let end = Setup::new(way).options(&["-e", "7", "-e143"]).start(&shell(&format!("exit {exit}"))).end();
        assert_eq!(end.code, code);
    }
}

/// 37
fn what_is_no_exit_code(way: Way) {
    for bad in ["256", "-1", "abc"] {
        assert_eq!(Setup::new(way).options(&["-e", bad]).start(&["true"]).end().code, 1, "{bad}");
    }
}

/// 38, 39
fn why_a_command_cannot_run(way: Way) {
    let bad_interpreter = script("#!/no/such/interpreter\n");
    for (command, code) in [
        ("/no/such/program", 127),
        ("no-such-program", 127),
        ("/etc/passwd", 126),
        ("/etc", 126),
        (bad_interpreter.to_str().unwrap(), 127),
    ] {
        let end = Setup::new(way).start(&[command]).end();
        assert_eq!(end.code, code, "{command}");
        assert!(end.err.iter().any(|line| line.contains(command)), "{command}: {:?}", end.err);
    }
    // One that somebody is writing: ETXTBSY.
    let busy = script("#!/bin/sh\n");
    let _writer = std::fs::OpenOptions::new().append(true).open(&busy).unwrap();
    let end = Setup::new(way).start(&[busy.to_str().unwrap()]).end();
    assert_eq!(end.code, 1, "{:?}", end.err);
    assert!(end.err.iter().any(|line| line.contains("ext file busy")), "{:?}", end.err);
}

/// 33
fn a_script_without_an_interpreter_is_one_for_the_shell(way: Way) {
    let script = script("echo \"$1\"; exit 9\n");
    let end = Setup::new(way).start(&[script.to_str().unwrap(), "a b"]).end();
    assert_eq!((end.code, &end.out[..]), (9, &["a b".to_owned()][..]));
}

/// An executable file with this text. Written by another process: see the harness's copy of the init.
fn script(text: &str) -> tempfile::TempPath {
    let path = tempfile::Builder::new().prefix("init-suite-").tempfile().unwrap().into_temp_path();
    let write = "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"";
    let written =
        std::process::Command::new("sh").args(["-c", write, "sh", text]).arg(&path).status().unwrap();
    assert!(written.success());
    path
}

/// 40, 41, 42, 43
fn the_command_line(way: Way) {
    use crate::harness::init;
    let run = |words: &[&str]| std::process::Command::new(init()).args(words).output().unwrap();
    let _ = way;
    for words in [&[][..], &["-z", "true"], &["--no-such-option", "true"], &["--"]] {
        let output = run(words);
        assert!(!output.status.success() && !output.stderr.is_empty(), "{words:?}");
    }
    assert!(run(&["-h"]).status.success());
    assert!(run(&["--version"]).status.success());
    assert!(run(&["--", "true"]).status.success());
    assert!(!run(&["--", "--", "true"]).status.success());
    assert_eq!(run(&["sh", "-c", "exit 4"]).status.code(), Some(4), "-c belongs to sh");
}

/// 42: under the name by which Docker calls it.
fn docker_info_understands_the_version(way: Way) {
    let _ = way;
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("docker-init");
    std::os::unix::fs::symlink(crate::harness::init(), &name).unwrap();
    let output = std::process::Command::new(&name).arg("--version").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("tini version "), "{output:?}");
}

/// 5 of the issue: 143 is success, but only if somebody has asked for the stop.
fn a_clean_exit_is_one_that_was_asked_for(way: Way) {
    for (options, asked, code) in [
        (&["--clean-exit"][..], true, 0),
        (&["--clean-exit"], false, 143),
        (&[], true, 143),
        (&["--map-exit", "143=9"], true, 9),
    ] {
        let script = if asked { "echo ready; exec sleep 100" } else { "echo ready; kill $$" };
        let mut init = Setup::new(way).options(options).start(&shell(script));
        init.says("ready");
        if asked {
            init.signal(15);
        }
        assert_eq!(init.end().code, code, "{options:?} {asked}");
    }
}

super::cases! {
    everywhere: every_exit_code, deaths_by_signals, a_code_may_count_as_success, what_is_no_exit_code,
        why_a_command_cannot_run, a_script_without_an_interpreter_is_one_for_the_shell, a_clean_exit_is_one_that_was_asked_for;
    as_subreaper: the_command_line, docker_info_understands_the_version;
}
