use super::*;
use crate::{Instance, Terminate};
use gracefully_core::policy::{Policy, Request, Then};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A process that is not our child: the shell that started it is gone. It prints a line when it is ready, and ends at
/// the latest with the test.
struct Stranger {
    pid: u32,
    pidfd: PidFd,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Stranger {
    /// Runs a shell script, whose `read` returns on [`go`](Self::go), until it prints a line.
    fn start(script: &str) -> Self {
        let outer = format!("exec 3<&0; setsid sh -c 'echo $$; {script}' <&3 & exit 0");
        let mut shell = Command::new("sh");
        let mut shell =
            shell.args(["-c", &outer]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (shell.stdin.take(), shell.stdout.take().unwrap());
        shell.wait().unwrap();
        let mut stdout = BufReader::new(stdout);
        let pid = line(&mut stdout).parse().unwrap();
        Self { pid, pidfd: PidFd::open(pid).unwrap(), stdin, stdout }
    }

    fn ready(mut self) -> Self {
        assert_eq!(self.line(), "ready");
        self
    }

    fn line(&mut self) -> String {
        line(&mut self.stdout)
    }

    fn go(&mut self) {
        self.stdin = None;
    }

    fn doing(&self) -> Option<Doing> {
        process::stat(self.pid).map(|stat| stat.state)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.pidfd.send(Signal::KILL);
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Our own child, killed and reaped at the end.
struct Ours(Child);

impl Ours {
    fn sleep() -> Self {
        Self(Command::new("sleep").arg("100").spawn().unwrap())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn find(engine: &Processes, pid: u32) -> Container {
    engine.find(&pid.to_string()).await.unwrap()
}

async fn instance(engine: &Processes, pid: u32) -> Box<dyn Instance> {
    match engine.conductor(&find(engine, pid).await).await.unwrap() {
        Conductor::Caller(instance) => instance,
        Conductor::Monitor(_) => panic!("a process has no monitor"),
    }
}

fn stop() -> Terminate {
    let policy = Policy::resolve(&Request::default(), &Settings::default());
    Terminate { policy, kill_after: None, then: Then::Stay }
}

/// Looks again until `fact` holds.
async fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let wait = async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Linux 6.15 keeps the exit status of strangers.
fn kernel_keeps_exit_status() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 15) {
        eprintln!("SKIPPED: Linux {version:?} does not keep the exit status of other people's children");
    }
    version >= (6, 15)
}

#[tokio::test]
async fn a_process_looks_like_a_container() {
    let engine = Processes::new();
    let sleep = Ours::sleep();
    let pid = sleep.0.id();
    eventually("it is executed", || process::read(pid).is_some_and(|p| !p.command.is_empty())).await;
    let found = find(&engine, pid).await;
    assert_eq!((found.id, found.name), (pid.to_string(), format!("pid:{pid}")));
    assert!(found.image.ends_with("/sleep"), "{}", found.image);
    assert_eq!(found.command, ["sleep", "100"]);
    assert_eq!((found.state, found.pid, found.exit_code), (State::Running, Some(pid), None));
    let age = SystemTime::now().duration_since(found.started.unwrap()).unwrap();
    assert!(age < Duration::from_mins(1), "{age:?}");
    assert!(engine.list(&ListOptions { all: true, ..ListOptions::default() }).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_process_is_not_found() {
    let engine = Processes::new();
    let mut gone = Ours::sleep();
    gone.0.kill().unwrap();
    gone.0.wait().unwrap();
    let gone = gone.0.id().to_string();
    for name in ["", "0", "-1", "+1", "1.0", "web", "99999999999999999999", "4294967295", " 1", gone.as_str()]
    {
        let error = engine.find(name).await.unwrap_err();
        assert_eq!(error.to_string(), format!("No such container: pid:{name}"));
    }
}

#[tokio::test]
async fn inspect_is_shaped_like_dockers() {
    let engine = Processes::new();
    let stranger = Stranger::start("trap : TERM; echo ready; read x").ready();
    let found = find(&engine, stranger.pid).await;
    let json = engine.inspect(&found).await.unwrap();
    assert_eq!(json["Id"], stranger.pid.to_string());
    assert_eq!(json["Path"], "sh");
    assert_eq!(json["Args"][0], "-c");
    assert_eq!(json["State"]["Status"], "running");
    assert_eq!(json["State"]["Pid"], stranger.pid);
    let caught = json["Process"]["SignalsCaught"].as_array().unwrap();
    assert!(caught.contains(&"SIGTERM".into()) && !caught.contains(&"SIGUSR1".into()), "{caught:?}");
    let started = json["State"]["StartedAt"].as_str().unwrap();
    assert_eq!(humantime::parse_rfc3339(started).unwrap(), found.started.unwrap());
}

#[tokio::test]
async fn a_stop_ends_a_stranger_and_tells_its_exit_code() {
    if !kernel_keeps_exit_status() {
        return;
    }
    let engine = Processes::new();
    for (script, status) in [
        ("trap \"exit 0\" TERM; echo ready; read x", ExitStatus::Code(0)),
        ("trap \"exit 7\" TERM; echo ready; read x", ExitStatus::Code(7)),
        ("echo ready; read x", ExitStatus::Signal(Signal::TERM)),
    ] {
        let stranger = Stranger::start(script).ready();
        let instance = instance(&engine, stranger.pid).await;
        assert_eq!((instance.main_pid(), instance.kills_by_itself()), (Some(stranger.pid), false));
        instance.terminate(&stop()).await.unwrap();
        assert_eq!(instance.exited().await.unwrap(), status);
        // Late orders reach nobody and are no error.
        instance.terminate(&stop()).await.unwrap();
        instance.kill().await.unwrap();
    }
}

#[tokio::test]
async fn who_ignores_the_stop_signal_is_killed() {
    let engine = Processes::new();
    let mut stranger =
        Stranger::start("trap \"\" TERM; echo ready; read x; echo alive; read x; read x").ready();
    let instance = instance(&engine, stranger.pid).await;
    instance.terminate(&stop()).await.unwrap();
    stranger.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(stranger.line(), "alive");
    instance.kill().await.unwrap();
    let status = instance.exited().await.unwrap();
    assert!(matches!(status, ExitStatus::Signal(Signal::KILL) | ExitStatus::Unknown), "{status}");
}

#[tokio::test]
async fn a_stopped_process_is_continued_to_handle_its_signal() {
    let engine = Processes::new();
    let mut stranger = Stranger::start("trap \"echo bye; exit 3\" TERM; echo ready; read x").ready();
    stranger.pidfd.send(Signal::STOP).unwrap();
    eventually("it is stopped", || stranger.doing() == Some(Doing::Stopped)).await;
    let instance = instance(&engine, stranger.pid).await;
    instance.terminate(&stop()).await.unwrap();
    instance.exited().await.unwrap();
    assert_eq!(stranger.line(), "bye");
}

#[tokio::test]
async fn the_signal_goes_to_the_target_alone() {
    let engine = Processes::new();
    let mut stranger = Stranger::start("sleep 100 & echo $!; wait");
    let child: u32 = stranger.line().parse().unwrap();
    let child = PidFd::open(child).unwrap();
    let instance = instance(&engine, stranger.pid).await;
    instance.terminate(&stop()).await.unwrap();
    instance.exited().await.unwrap();
    assert!(!child.has_exited());
    child.send(Signal::KILL).unwrap();
}

#[tokio::test]
async fn wait_tells_the_exit_code() {
    if !kernel_keeps_exit_status() {
        return;
    }
    let engine = Processes::new();
    for code in [0, 7, 255] {
        let mut stranger = Stranger::start(&format!("read x; exit {code}"));
        let found = find(&engine, stranger.pid).await;
        // The wait begins first.
        let (waited, ()) = tokio::join!(biased; engine.wait(&found), async { stranger.go() });
        assert_eq!(waited.unwrap(), code);
    }
    let killed = Stranger::start("read x");
    let found = find(&engine, killed.pid).await;
    let (code, signal) = tokio::join!(biased; engine.wait(&found), engine.signal(&found, Signal::KILL));
    signal.unwrap();
    assert_eq!(code.unwrap(), 137);
}

#[tokio::test]
async fn wait_for_who_is_long_gone_explains_itself() {
    let engine = Processes::new();
    let mut sleep = Ours::sleep();
    let found = find(&engine, sleep.0.id()).await;
    sleep.0.kill().unwrap();
    sleep.0.wait().unwrap();
    let error = engine.wait(&found).await.unwrap_err();
    assert!(error.to_string().contains("exit code is unknown"), "{error}");
    engine.wait_removed(&found).await.unwrap();
}

#[tokio::test]
async fn a_zombie_has_ended() {
    let engine = Processes::new();
    let child = Ours(Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap());
    let pidfd = PidFd::open(child.0.id()).unwrap();
    exited(&pidfd).await.unwrap();
    let found = find(&engine, child.0.id()).await;
    assert_eq!((found.state, found.pid, found.exit_code), (State::Exited, None, Some(7)));
    assert_eq!(engine.wait(&found).await.unwrap(), 7);
    let error = engine.signal(&found, Signal::TERM).await.unwrap_err();
    assert!(matches!(error, Error::NotRunning { .. }), "{error}");
}

#[tokio::test]
async fn a_recycled_pid_is_not_signalled() {
    let engine = Processes::new();
    let mut sleep = Ours::sleep();
    let found = find(&engine, sleep.0.id()).await;
    // As if the process that was found had been started a tick earlier and this were a later one with its PID.
    let tick = Duration::from_millis(1000 / StartTime::TICKS_PER_SECOND);
    let earlier = Container { started: Some(found.started.unwrap() - tick), ..found.clone() };
    for error in [
        engine.signal(&earlier, Signal::KILL).await.unwrap_err(),
        engine.conductor(&earlier).await.unwrap_err(),
        engine.inspect(&earlier).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::NotRunning { .. }), "{error}");
    }
    assert!(sleep.0.try_wait().unwrap().is_none(), "it lives");
    engine.signal(&found, Signal::KILL).await.unwrap();
}

#[test]
fn the_start_time_comes_back_exactly() {
    let engine = Processes::new();
    let sleep = Ours::sleep();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(find(&engine, sleep.0.id()));
    for ticks in [0, 1, 7, 99, 100, 207_741, 1 << 40] {
        let start = StartTime::from_ticks(ticks);
        let container = Container { started: Some(engine.wall_clock(start)), ..found.clone() };
        assert_eq!(engine.start_time(&container), Some(start));
    }
}

#[tokio::test]
async fn whoever_would_stop_the_caller_is_refused() {
    let engine = Processes::new();
    let parent = process::stat(std::process::id()).unwrap().parent;
    for (pid, why) in [(1, "the init"), (std::process::id(), "itself"), (parent, "")] {
        let found = find(&engine, pid).await;
        let errors = [
            engine.conductor(&found).await.map(drop).unwrap_err(),
            engine.signal(&found, Signal::TERM).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}

#[tokio::test]
async fn what_a_process_cannot_do_is_said_before_anything_happens() {
    let engine = Processes::new();
    let mut sleep = Ours::sleep();
    let found = find(&engine, sleep.0.id()).await;
    let instance = instance(&engine, sleep.0.id()).await;
    let request = Request { then: Then::Start, ..Request::default() };
    let policy = Policy::resolve(&request, &Settings::default());
    let restart = Terminate { policy, then: Then::Start, ..stop() };
    for error in [
        engine.start(&found).await.unwrap_err(),
        engine.remove(&found, Removal::default()).await.unwrap_err(),
        engine.logs(&found, &LogOptions::default()).await.map(drop).unwrap_err(),
        instance.start().await.unwrap_err(),
        instance.check(&policy).unwrap_err(),
        instance.terminate(&restart).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
    assert!(sleep.0.try_wait().unwrap().is_none(), "it lives");
}

/// The other half of [`another_users_process_is_refused_by_name`]: run as nobody, with the PID in the environment.
#[tokio::test]
#[ignore = "run as nobody by another_users_process_is_refused_by_name"]
async fn as_nobody() {
    let pid: u32 = std::env::var("TARGET").unwrap().parse().unwrap();
    let instance = instance(&Processes::new(), pid).await;
    for error in [
        instance.check(&stop().policy).unwrap_err(),
        instance.terminate(&stop()).await.unwrap_err(),
        instance.kill().await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("to pid {pid} (sleep), which runs as user 0")), "{text}");
    }
}

#[tokio::test]
async fn another_users_process_is_refused_by_name() {
    let may_switch = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "true"]).status();
    if !may_switch.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: needs root and setpriv to become nobody");
        return;
    }
    let mut sleep = Ours::sleep();
    let pid = sleep.0.id();
    eventually("it is executed", || process::stat(pid).is_some_and(|stat| stat.name == "sleep")).await;
    let mut again = Command::new("setpriv");
    again.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(std::env::current_exe().unwrap());
    again.args(["--ignored", "--exact", "process::tests::as_nobody"]).env("TARGET", pid.to_string());
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(sleep.0.try_wait().unwrap().is_none(), "it lives");
}
