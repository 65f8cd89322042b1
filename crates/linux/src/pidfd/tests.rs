use super::*;
use crate::testing::{Program, ended, installed};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::string::String;
use std::vec::Vec;

/// A process that is not our child: the shell that started it is gone.
struct Stranger {
    pidfd: PidFd,
    // Keeps the pipe that the stranger reads from.
    stdin: Option<ChildStdin>,
}

impl Stranger {
    /// Runs a shell script after it got a line from us.
    fn start(script: &str) -> Self {
        // A background job gets /dev/null as its input unless it is told otherwise.
        let outer = format!("exec 3<&0; setsid sh -c 'echo $$; read x; {script}' <&3 & exit 0");
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", &outer]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        // wait() would close it.
        let stdin = shell.stdin.take();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        shell.wait().unwrap();
        let pidfd = PidFd::open(line.trim().parse().unwrap()).unwrap();
        Self { pidfd, stdin }
    }

    fn go(&mut self) {
        // Closing is a line as well.
        self.stdin = None;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.pidfd.send(Signal::KILL);
    }
}

/// Linux 6.15 keeps the exit status of strangers.
fn kernel_keeps_exit_status() -> bool {
    let release = rustix::system::uname();
    let mut numbers = release.release().to_str().unwrap().split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 15) {
        std::eprintln!("SKIPPED: Linux {version:?} does not keep the exit status of other people's children");
    }
    version >= (6, 15)
}

fn zombie_of(script: &str) -> (Program, PidFd) {
    let program = Program::start("sh", &["-c", script]);
    let pidfd = PidFd::open(program.pid()).unwrap();
    ended(&pidfd);
    (program, pidfd)
}

#[test]
fn a_running_process_has_no_exit_status() {
    let sleep = Program::start("sleep", &["100"]);
    let pidfd = PidFd::open(sleep.pid()).unwrap();
    assert_eq!(pidfd.pid(), sleep.pid());
    assert_eq!(Some(pidfd.start_time()), crate::process::start_time(sleep.pid()));
    assert!(!pidfd.has_exited());
    assert_eq!(pidfd.exit_status(), None);
}

#[test]
fn a_zombie_tells_how_it_ended_and_takes_signals_in_silence() {
    for (script, status) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 7", ExitStatus::Code(7)),
        ("kill -TERM $$", ExitStatus::Signal(Signal::TERM)),
        ("kill -KILL $$", ExitStatus::Signal(Signal::KILL)),
    ] {
        let (_zombie, pidfd) = zombie_of(script);
        assert!(pidfd.has_exited());
        assert_eq!(pidfd.exit_status(), Some(status), "{script}");
        assert_eq!(pidfd.send(Signal::TERM), Ok(()));
    }
}

#[test]
fn who_is_reaped_gets_no_signal() {
    let (mut zombie, pidfd) = zombie_of("exit 7");
    zombie.reap();
    assert!(pidfd.has_exited());
    assert_eq!(pidfd.send(Signal::TERM), Err(Errno::SRCH));
    if kernel_keeps_exit_status() {
        assert_eq!(pidfd.exit_status(), Some(ExitStatus::Code(7)));
    }
}

#[test]
fn every_exit_code_of_a_process_that_is_not_our_child() {
    if !kernel_keeps_exit_status() {
        return;
    }
    for code in [0, 1, 7, 126, 137, 255] {
        let mut stranger = Stranger::start(&format!("exit {code}"));
        assert_eq!(stranger.pidfd.exit_status(), None);
        stranger.go();
        ended(&stranger.pidfd);
        assert_eq!(stranger.pidfd.exit_status(), Some(ExitStatus::Code(code)));
    }
}

#[test]
fn every_signal_that_ends_a_process_that_is_not_our_child() {
    if !kernel_keeps_exit_status() {
        return;
    }
    for signal in ["TERM", "KILL", "USR1", "RTMIN", "RTMAX-1", "RTMAX"] {
        let signal: Signal = signal.parse().unwrap();
        let stranger = Stranger::start("exit 0");
        stranger.pidfd.send(signal).unwrap();
        ended(&stranger.pidfd);
        assert_eq!(stranger.pidfd.exit_status(), Some(ExitStatus::Signal(signal)));
    }
}

