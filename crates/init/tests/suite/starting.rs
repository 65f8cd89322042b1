//! The first moments (18 to 25).

use std::process::{Command, Stdio};

use crate::harness::{Setup, Way, eventually, init, send, shell};

/// 18, 19: a signal that comes before main is a program is not lost. The system calls in question are delayed by strace.
fn a_signal_during_the_start_is_not_lost(way: Way) {
    let _ = way;
    for delayed in ["setpgid", "execve", "setsid"] {
        let mut strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={delayed}")])
            .arg("-e")
            .arg(format!("inject={delayed}:delay_enter=300000:when=1+"))
            .arg(init())
            .args(["--", "sleep", "100"])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is there");
        let strace_pid = rustix::process::Pid::from_child(&strace);
        let mut target = None;
        eventually("the init has a child", || {
            target = crate::harness::children(strace_pid).into_iter().find(|&pid| {
                !crate::harness::children(pid).is_empty() || delayed == "execve" && is_init(pid)
            });
            target.is_some()
        });
        send(target.expect("it is there"), 15);
        let mut status = None;
        eventually(&format!("{delayed}: it ends of the signal"), || {
            status = strace.try_wait().expect("it is our child");
            status.is_some()
        });
        let code = status.and_then(|status| {
            std::os::unix::process::ExitStatusExt::signal(&status).map_or(status.code(), |s| Some(128 + s))
        });
        assert_eq!(code, Some(143), "{delayed}");
    }
}

fn is_init(pid: rustix::process::Pid) -> bool {
    let exe = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()));
    exe.is_ok_and(|exe| exe == init())
}

/// 20: not even the very first one: it is sent before the init runs.
fn a_signal_before_the_start_is_not_lost(way: Way) {
    // A blocked signal stays pending over the execution. What the shell has blocked main finds blocked, too.
    let block =
        "import os,signal,sys; signal.pthread_sigmask(signal.SIG_BLOCK,[15]); os.kill(os.getpid(),15)";
    let before = format!("exec python3 -c '{block}; os.execvp(sys.argv[1], sys.argv[1:])' \"$@\"");
    let unblock = "import signal; signal.pthread_sigmask(signal.SIG_UNBLOCK,[15]); signal.pause()";
    let end = Setup::new(way).before(&before).start(&["python3", "-c", unblock]).end();
    assert_eq!(end.code, 143);
}

/// 18: again and again, as soon as there is a child.
fn a_thousand_signals_right_at_the_start(way: Way) {
    for round in 0..if way == Way::Subreaper { 1000 } else { 50 } {
        let mut init = Setup::new(way).start(&["sleep", "100"]);
        init.main();
        init.signal(15);
        assert_eq!(init.end_quickly(), 143, "round {round}");
    }
}

/// 21
fn a_main_that_ends_at_once(way: Way) {
    for _ in 0..20 {
        assert_eq!(Setup::new(way).start(&["false"]).end_quickly(), 1);
    }
}

/// 22: main and orphans end together, with one SIGCHLD for all.
fn mains_end_is_seen_among_others(way: Way) {
    for _ in 0..5 {
        let end = Setup::new(way)
            .start(&shell("for i in $(seq 50); do (sleep 0.1 &) ; done; sleep 0.1; exit 5"))
            .end_quickly();
        assert_eq!(end, 5);
    }
}

/// 85: the parent has ended before the init could ask to hear of it, or ends later.
fn the_parents_death_is_heard(way: Way) {
    let _ = way;
    // In a session of its own: by its session the init tells whoever has adopted it.
    let run = |script: &str| {
        let output = Command::new("setsid").args(["sh", "-c", script, "sh"]).arg(init()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // `output` waits until nobody has the pipe any more: so the init and main have ended, or this takes 100 s.
    let began = std::time::Instant::now();
    let until_adopted =
        "while read -r _ _ _ parent _ </proc/self/stat && [ \"$parent\" = $$ ]; do sleep 0.01; done";
    assert_eq!(
        run(&format!(
            "({until_adopted}; exec \"$1\" -p KILL -- sh -c 'echo main; exec >&-; exec sleep 100') & exit 0"
        )),
        ""
    );
    assert_eq!(run("sh -c '\"$1\" -p TERM -- sleep 100 & sleep 0.3' sh \"$1\""), "");
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

super::cases! {
    everywhere: a_signal_before_the_start_is_not_lost, a_thousand_signals_right_at_the_start, a_main_that_ends_at_once,
        mains_end_is_seen_among_others;
    as_subreaper: a_signal_during_the_start_is_not_lost, the_parents_death_is_heard;
}
