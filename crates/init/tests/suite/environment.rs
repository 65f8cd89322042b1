//! What main finds (26 to 32).

use std::process::Stdio;

use crate::harness::{Setup, Way, python, shell, status};

/// The lines of `/proc/self/status` about signals, of a program that was started behind an init in this way.
fn masks(way: Way, before: &str) -> Vec<String> {
    // grep would have a handler for SIGSEGV.
    let end = Setup::new(way).before(before).start(&["cat", "/proc/self/status"]).end();
    assert_eq!(end.code, 0, "{end:?}");
    // 32 and 33 belong to the threads library, and whoever has started us may have left them ignored.
    let ours = |line: &String| {
        let (name, mask) = line.split_once('\t').unwrap();
        format!("{name}\t{:016x}", u64::from_str_radix(mask, 16).unwrap() & !(0b11 << 31))
    };
    end.out.iter().filter(|line| line.starts_with("SigBlk") || line.starts_with("SigIgn")).map(ours).collect()
}

/// 26, 27, 28: what is blocked and ignored is inherited as it is, and nothing else.
fn masks_are_handed_through(way: Way) {
    let python = |script: &str| {
        format!(
            "exec python3 -c 'import os,signal,sys; {script}; os.execvp(sys.argv[1], sys.argv[1:])' \"$@\""
        )
    };
    // Python itself ignores SIGPIPE and SIGXFSZ.
    let clean = "signal.signal(13, signal.SIG_DFL); signal.signal(25, signal.SIG_DFL)";
    let cases = [
        (clean.to_owned(), 0, 0),
        (format!("{clean}; signal.signal(13, signal.SIG_IGN)"), 0, 1 << 12),
        (format!("{clean}; signal.signal(17, signal.SIG_IGN)"), 0, 1 << 16),
        (
            format!(
                "{clean}; [signal.signal(n, signal.SIG_IGN) for n in (22, 11, 2)]; \
                 signal.pthread_sigmask(signal.SIG_SETMASK, [21, 4, 15])"
            ),
            1 << 20 | 1 << 3 | 1 << 14,
            1_u64 << 21 | 1 << 10 | 1 << 1,
        ),
    ];
    for (script, blocked, ignored) in cases {
        let expected = [format!("SigBlk:\t{blocked:016x}"), format!("SigIgn:\t{ignored:016x}")];
        assert_eq!(masks(way, &python(&script)), expected, "{script}");
    }
}

/// 28: ignored children must not make it miss main's end.
fn main_is_seen_to_end_though_children_were_ignored(way: Way) {
    let end = Setup::new(way).before("trap '' CHLD").start(&shell("exit 5")).end();
    assert_eq!(end.code, 5);
}

/// 29
fn main_stays_in_the_directory_and_the_init_does_not(way: Way) {
    let mut init = Setup::new(way).before("cd /tmp").start(&shell("pwd; exec sleep 100"));
    assert_eq!(init.line(), "/tmp");
    let link = format!("/proc/{}/cwd", init.pid().as_raw_nonzero());
    crate::harness::eventually("it has left", || {
        std::fs::read_link(&link).is_ok_and(|link| link.as_os_str() == "/")
    });
    init.signal(9);
}

/// 30: what was left open is main's alone: its other end waits for main and not for the init.
fn the_init_holds_nothing_open(way: Way) {
    let mut init = Setup::new(way)
        .before("exec 7</etc/hostname 8>/dev/null")
        .start(&shell("echo ready; exec sleep 100"));
    init.says("ready");
    // One may be closed while we look.
    let open = |pid: rustix::process::Pid| {
        let files = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap();
        files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok()).collect::<Vec<_>>()
    };
    assert!(open(init.main()).contains(&"/etc/hostname".into()));
    let us = init.pid();
    crate::harness::eventually("it is closed", || open(us).iter().all(|file| !file.ends_with("hostname")));
    init.signal(9);
}

/// 31
fn listen_pid_is_mains(way: Way) {
    let before = "export LISTEN_PID=$$ LISTEN_FDS=1";
    let end = Setup::new(way).before(before).start(&shell("echo $LISTEN_PID $$ $LISTEN_FDS")).end();
    let words: Vec<_> = end.out[0].split(' ').collect();
    assert_eq!((words[0], words[2]), (words[1], "1"));
    let end = Setup::new(way).variable("LISTEN_PID", "77777").start(&shell("echo $LISTEN_PID")).end();
    assert_eq!(end.out, ["77777"], "somebody else's");
}

/// 32
fn standard_input_is_mains(way: Way) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"exit 6\n").unwrap();
    drop(writer);
    assert_eq!(Setup::new(way).stdin(Stdio::from(reader)).start(&["sh"]).end().code, 6);
}

/// 50
fn closed_standard_descriptors(way: Way) {
    let end = Setup::new(way).before("exec <&-").start(&shell("[ -e /proc/self/fd/0 ] || exit 3")).end();
    assert_eq!(end.code, 3, "{:?}", end.err);
    let end = Setup::new(way).before("exec 2>&-").start(&shell("[ -e /proc/self/fd/2 ] || exit 3")).end();
    assert_eq!(end.code, 3);
}

/// Main's groups and capabilities are the init's.
fn it_needs_no_rights_of_its_own(way: Way) {
    let mut init = Setup::new(way).start(&python("flush 0 code 4"));
    init.says("ready");
    let (us, main) = (init.pid(), init.main());
    for field in ["Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"] {
        assert_eq!(status(us, field), status(main, field), "{field}");
    }
    init.signal(15);
    assert_eq!(init.end().code, 4);
}

super::cases! {
    everywhere: masks_are_handed_through, main_is_seen_to_end_though_children_were_ignored,
        main_stays_in_the_directory_and_the_init_does_not, the_init_holds_nothing_open, listen_pid_is_mains,
        standard_input_is_mains, closed_standard_descriptors, it_needs_no_rights_of_its_own;
}