#[test]
fn the_identity_is_pid_and_start_time() {
    let sleep = Program::start("sleep", &["100"]);
    let pidfd = PidFd::open(sleep.pid()).unwrap();
    assert!(PidFd::open_expecting(sleep.pid(), pidfd.start_time()).is_ok());
    let earlier = StartTime::from_ticks(pidfd.start_time().ticks() - 1);
    let error = PidFd::open_expecting(sleep.pid(), earlier).unwrap_err();
    assert_eq!(error, OpenError::Recycled { pid: sleep.pid() });
}

#[test]
fn a_recycled_pid_is_another_process() {
    if !rustix::process::geteuid().is_root() || !installed("unshare") || !installed("python3") {
        std::eprintln!("SKIPPED: needs root, unshare and python3");
        return;
    }
    // In a PID namespace of its own the next PID can be chosen: ns_last_pid (`pid_namespaces(7)`).
    let script = "import os, sys, time\n\
        def child():\n    open('/proc/sys/kernel/ns_last_pid', 'w').write('99')\n    r, w = os.pipe()\n    p = os.fork()\n    \
        if p == 0:\n        os.close(w); os.read(r, 1); os._exit(0)\n    return p, w\n\
        p, w = child(); print(p, flush=True); sys.stdin.read(1)\n\
        os.close(w); os.waitpid(p, 0)\n\
        q, w = child(); print(q, flush=True); sys.stdin.read(1)";
    let mut unshare = Command::new("unshare");
    unshare.args(["--fork", "--pid", "--mount-proc", "--kill-child", "python3", "-c", script]);
    let mut unshare = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(unshare.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let outside = unshare.id();
    let held = |inner: u32| {
        let members = crate::family::descendants(outside);
        let processes: Vec<_> = members.into_iter().filter_map(crate::process::read).collect();
        let found = processes.iter().find(|p| p.inner_pid == inner).expect("the child");
        PidFd::open(found.pid).unwrap()
    };
    let inner: u32 = next().parse().unwrap();
    let first = held(inner);
    unshare.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    assert_eq!(next().parse(), Ok(inner), "the PID is given away again");
    let second = held(inner);
    assert!(first.has_exited());
    assert_eq!(first.send(Signal::TERM), Err(Errno::SRCH), "the signal does not reach the second");
    assert!(!second.has_exited());
    unshare.kill().unwrap();
    unshare.wait().unwrap();
}

#[test]
fn numbers_that_are_no_process() {
    let mut sleep = Program::start("sleep", &["100"]);
    sleep.end();
    for pid in [0, sleep.pid(), u32::MAX, i32::MAX.unsigned_abs()] {
        assert_eq!(PidFd::open(pid).unwrap_err(), OpenError::NoSuchProcess { pid });
    }
}

#[test]
fn a_thread_is_no_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()).unwrap();
        wait.recv()
    });
    let pid = told.recv().unwrap();
    assert_eq!(PidFd::open(pid).unwrap_err(), OpenError::NoSuchProcess { pid });
    drop(end);
    thread.join().unwrap().unwrap_err();
}

#[test]
fn a_proc_of_another_namespace_is_noticed() {
    if !rustix::process::geteuid().is_root() || !installed("unshare") {
        std::eprintln!("SKIPPED: needs root and unshare");
        return;
    }
    // Without --mount-proc, /proc still shows the namespace outside.
    let this = std::env::current_exe().unwrap();
    let mut inside = Command::new("unshare");
    inside.args(["--fork", "--pid", "--kill-child"]).arg(this);
    let output = inside.args(["--ignored", "--exact", "pidfd::tests::inside_a_namespace"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run in a PID namespace by a_proc_of_another_namespace_is_noticed"]
fn inside_a_namespace() {
    assert_eq!(PidFd::open(std::process::id()).unwrap_err(), OpenError::ForeignProc);
}
