//! Daemons that are absent, closed to us, hang, talk nonsense or die in the middle; and TLS.
//!
//! The daemon is a fake in this process, on a unix socket in a directory of its own or on 127.0.0.1. Where a deadline
//! is awaited the clock is paused: tokio moves it on as soon as nobody has anything else to do.

#![expect(clippy::unwrap_used, reason = "a failed expectation of a test")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

#[path = "docker_faults/fake.rs"]
mod fake;
#[path = "docker_faults/tls.rs"]
mod tls;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::Duration;

use gracefully_core::diagnosis::Code;
use gracefully_core::event::ExitStatus;
use gracefully_core::policy::{Policy, Request, Settings, Then, Timeout};
use gracefully_core::signal::Signal;
use gracefully_engine::docker::Docker;
use gracefully_engine::docker::endpoint::{Endpoint, EndpointOptions};
use gracefully_engine::{Conductor, Engine, Error, Instance, LogOptions, Terminate};

use fake::{Fake, Reply};

/// The daemon at this address.
fn connect(host: &str) -> Docker {
    let options = EndpointOptions { host: Some(host.into()), ..EndpointOptions::default() };
    Docker::connect(&Endpoint::resolve(&options).unwrap()).unwrap()
}

async fn find_error(docker: &Docker) -> Error {
    docker.find("web").await.expect_err("the daemon is faulty")
}

fn caller(conductor: Conductor) -> Box<dyn Instance> {
    match conductor {
        Conductor::Caller(instance) => instance,
        Conductor::Monitor(_) => panic!("docker has no monitor"),
    }
}

fn terminate(seconds: i64) -> Terminate {
    let timeout = Timeout::from_seconds(seconds);
    let request = Request { timeout: Some(timeout), ..Request::default() };
    let policy = Policy::resolve(&request, &Settings::default());
    Terminate { policy, kill_after: timeout.limit(), then: Then::Stay }
}

#[tokio::test]
async fn nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absent.sock");
    let host = format!("unix://{}", path.display());
    let expected = format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?");
    assert_eq!(find_error(&connect(&host)).await.to_string(), expected);

    // A socket that was left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(find_error(&connect(&host)).await.to_string(), expected);

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("tcp://127.0.0.1:{port}");
    assert!(matches!(find_error(&connect(&host)).await, Error::NoDaemon { address } if address == host));
}

#[tokio::test]
async fn the_socket_is_closed_to_us() {
    let fake = Fake::start(|_| Reply::Close);
    std::fs::set_permissions(fake.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
    match find_error(&connect(&fake.host())).await {
        Error::SocketPermission { address } => assert_eq!(address, fake.host()),
        // Root may do everything.
        error => assert!(matches!(error, Error::Lost { .. }), "{error}"),
    }
}

#[tokio::test]
async fn the_answer_is_nonsense() {
    for (reply, why) in [
        (Reply::Bytes("SSH-2.0-OpenSSH_9.2\r\n".into()), "its answer is not HTTP"),
        (Reply::Close, "it closed the connection without an answer"),
        (Reply::ok("hello"), "its answer is not the JSON that was asked for"),
        (Reply::ok("[1,2]"), "its answer is not the JSON that was asked for"),
        (
            Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Id\":".into()),
            "end of file before message length",
        ),
        (
            Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"Id\":\"0123\"".into()),
            "its answer is not the JSON",
        ),
    ] {
        let answer = reply.clone();
        let fake = Fake::start(move |_| answer.clone());
        let error = find_error(&connect(&fake.host())).await;
        assert!(matches!(&error, Error::Lost { .. }), "{reply:?}: {error:?}");
        assert!(error.to_string().contains(why), "{reply:?}: {error}");
    }
}

