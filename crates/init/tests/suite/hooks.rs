//! Hooks, sidecars, reports, status (77 to 82, and what nobody else has).

use std::time::Duration;

use crate::harness::{Setup, Way, eventually, init, python, shell};

fn position(lines: &[String], wanted: &str) -> usize {
    lines.iter().position(|line| line == wanted).unwrap_or_else(|| panic!("no {wanted:?} in {lines:?}"))
}

/// 78, 79: in order, before main gets its signal.
fn hooks_run_in_order_before_the_signal(way: Way) {
    let mut init = Setup::new(way)
        .options(&["--on-stop", "sleep 0.2; echo one", "--on-stop", r#"["echo", "two words"]"#])
        .start(&python("flush 0 code 3"));
    init.says("ready");
    init.signal(15);
    let end = init.end();
    assert_eq!(end.code, 3);
    let [one, two, got] = ["one", "two words", "got 15"].map(|line| position(&end.out, line));
    assert!(one < two && two < got, "{:?}", end.out);
}

/// 82: one that fails and one that hangs are said, and stop nothing.
fn a_hook_that_fails_or_hangs_stops_nothing(way: Way) {
    let mut init = Setup::new(way)
        .options(&[
            "--on-stop",
            "exit 9",
            "--hook-limit",
            "300ms",
            "--on-stop",
            "sleep 100; true",
            "--on-stop",
            "echo third",
        ])
        .start(&python("flush 0 code 3"));
    init.says("ready");
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert_eq!(end.code, 3);
    assert!(position(&end.out, "third") < position(&end.out, "got 15"), "{:?}", end.out);
    assert!(end.took < Duration::from_secs(5), "{:?}", end.took);
    let line = end.err.last().unwrap();
    assert!(line.contains("hook exit 9: exit 9") && line.contains("took longer than it may"), "{line}");
}

/// One without a limit has what the budget has for it.
fn a_hook_without_a_limit_ends_with_its_phase(way: Way) {
    let mut init = Setup::new(way)
        .options(&["--grace", "4", "--on-stop", "sleep 100; true", "--on-stop", "echo never"])
        .start(&python("flush 0 code 3"));
    init.says("ready");
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert_eq!((end.code, end.out.iter().any(|line| line == "never")), (3, false));
    assert!(end.took < Duration::from_millis(3_400), "{:?}", end.took);
    let line = end.err.last().unwrap();
    assert!(line.contains("graceful") && line.contains("deregister: "), "{line}");
}

/// A sidecar that does not end keeps nobody but itself waiting, also if nobody has said how long a stop may take.
fn a_sidecar_that_does_not_end_is_killed_in_the_end(way: Way) {
    let mut init = Setup::new(way)
        .options(&["--sidecar", "trap '' TERM; echo registered; sleep 100"])
        .start(&python("flush 0 code 3"));
    init.says("registered");
    if !init.said("ready") {
        init.says("ready");
    }
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert_eq!(end.code, 3);
    assert!(end.took < Duration::from_secs(8), "{:?}", end.took);
}

/// An end by itself deregisters, too.
fn hooks_run_when_main_ends_by_itself(way: Way) {
    let end = Setup::new(way).options(&["--on-stop", "sleep 0.2; echo hook"]).start(&shell("exit 6")).end();
    assert_eq!((end.code, &end.out[..]), (6, &["hook".to_owned()][..]));
}

/// `--wait-all` is not for the init's own helpers.
fn a_sidecar_does_not_keep_the_container_alive(way: Way) {
    let end = Setup::new(way)
        .options(&["--wait-all", "--sidecar", "sleep 100"])
        .start(&shell("sleep 0.3; exit 4"))
        .end();
    assert_eq!(end.code, 4);
    assert!(end.took < Duration::from_secs(10), "{:?}", end.took);
}

/// A hook's program is missed at the start, not at the stop.
fn a_missing_hook_is_an_error_at_the_start(way: Way) {
    for option in ["--on-stop", "--sidecar"] {
        let end =
            Setup::new(way).options(&[option, r#"["/no/such/hook"]"#]).start(&shell("echo started")).end();
        assert_eq!((end.code, end.out.len()), (1, 0));
        assert!(end.err[0].contains("/no/such/hook"), "{:?}", end.err);
    }
}

/// 80: the agent that deregisters ends before main hears of the stop.
fn a_sidecar_ends_before_main_is_stopped(way: Way) {
    let agent =
        "trap 'sleep 0.3; echo deregistered; exit 0' TERM; echo registered; while :; do sleep 0.01; done";
    let mut init = Setup::new(way).options(&["--sidecar", agent]).start(&python("flush 0 code 3"));
    init.says("registered");
    if !init.said("ready") {
        init.says("ready");
    }
    init.signal(15);
    let end = init.end();
    assert_eq!(end.code, 3);
    assert!(position(&end.out, "deregistered") < position(&end.out, "got 15"), "{:?}", end.out);
}

/// A crash of main deregisters at once.
fn a_crash_ends_the_sidecar(way: Way) {
    let agent = "trap 'echo deregistered; exit 0' TERM; echo registered; while :; do sleep 0.01; done";
    let (setup, reads) = Setup::new(way).options(&["--sidecar", agent]).read_from();
    let mut init = setup.start(&shell("read _; exit 8"));
    init.says("registered");
    drop(reads);
    let end = init.end();
    assert_eq!(end.code, 8);
    position(&end.out, "deregistered");
}

/// A sidecar may wait until there is something to register.
fn a_sidecar_may_wait_until_main_listens(way: Way) {
    let main = "import socket,time,os\ntime.sleep(0.3)\nos.write(1,b'listening\\n')\ns=socket.create_server(('127.0.0.1',0))\ntime.sleep(100)";
    let mut init = Setup::new(way)
        .options(&["--sidecar-after", "listen", "--sidecar", "echo agent; exec sleep 100"])
        .before("exec unshare --net \"$@\"")
        .start(&["python3", "-c", main]);
    init.says("listening");
    init.says("agent");
    init.signal(15);
    assert_eq!(init.end().code, 143);

    // Somebody else listens.
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = ["--sidecar-after", "listen", "--sidecar", "echo agent"];
    let end = Setup::new(way).options(&agent).start(&["sleep", "0.5"]).end();
    assert_eq!(end.out, [""; 0]);
}

/// 81: the stop signal may be another one; and a second, when main's time is up.
fn main_may_want_another_signal(way: Way) {
    for request in [15, 3] {
        let mut init =
            Setup::new(way).options(&["--stop-signal", "QUIT"]).start(&python("catch 3,15 flush 0 code 2"));
        init.says("ready");
        init.signal(request);
        assert_eq!(init.end().out, ["ready", "got 3", "flushed"]);
    }
    let mut init = Setup::new(way)
        .options(&["--stop-signal", "USR1,TERM", "--grace", "2"])
        .start(&python("catch 10,15 flush 0 code 2"));
    init.says("ready");
    init.signal(15);
    assert_eq!(init.end().out, ["ready", "got 10", "got 15", "flushed"]);
}

/// 44: how it ended can be read.
fn a_report_is_written(way: Way) {
    let dir = tempfile::Builder::new().permissions(mode(0o777)).tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("termination-log");
    std::fs::write(&path, "x".repeat(10_000)).unwrap();
    std::fs::set_permissions(&path, mode(0o666)).unwrap();
    let mut init = Setup::new(way)
        .options(&["--grace", "1", "--report", path.to_str().unwrap()])
        .start(&python("ignore 15 catch 10"));
    init.says("ready");
    init.signal(15);
    assert_eq!(init.end().code, 137);
    let report: gracefully_core::report::Report =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(report.verdict, gracefully_core::report::Verdict::Forced);
    assert!(report.target.name.starts_with("python3"), "{:?}", report.target);

    let end = Setup::new(way).options(&["--report", "/no/such/dir/x"]).start(&shell("echo started")).end();
    assert_eq!((end.code, end.out.len()), (1, 0), "said at the start: {:?}", end.err);
}

fn mode(mode: u32) -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}

/// Whoever may look at it sees what it is doing.
fn status_is_told(way: Way) {
    let mut running = Setup::new(way).start(&python("flush 1 code 3"));
    running.says("ready");
    let pid = running.pid().as_raw_nonzero().to_string();
    let ask = || {
        let output = std::process::Command::new(init()).args(["status", &pid]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap_or_default()
    };
    eventually("it runs", || ask()["state"] == "running");
    running.signal(15);
    eventually("it is being stopped", || ask()["state"] == "stopping" && ask()["phase"] == "terminate");
    assert_eq!((&ask()["signal"], &ask()["budget_s"]), (&"SIGTERM".into(), &10.0.into()));
    assert_eq!(running.end().code, 3);
    let output = std::process::Command::new(init())
        .args(["status", &std::process::id().to_string()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no gracefully-init has pid"), "{output:?}");
}

/// What was named is written to the disk, and what cannot be is said.
fn file_systems_are_synced(way: Way) {
    for (path, complaint) in [("/", None), ("/no/such/path", Some("flush: "))] {
        let mut init = Setup::new(way).options(&["--sync", path]).start(&python("flush 0 code 3"));
        init.says("ready");
        init.signal(15);
        let end = init.end();
        assert_eq!(end.code, 3);
        let line = end.err.last().unwrap();
        assert_eq!(line.contains("flush: "), complaint.is_some(), "{line}");
    }
}

/// A main without a handler is said once, when it had time to install one.
fn a_main_without_a_handler_is_said(way: Way) {
    let mut init = Setup::new(way).start(&shell("echo ready; sleep 100; true"));
    init.says("ready");
    let line = init.complaint();
    assert!(line.contains("Use CMD [\"sleep\",\"100\"]"), "{line}");
    init.signal(15);
    assert_eq!(init.end().code, 143);
}

super::cases! {
    everywhere: a_hook_without_a_limit_ends_with_its_phase, a_sidecar_that_does_not_end_is_killed_in_the_end,
        hooks_run_when_main_ends_by_itself, a_sidecar_does_not_keep_the_container_alive, hooks_run_in_order_before_the_signal, a_hook_that_fails_or_hangs_stops_nothing,
        a_missing_hook_is_an_error_at_the_start, a_sidecar_ends_before_main_is_stopped, a_crash_ends_the_sidecar,
        main_may_want_another_signal, a_report_is_written, file_systems_are_synced, a_main_without_a_handler_is_said,
        status_is_told;
    as_pid1: a_sidecar_may_wait_until_main_listens;
}
