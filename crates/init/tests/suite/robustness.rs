//! What must not hurt it (83 to 90).

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Setup, Way, eventually, init, is_ours, python, shell, status, stays};

/// 83: main has become another user, and the init has not the capability to signal it.
fn who_cannot_be_signalled_keeps_its_time(way: Way) {
    let main = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done";
    let mut init = Setup::new(way)
        .before("exec setpriv --bounding-set=-kill --inh-caps=-kill \"$@\"")
        .start(&["setpriv", "--reuid=1234", "--clear-groups", "sh", "-c", main]);
    init.says("ready");
    let main = init.main();
    eventually("it is another user", || status(main, "Uid").starts_with("1234"));
    init.signal(15);
    if is_ours() {
        assert!(init.complaint().contains("cannot be signalled"));
    }
    assert!(stays(Duration::from_millis(500), || !init.has_ended()), "the grace is main's");
    // Somebody who may.
    crate::harness::send(main, 15);
    assert_eq!(init.end().code, 4);
}

/// 84: nobody reads what it says.
fn a_log_without_a_reader_hurts_nobody(way: Way) {
    let mut init = Setup::new(way)
        .options(&["-w"])
        .before("exec 2> >(exec true); sleep 0.2")
        .start(&shell("(exit 1 &) ; sleep 0.2; (exit 1 &) ; echo ready; exec sleep 100"));
    init.says("ready");
    let us = init.pid();
    assert!(stays(Duration::from_millis(300), || !init.has_ended()));
    let ticks = cpu_ticks(us);
    assert!(stays(Duration::from_millis(500), || !init.has_ended()));
    assert!(cpu_ticks(us) - ticks < 5, "it spins");
    init.signal(15);
    assert_eq!(init.end().code, 143);
}

/// The same, but it is full: nobody waits for it.
fn a_log_that_is_full_hurts_nobody(way: Way) {
    let fill = "exec 2> >(exec sleep 1000); python3 -c 'import os\nos.set_blocking(2, False)\ntry:\n while 1: os.write(2, b\"x\"*4096)\n\
                except OSError: os.set_blocking(2, True)'";
    let mut init = Setup::new(way)
        .options(&["-w"])
        .before(fill)
        .start(&shell("(exit 1 &) ; sleep 0.2; echo ready; exec sleep 100"));
    init.says("ready");
    init.signal(15);
    assert_eq!(init.end_quickly(), 143);
}

fn cpu_ticks(pid: rustix::process::Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

/// 86: without /proc. What cannot be seen is told all at once.
fn without_proc(way: Way) {
    let _ = way;
    let unmount = "umount -l /proc && exec \"$@\"";
    let mut init = Command::new("unshare")
        .args(["--fork", "--pid", "--mount", "--kill-child", "sh", "-c", unmount, "sh"])
        .arg(init())
        .args(["--", "sh", "-c"])
        .arg(format!("python3 {} flush 0.3 & sleep 2; exit 7", crate::harness::app()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut init.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(init.wait().unwrap().code(), Some(7));
    assert_eq!(said, "ready\ngot 15\nflushed\n");
}

/// 87
fn nothing_happens_when_nothing_happens(way: Way) {
    let mut init = Setup::new(way).start(&python("flush 0"));
    init.says("ready");
    let us = init.pid();
    // The one look at main's handlers is over.
    assert!(stays(Duration::from_millis(5_500), || !init.has_ended()));
    let switches = || status(us, "voluntary_ctxt_switches").parse::<u64>().unwrap();
    let before = switches();
    assert!(stays(Duration::from_secs(3), || !init.has_ended()));
    assert_eq!(switches(), before);
    init.signal(9);
}

/// 88: the limit does not hold for root.
fn no_process_can_be_made(way: Way) {
    let end = Setup::new(way).before("ulimit -u 1").start(&["true"]).end();
    assert_ne!(end.code, 0);
    assert!(!end.err.is_empty(), "nothing is said");
}

/// 89: a flood of signals that come before SIGCHLD, and of orphans.
fn a_flood_starves_nobody(way: Way) {
    let script = "trap '' HUP; (for i in $(seq 2000); do (exit 0 &) ; done); echo ready; sleep 0.5; exit 5";
    let mut init = Setup::new(way).start(&["bash", "-c", script]);
    let us = init.pid();
    let mut flood = Command::new("python3")
        .args(["-c", "import os,sys\ntry:\n while 1: os.kill(int(sys.argv[1]), 1)\nexcept OSError: pass"])
        .arg(us.as_raw_nonzero().to_string())
        .spawn()
        .unwrap();
    init.says("ready");
    let code = init.end_quickly();
    flood.kill().unwrap();
    flood.wait().unwrap();
    assert_eq!(code, 5);
}

/// Orphans that come faster than they are reaped keep neither signals nor deadlines from their turn.
fn deadlines_hold_among_many_orphans(way: Way) {
    let script = "import os,signal,time\n\
        signal.signal(15, signal.SIG_IGN)\n\
        for i in range(20):\n\
        \x20 if os.fork() == 0:\n\
        \x20  os.setsid(); end = time.time() + 8\n\
        \x20  while time.time() < end:\n\
        \x20   time.sleep(0.03)\n\
        \x20   if os.fork(): os._exit(0)\n\
        \x20  os._exit(0)\n\
        os.write(1, b'ready\\n')\n\
        time.sleep(100)";
    let mut init = Setup::new(way).options(&["--grace", "2"]).start(&["python3", "-c", script]);
    init.says("ready");
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert_eq!(end.code, 137);
    // The machine is busy with them, too; but they go on for eight seconds.
    assert!(end.took < Duration::from_secs(6), "{:?}: {:?}", end.took, end.err);
}

/// Signals of other programs' write ends do not make it think it were its own.
fn sigpipe_from_others_is_passed_on(way: Way) {
    let mut init = Setup::new(way).start(&shell("echo ready; exec sleep 100"));
    init.says("ready");
    init.signal(13);
    assert_eq!(init.end().code, 141);
}

super::cases! {
    everywhere: a_log_without_a_reader_hurts_nobody, a_log_that_is_full_hurts_nobody, nothing_happens_when_nothing_happens,
        a_flood_starves_nobody, sigpipe_from_others_is_passed_on;
    as_pid1: who_cannot_be_signalled_keeps_its_time, without_proc;
    as_pid1_with_and_without_rights: deadlines_hold_among_many_orphans;
    as_nobody: no_process_can_be_made;
}
