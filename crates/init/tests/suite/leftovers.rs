//! What is left when main ends (63 to 76): the others are told, and waited for, within one budget.

use std::time::Duration;

use crate::harness::{Setup, Way, app, eventually, is_ours, python, shell, stays};

/// 63
fn a_background_process_flushes_when_main_has_ended(way: Way) {
    let script = format!("python3 {} flush 0.5 & read _; exit 7", app());
    let (setup, reads) = Setup::new(way).read_from();
    let mut init = setup.start(&shell(&script));
    init.says("ready");
    drop(reads);
    let end = init.end();
    assert_eq!(end.code, 7);
    assert!(end.out.iter().any(|line| line == "flushed"), "{:?}", end.out);
}

/// 64: the shell form.
fn the_child_of_a_shell_flushes(way: Way) {
    let mut init = Setup::new(way).start(&shell(&format!("python3 {} flush 0.5; true", app())));
    init.says("ready");
    init.signal(15);
    let end = init.end();
    assert_eq!(end.out, ["ready", "got 15", "flushed"], "told once");
    assert!(end.took < Duration::from_secs(5), "{:?}", end.took);
}

/// 65
fn a_daemon_in_a_session_of_its_own_flushes(way: Way) {
    let mut init =
        Setup::new(way).start(&shell(&format!("python3 {} setsid flush 0.5; exec sleep 100", app())));
    init.says("ready");
    init.signal(15);
    let end = init.end();
    assert_eq!((end.code, &end.out[..]), (143, &["ready".to_owned(), "got 15".into(), "flushed".into()][..]));
}

/// 66, 67, 74: nobody survives.
fn nobody_survives(way: Way) {
    let mut init = Setup::new(way).options(&["--grace", "2"]).start(&shell(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.1; done' & (sleep 1000 &) ; echo ready; sleep 1000",
    ));
    (0..2).for_each(|_| init.says("ready"));
    let family = descendants(init.pid());
    assert!(family.len() >= 3, "{family:?}");
    init.signal(15);
    assert_eq!(init.end().code, 137);
    for (pid, started) in family {
        assert_ne!(start_time(pid), Some(started), "pid {pid} is still there");
    }
}

/// All descendants with their start times.
fn descendants(pid: rustix::process::Pid) -> Vec<(u32, u64)> {
    let all = gracefully_linux::family::descendants(pid.as_raw_nonzero().get().cast_unsigned());
    all.into_iter().filter_map(|pid| Some((pid, start_time(pid)?))).collect()
}

fn start_time(pid: u32) -> Option<u64> {
    Some(gracefully_linux::process::stat(pid)?.start_time.ticks())
}

/// 69
fn main_may_hand_over_to_its_successor(way: Way) {
    let script = format!("python3 {} flush 0 code 3 & read _; exit 0", app());
    let (setup, reads) = Setup::new(way).options(&["--wait-all"]).read_from();
    let mut init = setup.start(&shell(&script));
    init.says("ready");
    drop(reads);
    assert!(stays(Duration::from_millis(600), || !init.has_ended()), "the successor lives");
    init.signal(15);
    let end = init.end();
    assert_eq!((end.code, end.out.last().map(String::as_str)), (0, Some("flushed")));
}

/// When its predecessor has ended, a stop is for the successor, at once.
fn a_successor_is_stopped_at_once(way: Way) {
    let script = format!("python3 {} flush 0 & read _; exit 4", app());
    let (setup, reads) = Setup::new(way).options(&["--wait-all"]).read_from();
    let mut init = setup.start(&shell(&script));
    init.says("ready");
    let main = init.main();
    drop(reads);
    eventually("main has ended", || crate::harness::status(main, "State").is_empty());
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert_eq!((end.code, end.out.last().map(String::as_str)), (4, Some("flushed")));
    assert!(end.took < Duration::from_secs(4), "{:?}", end.took);
}

