//! Orphans (56 to 62).

use crate::harness::{Setup, Way, children, eventually, is_ours, shell, status};

/// 56, 59: also where it is not PID 1, without being asked.
fn orphans_are_reaped(way: Way) {
    let mut init = Setup::new(way)
        .start(&shell("for i in $(seq 100); do (sleep 0.2 &) ; done; echo ready; exec sleep 100"));
    init.says("ready");
    let us = init.pid();
    eventually("main alone is left", || children(us).len() == 1);
    init.signal(15);
    let end = init.end();
    assert_eq!(end.code, 143);
    assert!(!is_ours() || end.err.len() == 1, "one line, about the stop: {:?}", end.err);
}

/// 57, 58, 60
fn no_zombie_stays(way: Way) {
    let script =
        "for i in $(seq 300); do bash -c \"bash -c 'exit 3' &\" & done; wait; echo ready; exec sleep 100";
    let mut init = Setup::new(way).start(&["bash", "-c", script]);
    init.says("ready");
    let us = init.pid();
    eventually("main alone is left", || children(us).len() == 1);
    init.signal(9);
}

/// `-w` of tini
fn who_wants_to_know_hears_of_orphans(way: Way) {
    let mut init = Setup::new(way).options(&["-w"]).start(&shell("(exit 3 &) ; echo ready; exec sleep 100"));
    init.says("ready");
    assert!(init.complaint().to_lowercase().contains("reaped"));
    init.signal(9);
}

/// 62
fn a_stopped_process_is_not_taken_for_dead(way: Way) {
    let mut init = Setup::new(way).start(&shell("echo ready; kill -STOP $$; exit 4"));
    init.says("ready");
    let main = init.main();
    eventually("it is stopped", || status(main, "State").starts_with('T'));
    assert!(!init.has_ended());
    crate::harness::send(main, 18);
    assert_eq!(init.end().code, 4);
}

super::cases! {
    everywhere: orphans_are_reaped, no_zombie_stays, who_wants_to_know_hears_of_orphans, a_stopped_process_is_not_taken_for_dead;
}
