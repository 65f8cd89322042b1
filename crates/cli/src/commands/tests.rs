//! Whole commands against engines in memory: research/stop.md, 3.B to 3.E, as far as the program decides it.

use gracefully_engine::{Container, Kind, State};

use crate::testing::{Fake, container, gracefully};

fn local(containers: impl IntoIterator<Item = Container>) -> [std::sync::Arc<Fake>; 1] {
    [Fake::new(Kind::Local, containers)]
}

#[test]
fn names_are_echoed_as_typed_and_failures_come_last() {
    let engine = local([container("web", State::Running), container("db", State::Paused)]);
    let ran = gracefully("--engine local stop web nope /db", engine.clone());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "web\n/db\n"));
    assert!(ran.stderr.ends_with("\nNo such container: nope\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("graceful: stopped in "), "{}", ran.stderr);
    assert_eq!(engine[0].done(), ["terminate web SIGTERM", "terminate db SIGTERM"]);
}

#[test]
fn a_container_named_three_times_is_printed_three_times_and_stopped_once() {
    let engine = local([container("web", State::Running)]);
    let ran = gracefully("stop web web012 local:web", engine.clone());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "web\nweb012\nlocal:web\n"));
    assert_eq!(engine[0].done(), ["terminate web SIGTERM"]);
    assert_eq!(ran.stderr.matches("graceful:").count(), 1, "one verdict: {}", ran.stderr);
}

#[test]
fn what_is_not_running_is_printed_and_left_alone_by_stop_and_started_by_restart() {
    for (kind, state) in
        [(Kind::Local, State::Created), (Kind::Local, State::Exited), (Kind::Docker, State::Dead)]
    {
        let engine = [Fake::new(kind, [container("web", state)])];
        let choice = kind.name();
        let ran = gracefully(&format!("--engine {choice} stop web"), engine.clone());
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "web\n", ""));
        assert_eq!(engine[0].done(), [""; 0]);

        let ran = gracefully(&format!("--engine {choice} restart web"), engine.clone());
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "web\n"));
        assert_eq!(engine[0].done(), ["start web"]);
    }
}

#[test]
fn a_container_with_rm_is_printed_when_it_is_gone() {
    let engine = local([Container { auto_remove: true, ..container("web", State::Running) }]);
    assert_eq!(gracefully("stop web", engine.clone()).stdout, "web\n");
    assert_eq!(engine[0].done(), ["terminate web SIGTERM", "wait_removed web"]);
}

#[test]
fn strict_tells_a_forced_stop_by_its_exit_code() {
    let engine = || local([container("deaf", State::Running)]);
    assert_eq!(gracefully("stop deaf", engine()).code, 0);
    let ran = gracefully("stop --strict deaf", engine());
    assert_eq!((ran.code, ran.stdout.as_str()), (3, "deaf\n"));
    assert!(ran.stderr.contains("forced: SIGKILL"), "{}", ran.stderr);
    assert_eq!(gracefully("stop --strict deaf nope", engine()).code, 1, "a failure is worse");
}

#[test]
fn reports_on_stdout_take_the_place_of_the_names() {
    let engine = local([container("web", State::Running), container("db", State::Running)]);
    let ran = gracefully("stop --report - -s INT -t 3 web db", engine);
    let reports: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0]["target"]["name"], "web");
    assert_eq!(reports[1]["signal"]["value"], "SIGINT");
    assert_eq!(reports[1]["verdict"], "graceful");
}

#[test]
fn a_report_that_cannot_be_written_stops_nothing() {
    let engine = local([container("web", State::Running)]);
    let ran = gracefully("stop --report /nonexistent/report web", engine.clone());
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("cannot write the report to /nonexistent/report"), "{}", ran.stderr);
    assert_eq!(engine[0].done(), [""; 0]);
}

#[test]
fn a_dry_run_stops_nothing() {
    let engine = local([container("web", State::Running)]);
    let ran = gracefully("stop --dry-run -t 5 web", engine.clone());
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.contains("budget  5 s (as asked)"), "{}", ran.stdout);
    assert_eq!(engine[0].done(), [""; 0]);
}

#[test]
fn the_local_engine_is_asked_first_and_a_prefix_asks_only_one() {
    let engines =
        || [Kind::Local, Kind::Docker].map(|kind| Fake::new(kind, [container("web", State::Running)]));
    let [local, docker] = engines();
    assert_eq!(gracefully("stop web", [local.clone(), docker.clone()]).code, 0);
    assert_eq!((local.done().len(), docker.done().len()), (1, 0));
    let [local, docker] = engines();
    assert_eq!(gracefully("stop docker:web", [local.clone(), docker.clone()]).code, 0);
    assert_eq!((local.done().len(), docker.done().len()), (0, 1));
}

#[test]
fn who_was_asked_for_a_container_that_nobody_has_is_said() {
    let engines = || [Kind::Local, Kind::Docker].map(|kind| Fake::new(kind, []));
    for (line, expected) in [
        ("stop nope", "No such container: nope (local does not have it; docker does not have it)\n"),
        ("--engine docker stop nope", "Error response from daemon: No such container: nope\n"),
        ("--engine local stop nope", "No such container: nope\n"),
        ("stop ''", "invalid container name or ID: value is empty\n"),
        ("wait nope --engine local", "No such container: nope\n"),
        ("logs nope --engine docker", "Error response from daemon: No such container: nope\n"),
        ("kill nope --engine local", "Cannot kill container: nope: No such container: nope\n"),
    ] {
        let ran = gracefully(line, engines());
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", expected), "{line}");
    }
}

