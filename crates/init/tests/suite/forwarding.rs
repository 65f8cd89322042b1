//! Signals are passed on, and may be rewritten (1 to 17).

use crate::harness::{Setup, Way, eventually, python, send, shell, status, stays};

/// 1: main has no handlers.
fn default_actions_end_main(way: Way) {
    for (signal, code) in [(15, 143), (10, 138), (12, 140)] {
        let mut init = Setup::new(way).start(&shell("echo ready; exec sleep 100"));
        init.says("ready");
        init.signal(signal);
        assert_eq!(init.end().code, code, "signal {signal}");
    }
}

/// 2, 3, 5: every signal that can be caught comes once, those of faults from outside and the real-time ones included.
fn every_signal_comes_once(way: Way) {
    let mut init = Setup::new(way).start(&python("catch all"));
    init.says("ready");
    // SIGCHLD is for the init; the terminal's stop signals would stop it where it is not PID 1; SIGCONT wakes what is stopped.
    // The stop signal is the last, because SIGCONT follows it.
    let others = (1..=64).filter(|n| ![9, 15, 17, 18, 19, 20, 21, 22, 32, 33].contains(n));
    for signal in others.chain([15]) {
        init.signal(signal);
        assert_eq!(init.line(), format!("got {signal}"));
    }
    init.signal(9);
}

/// 4
fn sigchld_is_not_passed_on(way: Way) {
    let mut init = Setup::new(way).start(&python("catch 17,10"));
    init.says("ready");
    init.signal(17);
    init.signal(10);
    assert_eq!(init.line(), "got 10");
    init.signal(9);
}

/// 6, 7, 9
fn signals_are_rewritten(way: Way) {
    let options = ["-r", "15:3", "-r", "INT:0", "--rewrite", "28:0", "-r", "SIGUSR1:USR2"];
    let mut init = Setup::new(way).options(&options).start(&python("catch 1,2,3,10,12,15,28 flush 0 code 5"));
    init.says("ready");
    for (signal, got) in [(2, None), (28, None), (1, Some("got 1")), (10, Some("got 12")), (15, None)] {
        init.signal(signal);
        if let Some(got) = got {
            assert_eq!(init.line(), got);
        }
    }
    let end = init.end();
    assert_eq!(
        (end.code, &end.out[1..]),
        (5, &["got 1", "got 12", "got 3", "flushed"].map(str::to_owned)[..])
    );
}

/// 8
fn a_rewrite_that_is_none_starts_nothing(way: Way) {
    for bad in ["", "herp", "herp:derp", "15", "15::12", "15:derp", "1:32"] {
        let end = Setup::new(way).options(&["-r", bad]).start(&["touch", "/dev/null/never"]).end();
        assert_eq!(end.code, 1, "{bad:?}");
        assert!(end.err.iter().any(|line| line.contains("rewrite")), "{bad:?}: {:?}", end.err);
    }
}

/// 10: what the terminal's signals are rewritten to comes through, and stops nobody.
fn stop_signals_of_the_terminal_are_rewritten(way: Way) {
    let options = ["-r", "TSTP:USR1", "-r", "TTIN:USR2", "-r", "TTOU:HUP"];
    let mut init = Setup::new(way).options(&options).start(&python("catch 1,10,12,15"));
    init.says("ready");
    for (signal, got) in [(20, 10), (21, 12), (22, 1)] {
        init.signal(signal);
        assert_eq!(init.line(), format!("got {got}"));
    }
    init.signal(15);
    assert_eq!(init.end().code, 0);
}

/// 11, 12: not PID 1, it stops with main and goes on with main.
fn a_stop_by_the_terminal_means_both(way: Way) {
    let mut init =
        Setup::new(way).start(&shell("trap 'echo continued' CONT; echo ready; while :; do sleep 0.01; done"));
    init.says("ready");
    let (us, main) = (init.pid(), init.main());
    init.signal(20);
    eventually("both are stopped", || [us, main].iter().all(|&pid| status(pid, "State").starts_with('T')));
    init.signal(18);
    init.says("continued");
    eventually("both go on", || [us, main].iter().all(|&pid| !status(pid, "State").starts_with('T')));
    init.signal(15);
    assert_eq!(init.end().code, 143);
}