/// Who is left an orphan after the others were told is told as well; whom a parent still looks after is not.
fn orphans_of_the_sweep_are_told(way: Way) {
    let heir =
        format!("trap 'python3 {} flush 0 & exit 0' TERM; echo waiting; while :; do sleep 0.01; done", app());
    let mut init = Setup::new(way).options(&["--grace", "8"]).start(&[
        "sh",
        "-c",
        "setsid sh -c \"$1\" & exec sleep 100",
        "sh",
        &heir,
    ]);
    init.says("waiting");
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    // Python may have had no handler yet; then it has ended on the spot, which is no worse.
    assert!(end.took < Duration::from_secs(6), "{:?} {:?}", end.took, end.err);

    let helper = "trap 'echo trapped; sleep 0.5; echo helped; exit 0' TERM; echo waiting; while :; do sleep 0.01; done";
    let mut init = Setup::new(way).start(&["sh", "-c", "setsid sh -c \"$1\" & exec sleep 100", "sh", helper]);
    init.says("waiting");
    init.signal(15);
    assert!(init.end().out.ends_with(&["trapped".into(), "helped".into()]));
}

/// 70
fn who_ignores_the_signal_is_killed_when_time_is_up(way: Way) {
    let mut init = Setup::new(way).options(&["--grace", "1s"]).start(&python("ignore 15 catch 10"));
    init.says("ready");
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert_eq!(end.code, 137);
    assert!((0.8..1.5).contains(&end.took.as_secs_f64()), "a reserve before the end: {:?}", end.took);
    assert!(
        end.err.iter().any(|line| line.contains("forced") && line.contains("python3 (pid")),
        "{:?}",
        end.err
    );
}

/// 71
fn it_ends_when_the_last_one_has_ended(way: Way) {
    let mut init =
        Setup::new(way).options(&["--grace", "60"]).start(&shell("sleep 100 & sleep 101 & echo ready; wait"));
    init.says("ready");
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert!(end.took < Duration::from_secs(5), "{:?}", end.took);
}

/// 72: nobody has said how long it may take, so nobody is killed; and it is said who keeps it waiting.
fn who_needs_long_is_not_killed_by_default(way: Way) {
    let mut init = Setup::new(way).start(&python("flush 10.5 code 6")).patiently();
    init.says("ready");
    init.signal(15);
    let end = init.end();
    assert_eq!((end.code, end.out.last().map(String::as_str)), (6, Some("flushed")));
    if is_ours() {
        assert!(end.err.iter().any(|line| line.contains("still there: python3")), "{:?}", end.err);
    }
}

/// 73: whoever is not ours is left alone.
fn others_in_the_namespace_are_left_alone(way: Way) {
    let mut other = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let mut init = Setup::new(way).options(&["--grace", "1"]).start(&python("ignore 15 catch 10"));
    init.says("ready");
    init.signal(15);
    assert_eq!(init.end().code, 137);
    assert!(other.try_wait().unwrap().is_none(), "it got a signal");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// 53: a stopped program is continued, so that it can end.
fn a_stopped_program_ends_in_time(way: Way) {
    let mut init = Setup::new(way).start(&python("flush 0 code 4"));
    init.says("ready");
    let main = init.main();
    crate::harness::send(main, 19);
    eventually("it is stopped", || crate::harness::status(main, "State").starts_with('T'));
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert_eq!(end.code, 4);
    assert!(end.took < Duration::from_secs(6), "{:?}", end.took);
}

/// 76: a shell that has a trap, and waits for a command that does not hear of the stop.
fn a_trap_runs_in_time(way: Way) {
    let script = "trap 'echo trapped; exit 4' TERM; echo ready; sleep 100; echo never";
    let mut init = Setup::new(way).options(&["--grace", "8"]).start(&["bash", "-c", script]);
    init.says("ready");
    // Bash is in the wait for its command.
    let main = init.main();
    eventually("the command runs", || !crate::harness::children(main).is_empty());
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert_eq!((end.code, end.out.last().map(String::as_str)), (4, Some("trapped")));
    assert!(end.took < Duration::from_secs(6), "{:?}", end.took);
}

super::cases! {
    everywhere: a_successor_is_stopped_at_once, orphans_of_the_sweep_are_told, a_background_process_flushes_when_main_has_ended, the_child_of_a_shell_flushes,
        a_daemon_in_a_session_of_its_own_flushes, nobody_survives, main_may_hand_over_to_its_successor,
        who_ignores_the_signal_is_killed_when_time_is_up, it_ends_when_the_last_one_has_ended, a_stopped_program_ends_in_time,
        a_trap_runs_in_time;
    as_pid1: who_needs_long_is_not_killed_by_default;
    as_subreaper: others_in_the_namespace_are_left_alone;
}