#[test]
fn what_an_error_quotes_cannot_write_to_the_terminal() {
    let ran = gracefully("--engine local stop no\u{1b}[2Jpe", local([]));
    assert_eq!(ran.stderr, "No such container: no\\u{1b}[2Jpe\n");
}

#[test]
fn both_forms_of_the_timeout_exclude_each_other_and_the_old_one_is_deprecated_on_stderr() {
    let engine = local([container("web", State::Exited)]);
    let ran = gracefully("stop --time 2 web", engine.clone());
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "web\n", "Flag --time has been deprecated, use --timeout instead\n")
    );
    let ran = gracefully("stop --time 2 --timeout 2 web", engine);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.ends_with("conflicting options: cannot specify both --timeout and --time\n"));
}

#[test]
fn a_bad_signal_is_refused_before_anybody_is_looked_up() {
    for verb in ["stop", "restart", "kill"] {
        let ran = gracefully(&format!("{verb} -s SIG42 nope"), local([]));
        assert_eq!((ran.code, ran.stderr.as_str()), (1, "invalid signal: SIG42\n"), "{verb}");
    }
    let ran = gracefully("kill -s 65 nope", local([]));
    assert!(ran.stderr.contains("does not support signal 65"), "{}", ran.stderr);
}

#[test]
fn kill_wait_and_rm_print_in_order() {
    let engine = local([container("a", State::Running), container("b", State::Exited)]);
    let ran = gracefully("kill -s HUP a b", engine.clone());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "a\n"));
    assert_eq!(ran.stderr, "Cannot kill container: b: Container b0123456789 is not running\n");
    assert_eq!(gracefully("wait a b", engine.clone()).stdout, "7\n7\n");

    let ran = gracefully("rm a b", engine.clone());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "b\n"));
    assert!(ran.stderr.contains("container is running"), "{}", ran.stderr);
    let ran = gracefully("rm -f --engine local a nope", engine.clone());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "a\n", ""));
    assert_eq!(engine[0].done(), ["SIGHUP a", "remove b", "remove a"]);
}

#[test]
fn inspect_prints_what_there_is_and_names_what_there_is_not() {
    let engine = local([container("a", State::Running)]);
    let ran = gracefully("inspect --engine local a nope", engine.clone());
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "Error: No such object: nope\n"));
    assert!(ran.stdout.contains("\"Name\": \"a\""), "{}", ran.stdout);
    assert_eq!(gracefully("inspect --engine local nope", engine).stdout, "[]\n");
}

#[test]
fn ps_lists_all_engines_and_logs_keep_their_streams() {
    let engines = || {
        [
            Fake::new(Kind::Local, [container("a", State::Running)]),
            Fake::new(Kind::Docker, [container("b", State::Exited)]),
        ]
    };
    assert_eq!(gracefully("ps -q", engines()).stdout, "a0123456789\n");
    assert_eq!(gracefully("ps -aq", engines()).stdout, "a0123456789\nb0123456789\n");
    assert_eq!(gracefully("ps -aq --engine docker", engines()).stdout, "b0123456789\n");
    let json: serde_json::Value =
        serde_json::from_str(&gracefully("ps --format json", engines()).stdout).unwrap();
    assert_eq!((&json["Names"], &json["Engine"]), (&"a".into(), &"local".into()));

    let ran = gracefully("logs a", engines());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "out\n", "err"));
}

#[test]
fn ten_thousand_targets() {
    let names: Vec<_> = (0..10_000).map(|n| format!("c{n:05}x")).collect();
    let engine = local([container("c00000x", State::Running)]);
    let ran = gracefully(&format!("--engine local --progress none stop {}", names.join(" ")), engine);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "c00000x\n"));
    assert_eq!(ran.stderr.matches("No such container").count(), 9_999);
}

#[test]
fn run_refuses_before_anything_is_started() {
    for (line, expected) in [
        ("run --rm --restart always true", "conflicting options: cannot specify both --restart and --rm"),
        (
            "run --restart on-failure:x true",
            "invalid restart policy format: maximum retry count must be an integer",
        ),
        ("run --stop-signal BOGUS true", "invalid signal: BOGUS"),
        ("run --name a! true", "Invalid container name (a!), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ("run -w there true", "the working directory 'there' is invalid, it needs to be an absolute path"),
        ("run --env-file /nonexistent true", "open /nonexistent: no such file or directory"),
        ("run --init --rootfs /proc true", "--init: there is no /gracefully-init in /proc: copy it there"),
        (
            "--engine docker run true",
            "the docker engine runs images, not commands of this machine; use docker run",
        ),
    ] {
        let ran = gracefully(line, []);
        let expected =
            format!("gracefully: {expected}\n\nRun 'gracefully run --help' for more information\n");
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr), (125, "", expected), "{line}");
    }
    let ran = gracefully("run --rootfs /nonexistent true", []);
    assert!(ran.stderr.starts_with("gracefully: --rootfs /nonexistent: No such file"), "{}", ran.stderr);
}