/// 13: PID 1 cannot be stopped, so main is not.
fn main_is_never_left_stopped(way: Way) {
    let mut init = Setup::new(way).start(&shell("echo ready; exec sleep 100"));
    init.says("ready");
    let main = init.main();
    for signal in [20, 21, 22] {
        init.signal(signal);
    }
    // A signal that came after them has been passed on.
    init.signal(28);
    assert!(stays(std::time::Duration::from_millis(200), || !status(main, "State").starts_with('T')));
    // Somebody in the container, or Ctrl-Z.
    send(main, 20);
    eventually("it goes on", || !status(main, "State").starts_with('T'));
    init.signal(15);
    assert_eq!(init.end().code, 143);
}

/// 14: a further stop signal comes through, and nothing begins anew.
fn a_second_stop_signal_comes_through(way: Way) {
    let mut init = Setup::new(way)
        .options(&["--grace", "2"])
        .start(&shell("trap 'echo term' TERM; echo ready; while :; do sleep 0.01; done"));
    init.says("ready");
    init.restart_clock();
    for _ in 0..3 {
        init.signal(15);
        init.says("term");
    }
    let end = init.end();
    assert_eq!(end.code, 137);
    assert!((1.7..3.0).contains(&end.took.as_secs_f64()), "{:?}", end.took);
}

/// 15: what would have been ignored by a PID 1 ends main behind an init; it is said how that is avoided.
fn a_death_by_a_harmless_signal_is_explained(way: Way) {
    let mut init = Setup::new(way).start(&shell("echo ready; exec sleep 100"));
    init.says("ready");
    init.signal(12);
    let end = init.end();
    assert_eq!(end.code, 140);
    assert!(end.err.iter().any(|line| line.contains("SIGUSR2") && line.contains("-r 12:0")), "{:?}", end.err);
}

/// 16: workers that main stops get one signal, not two.
fn workers_are_signalled_once(way: Way) {
    let script = "import os,signal,sys,time\n\
        me=os.getpid()\n\
        w=[]\n\
        for i in range(3):\n\
        \x20 p=os.fork()\n\
        \x20 if p==0:\n\
        \x20  n=[0]\n\
        \x20  signal.signal(15,lambda *a: n.__setitem__(0,n[0]+1))\n\
        \x20  os.write(1,b'ready\\n')\n\
        \x20  while not n[0]: signal.pause()\n\
        \x20  time.sleep(0.3)\n\
        \x20  os.write(1,b'%d terms\\n'%n[0]); os._exit(0)\n\
        \x20 w.append(p)\n\
        signal.signal(15,lambda *a: [os.kill(p,15) for p in w])\n\
        os.write(1,b'ready\\n')\n\
        for p in w: os.waitpid(p,0)";
    let mut init = Setup::new(way).start(&["python3", "-c", script]);
    (0..4).for_each(|_| init.says("ready"));
    init.signal(15);
    let end = init.end();
    assert_eq!(end.out.iter().filter(|line| *line == "1 terms").count(), 3, "{:?}", end.out);
}

/// `-g`: the whole group of main.
fn a_group_is_signalled_as_one(way: Way) {
    let script = "python3 \"$0\" flush 0 & python3 \"$0\" flush 0 & wait; wait";
    let mut init = Setup::new(way).options(&["-g"]).start(&["sh", "-c", script, crate::harness::app()]);
    (0..2).for_each(|_| init.says("ready"));
    init.signal(15);
    let end = init.end();
    assert_eq!(end.out.iter().filter(|line| *line == "got 15").count(), 2, "once each: {:?}", end.out);
    assert_eq!(end.code, 143);
}

super::cases! {
    everywhere: stop_signals_of_the_terminal_are_rewritten, default_actions_end_main, every_signal_comes_once, sigchld_is_not_passed_on, signals_are_rewritten,
        a_rewrite_that_is_none_starts_nothing, workers_are_signalled_once, a_group_is_signalled_as_one,
        a_second_stop_signal_comes_through, a_death_by_a_harmless_signal_is_explained;
    as_subreaper: a_stop_by_the_terminal_means_both;
    as_pid1_with_and_without_rights: main_is_never_left_stopped;
}
