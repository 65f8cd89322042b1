use super::*;
use crate::testing::{Program, ended, eventually, installed};
use crate::{PidFd, family};
use gracefully_core::diagnosis::{Reaction, State};
use gracefully_core::event::ExitStatus;
use gracefully_core::signal::Signal;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::{format, vec};

fn look(pid: u32) -> Process {
    read(pid).expect("it is there")
}

#[test]
fn the_words_of_a_command_line() {
    assert_eq!(command(b"python3\0app.py\0"), ["python3", "app.py"]);
    assert_eq!(command(b"sh\0-c\0\0x y\0"), ["sh", "-c", "", "x y"]);
    assert_eq!(command(b"npm start\0\0\0\0\0"), ["npm start"]);
    assert_eq!(command(b"nginx: master process"), ["nginx: master process"], "no zero at all");
    assert_eq!(command(b"\xff\0"), ["\u{fffd}"]);
    assert_eq!(command(b""), [""; 0]);
    assert_eq!(command(b"\0\0"), [""; 0]);
}

#[test]
fn a_sleeping_program() {
    let sleep = Program::start("sleep", &["1000"]);
    eventually("it sleeps", || look(sleep.pid()).state == State::Sleeping);
    let process = look(sleep.pid());
    assert_eq!((process.pid, process.inner_pid), (sleep.pid(), sleep.pid()));
    assert_eq!((process.name.as_str(), process.command), ("sleep", vec!["sleep".into(), "1000".into()]));
    assert_eq!(process.caught, 0);
    assert!(process.age < Duration::from_mins(1), "{:?}", process.age);
    assert!(executable(sleep.pid()).unwrap().ends_with("/sleep"));
    assert_eq!(stat(sleep.pid()).unwrap().parent, std::process::id());
    assert_eq!(owner(sleep.pid()), Some(rustix::process::geteuid().as_raw()));
}

#[test]
fn a_shell_with_a_trap_catches() {
    let (shell, _) = Program::shell("trap 'echo bye' TERM; trap '' HUP; echo ready; read x");
    let process = look(shell.pid());
    assert_eq!(process.reaction(Signal::TERM), Reaction::Handles);
    assert_eq!(process.reaction(Signal::HUP), Reaction::Ignores);
    assert_eq!(process.reaction(Signal::USR1), Reaction::Default);
}

#[test]
fn sigwait_hides_the_signal_from_the_masks_and_is_seen_all_the_same() {
    if !installed("python3") {
        return;
    }
    let python = Program::start("python3", &["-c", "import signal; signal.sigwait([signal.SIGTERM, 37])"]);
    // No shell that may stand in front of it ever blocks a real-time signal.
    let rare = "RTMIN+3".parse().unwrap();
    eventually("it waits", || look(python.pid()).reaction(rare) == Reaction::Awaits);
    let process = look(python.pid());
    assert_eq!(process.reaction(Signal::TERM), Reaction::Awaits);
    assert_eq!(process.reaction(Signal::HUP), Reaction::Default);
}

#[test]
fn a_blocked_signal_is_kept_for_whoever_collects_it() {
    if !installed("python3") {
        return;
    }
    let script =
        "import signal as s; s.pthread_sigmask(s.SIG_BLOCK, [s.SIGTERM]); print(flush=True); s.pause()";
    let mut python = Program::start("python3", &["-c", script]);
    python.line();
    assert_eq!(look(python.pid()).reaction(Signal::TERM), Reaction::Awaits);
}

#[test]
fn the_inits_of_containers_await() {
    for init in ["tini", "catatonit"] {
        if installed(init) {
            let args: &[&str] = if init == "tini" { &["-s", "--"] } else { &["--"] };
            let init = Program::start(init, &[args, &["sleep", "1000"]].concat());
            eventually("it waits", || look(init.pid()).reaction(Signal::TERM) == Reaction::Awaits);
            // An init is never seen without its signals, however often one looks.
            for _ in 0..1000 {
                assert_eq!(look(init.pid()).reaction(Signal::TERM), Reaction::Awaits);
            }
            for pid in family::descendants(init.pid()) {
                PidFd::open(pid).unwrap().send(Signal::KILL).unwrap();
            }
        }
    }
}

