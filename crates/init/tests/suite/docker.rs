//! In Docker: in an image, by the example's Dockerfile, and as the daemon's own `--init` (`cargo xtask test` starts a daemon with
//! `--init-path`).

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::dockerd::{Dockerd, Options};
use crate::harness::{eventually, init, is_ours, skip};

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

/// `podman run --init` with ours, and the example's pod.
#[test]
fn in_podman() {
    if !is_ours() {
        return;
    }
    let Ok(host) = std::env::var("GRACEFULLY_TEST_PODMAN_HOST") else {
        let why = std::env::var("GRACEFULLY_TEST_NO_PODMAN");
        return skip(&why.unwrap_or("cargo xtask test starts a Podman".into()));
    };
    let podman = |args: &[&str]| {
        Command::new("podman")
            .args(["--remote", "--url", &host])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let done = |args: &[&str]| {
        let output = podman(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        said(&output)
    };
    let name = format!("init-suite-{}", std::process::id());
    let init = init().display().to_string();
    done(&[
        "run",
        "--detach",
        "--network",
        "none",
        "--name",
        &name,
        "--init",
        "--init-path",
        &init,
        VICTIM,
        "slow",
        "0",
        "6",
    ]);
    eventually("it has started", || said(&podman(&["logs", &name])).contains("started slow"));
    done(&["stop", &name]);
    let log = said(&podman(&["logs", &name]));
    let code = done(&["inspect", "--format", "{{.State.ExitCode}}", &name]);
    done(&["rm", "--force", &name]);
    assert_eq!(code.trim(), "6", "{log}");
    assert!(log.contains("graceful: SIGTERM → exit 6"), "{log}");

    let pod = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/init/kubernetes.yaml");
    done(&["tag", IMAGE, "localhost/gracefully-test/init:latest"]);
    done(&["kube", "play", "--network", "none", pod]);
    eventually("the pod has started", || said(&podman(&["logs", "web-web"])).contains("started slow"));
    done(&["pod", "stop", "web"]);
    let log = said(&podman(&["logs", "web-web"]));
    done(&["pod", "rm", "--force", "web"]);
    assert!(log.contains("graceful: SIGTERM → exit 0") && log.contains("of 30 s"), "{log}");
}

/// A service of Swarm, on a daemon of its own: being a manager would show in every other test.
#[test]
fn in_swarm() {
    if !can_run() {
        return;
    }
    let options = Options { init: Some(&init()), path: None };
    let (daemon, _) = Dockerd::start(&options).expect("a second private daemon");
    let host = daemon.host();
    let done = |args: &[&str]| {
        let output =
            Command::new("docker").args(["--host", &host]).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        said(&output)
    };
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image.tar").display().to_string();
    assert!(docker(&["save", "--output", &image, VICTIM]).status.success());
    done(&["load", "--input", &image]);
    done(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
    done(&[
        "service",
        "create",
        "--name",
        "web",
        "--detach",
        "--init",
        "--network",
        "host",
        "--stop-grace-period",
        "20s",
        "--env",
        "GRACEFULLY_GRACE=20",
        "--no-resolve-image",
        VICTIM,
        "slow",
        "0",
        "7",
    ]);
    eventually("the task has started", || done(&["service", "logs", "web"]).contains("started slow"));
    let container = done(&["ps", "--quiet", "--no-trunc"]).trim().to_owned();
    done(&["service", "update", "--detach", "--no-resolve-image", "--replicas", "0", "web"]);
    eventually("it has ended", || {
        done(&["inspect", "--format", "{{.State.Status}}", &container]).trim() == "exited"
    });
    assert_eq!(done(&["inspect", "--format", "{{.State.ExitCode}}", &container]).trim(), "7");
    let log = done(&["logs", &container]);
    assert!(log.contains("graceful: SIGTERM → exit 7") && log.contains("of 20 s"), "{log}");
}
