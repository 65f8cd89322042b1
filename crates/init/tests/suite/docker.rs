//! In Docker: in an image, by the example's Dockerfile, and as the daemon's own `--init` (`cargo xtask test` starts a daemon with
//! `--init-path`).

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::{eventually, is_ours, skip};

const IMAGE: &str = "gracefully-test/init";
const VICTIM: &str = "gracefully-test/victim";

/// A container that is removed in the end.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = docker(&["rm", "--force", &self.0]);
    }
}

fn docker(args: &[&str]) -> Output {
    let host = std::env::var("GRACEFULLY_TEST_DOCKER_HOST").unwrap();
    Command::new("docker").args(["--host", &host]).args(args).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Whether there is a daemon to ask, and it is ours that is asked about.
fn can_run() -> bool {
    if !is_ours() {
        return false;
    }
    let why = match std::env::var("GRACEFULLY_TEST_DOCKER_HOST") {
        Ok(_) => return true,
        Err(_) => {
            std::env::var("GRACEFULLY_TEST_NO_DOCKER").unwrap_or("cargo xtask test starts a dockerd".into())
        }
    };
    skip(&why);
    false
}

impl Container {
    /// Runs in the background, without a network.
    fn run(options: &[&str], command: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("init-suite-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let output =
            docker(&[&["run", "--detach", "--network", "none", "--name", &name], options, command].concat());
        assert!(output.status.success(), "{}", said(&output));
        Self(name)
    }

    fn says(&self, wanted: &str) {
        eventually(wanted, || said(&docker(&["logs", &self.0])).contains(wanted));
    }

    /// Stops it; gives the exit code and everything that was said.
    fn stop(&self) -> (String, String) {
        let output = docker(&["stop", &self.0]);
        assert!(output.status.success(), "{}", said(&output));
        (self.exit_code(), said(&docker(&["logs", &self.0])))
    }

    fn exit_code(&self) -> String {
        said(&docker(&["inspect", "--format", "{{.State.ExitCode}}", &self.0])).trim().to_owned()
    }
}

#[test]
fn in_an_image() {
    if !can_run() {
        return;
    }
    let container = Container::run(&[IMAGE], &["/victim", "slow", "0", "5"]);
    container.says("started slow");
    let (code, log) = container.stop();
    assert_eq!(code, "5");
    assert!(log.contains("got 15") && log.contains("gracefully-init: graceful: SIGTERM → exit 5"), "{log}");
}

/// Uid 1000 in a container like any other, and nobody without anything at all: settle and drain see the connections, and
/// the report has no findings to the contrary.
#[test]
fn without_rights() {
    if !can_run() {
        return;
    }
    let nobody: &[&str] =
        &["--user", "65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"];
    for options in [&["--user", "1000"][..], nobody] {
        let container =
            Container::run(&[options, &[IMAGE]].concat(), &["/victim", "http-graceful", "127.0.0.1:8080"]);
        container.says("listening");
        let status = docker(&["exec", &container.0, "/gracefully-init", "status"]);
        assert!(said(&status).contains("\"state\":\"running\""), "{}", said(&status));
        let (code, log) = container.stop();
        assert_eq!(code, "0", "{log}");
        assert!(log.contains("graceful: SIGTERM → exit 0") && !log.contains("cannot be looked at"), "{log}");
    }
}

/// `docker run --init`
#[test]
fn as_the_daemons_init() {
    if !can_run() {
        return;
    }
    let info = docker(&["info", "--format", "{{.InitBinary}}"]);
    assert!(said(&info).contains("gracefully-init"), "{}", said(&info));
    let container = Container::run(&["--init", "--env", "GRACEFULLY_GRACE=5", VICTIM], &["slow", "0", "6"]);
    container.says("started slow");
    let (code, log) = container.stop();
    assert_eq!(code, "6");
    assert!(log.contains("graceful: SIGTERM → exit 6") && log.contains("of 5 s"), "{log}");

    let missing = docker(&["run", "--rm", "--init", "--network", "none", "--entrypoint", "/no/such", VICTIM]);
    assert_eq!(missing.status.code(), Some(127), "{}", said(&missing));
}

/// What `docker exec` leaves behind is reaped.
#[test]
fn orphans_of_docker_exec() {
    if !can_run() {
        return;
    }
    let container = Container::run(&["--init", "--env", "GRACEFULLY_GRACE=2", VICTIM], &["slow", "0", "0"]);
    container.says("started slow");
    let exec = docker(&["exec", "--detach", &container.0, "/victim", "orphan"]);
    assert!(exec.status.success(), "{}", said(&exec));
    let processes = || said(&docker(&["top", &container.0, "-eo", "pid,stat,args"]));
    eventually("the orphan is there", || processes().contains("victim ignore"));
    let (code, log) = container.stop();
    assert_eq!(code, "0");
    assert!(log.contains("1 other process was told to end; killed: victim (pid"), "{log}");
}

/// 47: on a terminal, Ctrl-C ends what has no handler.
#[test]
fn on_a_terminal() {
    if !can_run() {
        return;
    }
    let script = r"
import os, pty, sys, time
pid, fd = pty.fork()
if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])
said, end = b'', time.time() + 20
while b'started' not in said and time.time() < end: said += os.read(fd, 4096)
os.write(fd, b'\x03')
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let host = std::env::var("GRACEFULLY_TEST_DOCKER_HOST").unwrap();
    let run =
        ["docker", "--host", &host, "run", "-it", "--rm", "--init", "--network", "none", VICTIM, "default"];
    let status = Command::new("python3").args(["-c", script]).args(run).status().unwrap();
    assert_eq!(status.code(), Some(130));
}