#[test]
fn who_may_not_trace_knows_that_something_may_be_hidden() {
    if !rustix::process::geteuid().is_root() || !installed("setpriv") {
        std::eprintln!("SKIPPED: needs root to give up its rights");
        return;
    }
    // PID 1 is root's; the test runs itself again as nobody.
    let this = std::env::current_exe().unwrap();
    let mut again = Command::new("setpriv");
    again.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]);
    again.arg(this).args(["--ignored", "--exact", "process::tests::as_nobody"]);
    let output = again.output().unwrap();
    if output.status.code() == Some(126) || output.status.code() == Some(127) {
        std::eprintln!("SKIPPED: nobody cannot execute the test");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
#[ignore = "run as nobody by who_may_not_trace_knows_that_something_may_be_hidden"]
fn as_nobody() {
    let init = look(1);
    assert!(init.awaited_hidden);
    assert_eq!(init.wait_channel, None);
    assert_eq!(executable(1), None);
    let us = look(std::process::id());
    assert!(!us.awaited_hidden);
}

#[test]
fn a_stopped_process() {
    let sleep = Program::start("sleep", &["1000"]);
    PidFd::open(sleep.pid()).unwrap().send(Signal::STOP).unwrap();
    eventually("it is stopped", || look(sleep.pid()).state == State::Stopped);
}

#[test]
fn a_zombie_has_no_command_and_an_exit_code() {
    let sh = Program::start("sh", &["-c", "exit 7"]);
    ended(PidFd::open(sh.pid()).unwrap());
    let process = look(sh.pid());
    assert_eq!((process.state, process.command, process.wait_channel), (State::Zombie, vec![], None));
    assert_eq!(stat(sh.pid()).unwrap().ended, Some(ExitStatus::Code(7)));
    assert_eq!(executable(sh.pid()), None);
}

#[test]
fn a_process_that_is_gone_is_none() {
    let mut sleep = Program::start("sleep", &["1000"]);
    sleep.end();
    let pid = sleep.pid();
    assert_eq!(read(pid), None);
    assert_eq!((stat(pid), start_time(pid), executable(pid), owner(pid)), (None, None, None, None));
    assert_eq!((read(0), read(u32::MAX)), (None, None));
}

#[test]
fn a_process_may_vanish_between_any_two_reads() {
    // Reads processes while they come and go; what counts is that nothing panics and nothing is mixed up.
    let (shell, first) = Program::shell("while :; do sh -c 'echo $$'; done");
    let pid: u32 = first.parse().unwrap();
    let mut seen = 0;
    for _ in 0..2000 {
        for child in family::descendants(shell.pid()) {
            if let Some(process) = read(child) {
                assert_eq!(process.pid, child);
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "after {pid} no child was seen");
}

#[test]
fn hostile_names_and_command_lines() {
    let dir = std::env::temp_dir().join(format!("gracefully-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(") R 1 (");
    std::fs::copy("/bin/sleep", &path).unwrap();

    let argument = std::ffi::OsStr::from_bytes(b"\xff\x1b[2J\n");
    let script = "kill -STOP $$";
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(argument).arg("x".repeat(100_000));
    let shell = Program::spawn(&mut shell);
    eventually("it is stopped", || look(shell.pid()).state == State::Stopped);
    let process = look(shell.pid());
    assert_eq!(process.command[3], "\u{fffd}\u{1b}[2J\n");
    assert_eq!(process.command.iter().map(|word| word.len() + 1).sum::<usize>(), COMMAND_LINE + 3);

    let named = Program::start(path.to_str().unwrap(), &["1000"]);
    let process = look(named.pid());
    assert_eq!(process.name, ") R 1 (");
    assert_eq!(stat(named.pid()).unwrap().parent, std::process::id());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_start_time_is_the_same_at_every_look() {
    let sleep = Program::start("sleep", &["1000"]);
    let first = start_time(sleep.pid()).unwrap();
    assert_eq!(start_time(sleep.pid()), Some(first));
    assert!(first <= start_time(Program::start("true", &[]).pid()).unwrap());
}