#[tokio::test]
async fn somebody_else_answers_http() {
    let fake = Fake::start(|_| Reply::ok(r#"{"Id":"0123"}"#).without_version());
    let error = find_error(&connect(&fake.host())).await;
    assert!(error.to_string().contains("it is no Docker daemon"), "{error}");

    let fake = Fake::start(|_| Reply::status(502, "<html>bad gateway</html>"));
    let error = find_error(&connect(&fake.host())).await;
    assert_eq!(error.to_string(), "Error response from daemon: <html>bad gateway</html>");

    let fake = Fake::start(|_| Reply::status(301, ""));
    let error = find_error(&connect(&fake.host())).await;
    assert_eq!(error.to_string(), "Error response from daemon: 301 Moved Permanently");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_hangs_has_ten_seconds() {
    for reply in [
        Reply::Hang(String::new()),
        Reply::Hang("HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 500\r\n\r\n{\"Id\":".into()),
        Reply::Hang(
            "HTTP/1.1 404 Not Found\r\nApi-Version: 1.41\r\nContent-Length: 500\r\n\r\n{\"mess".into(),
        ),
    ] {
        let fake = Fake::start(move |_| reply.clone());
        let error = find_error(&connect(&fake.host())).await;
        assert!(
            matches!(&error, Error::Timeout { who, after } if *who == fake.host() && after.as_secs() == 10),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_has_half_a_minute_more_than_it_grants() {
    let fake = Fake::start(|request| match request.path() {
        "/containers/web/json" => Reply::running(0),
        "/containers/0::/wait?condition=not-running" => Reply::Hang(Reply::head_of_wait()),
        _ => Reply::Hang(String::new()),
    });
    let docker = connect(&fake.host());
    let container = docker.find("web").await.unwrap();
    let instance = caller(docker.conductor(&container).await.unwrap());
    let error = instance.terminate(&terminate(3600)).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { after, .. } if after.as_secs() == 3630), "{error:?}");
    assert!(
        fake.requests().contains(&"POST /containers/0::/stop?t=3600".to_owned()),
        "{:?}",
        fake.requests()
    );
}

#[tokio::test]
async fn a_name_never_reaches_another_part_of_the_api() {
    let fake = Fake::start(|_| Reply::status(404, r#"{"message":"No such container: x"}"#));
    let docker = connect(&fake.host());
    for name in ["../images/x", "a/b", "..", ".", "/", "", "//x"] {
        let error = docker.find(name).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. } | Error::InvalidName { .. }), "{name}: {error:?}");
    }
    assert_eq!(fake.requests(), [""; 0]);
    for (name, path) in [("/web", "web"), ("a?b", "a%3Fb"), ("a b", "a%20b"), ("\u{e9}%2f", "%C3%A9%252f")] {
        assert!(docker.find(name).await.unwrap_err().is_not_found());
        assert_eq!(fake.requests().last().unwrap(), &format!("GET /containers/{path}/json"));
    }
}

/// A program of this host that the fake daemon claims to run, ended when the test is over.
struct Program(Child);

impl Program {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The daemon dies with the stop in its hands: the SIGKILL that it owes never comes from it.
#[tokio::test]
async fn a_daemon_that_dies_in_the_middle_leaves_the_program_to_us() {
    let mut program = Program::start();
    let pid = program.0.id();
    let fake = Fake::start(move |request| match request.path() {
        "/containers/web/json" => Reply::running(pid),
        "/containers/0::/wait?condition=not-running" => Reply::Bytes(Reply::head_of_wait()),
        _ => Reply::Close,
    });
    let docker = connect(&fake.host());
    let container = docker.find("web").await.unwrap();
    let instance = caller(docker.conductor(&container).await.unwrap());
    assert_eq!(instance.main_pid(), Some(pid));

    // The order may have arrived, so it is no failure; but the kill is ours from now on.
    instance.terminate(&terminate(5)).await.unwrap();
    assert!(!instance.kills_by_itself());
    let exited = async { tokio::time::timeout(Duration::from_secs(20), instance.exited()).await.unwrap() };
    let (status, killed) = tokio::join!(exited, instance.kill());
    killed.unwrap();
    assert!(matches!(status.unwrap(), ExitStatus::Signal(Signal::KILL) | ExitStatus::Unknown));
    assert_eq!(program.0.wait().unwrap().signal(), Some(9));
    let findings = instance.findings();
    assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), [Code::Engine]);
}

/// A daemon that is stopped (SIGSTOP) keeps its connections open.
#[tokio::test(start_paused = true)]
async fn a_silent_daemon_does_not_save_the_program() {
    let mut program = Program::start();
    let pid = program.0.id();
    let fake = Fake::start(move |request| match request.path() {
        "/containers/web/json" => Reply::running(pid),
        "/containers/0::/wait?condition=not-running" => Reply::Hang(Reply::head_of_wait()),
        _ => Reply::Hang(String::new()),
    });
    let docker = connect(&fake.host());
    let container = docker.find("web").await.unwrap();
    let instance = caller(docker.conductor(&container).await.unwrap());
    let order = terminate(1);
    tokio::select! {
        result = instance.terminate(&order) => panic!("nobody answers: {result:?}"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    instance.kill().await.unwrap();
    assert_eq!(program.0.wait().unwrap().signal(), Some(9));
}

/// Where the daemon's processes cannot be seen from here nothing can be done for it.
#[tokio::test]
async fn a_daemon_of_another_host_that_dies_is_an_error() {
    let fake = Fake::start(|request| match request.path() {
        // A PID that is taken here, by us, but not by that container.
        "/containers/web/json" => Reply::running_as("0123456789abcdef", std::process::id()),
        path if path.contains("/wait") => Reply::Bytes(Reply::head_of_wait()),
        _ => Reply::Close,
    });
    let docker = connect(&fake.host());
    let container = docker.find("web").await.unwrap();
    let instance = caller(docker.conductor(&container).await.unwrap());
    assert_eq!(instance.main_pid(), None);
    assert!(matches!(instance.terminate(&terminate(5)).await, Err(Error::Lost { .. })));
    assert!(matches!(instance.exited().await, Err(Error::Lost { .. })));
    assert!(matches!(instance.kill().await, Err(Error::Lost { .. })));
}

#[tokio::test]
async fn a_log_that_breaks_off_says_so() {
    use futures_util::StreamExt;

    let fake = Fake::start(|request| match request.path() {
        "/containers/web/json" | "/containers/0%3A%3A/json" => Reply::running(0),
        _ => Reply::Bytes("HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\n\r\n\u{1}\0\0\0\0\0\0\u{9}half".into()),
    });
    let docker = connect(&fake.host());
    let container = docker.find("web").await.unwrap();
    let mut log = docker.logs(&container, &LogOptions::default()).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().bytes, b"half");
    assert!(matches!(log.next().await, Some(Err(Error::Lost { .. }))));
    assert!(log.next().await.is_none());
}

#[tokio::test]
async fn a_swarm_task_has_its_services_grace_period() {
    let fake = Fake::start(|request| match request.path() {
        "/containers/web/json" => Reply::ok(
            r#"{"Id":"0::","State":{"Status":"running"},"Config":{"Labels":{"com.docker.swarm.service.id":"svc1"}}}"#,
        ),
        "/services/svc1" => Reply::ok(
            r#"{"ID":"svc1","Spec":{"TaskTemplate":{"ContainerSpec":{"StopGracePeriod":4000000000}}}}"#,
        ),
        _ => Reply::status(503, r#"{"message":"This node is not a swarm manager."}"#),
    });
    let container = connect(&fake.host()).find("web").await.unwrap();
    assert_eq!(container.settings.timeout.map(|timeout| timeout.value), Some(Timeout::from_seconds(4)));
}
