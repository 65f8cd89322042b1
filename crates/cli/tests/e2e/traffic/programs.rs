//! Real programs, none of them changed: each is restarted under load, with clients that keep their connections and clients
//! that do not.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use gracefully_load::Outcome as Answer;
use serde_json::Value;

use super::restart_under;
use super::server::Server;
use crate::harness::{World, behaviours, skip_test};

behaviours! {
    "A" python_http_server [bridge local];
    "A" nginx [bridge local];
    "A" haproxy [bridge local];
    "A" node [bridge local];
    "A" gunicorn [bridge local];
    "A" server_with_a_handler [bridge local];
    "A" slow_server_with_a_handler [bridge local];
}

/// Where Debian installs a program; the test is skipped where it is not.
macro_rules! installed {
    ($path:literal) => {{
        if !Path::new($path).exists() {
            skip_test!("{} is not installed", $path);
        }
        $path
    }};
}
pub(super) use installed;

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn loses_nothing(world: &World, command: impl FnOnce(SocketAddr) -> Vec<String>) {
    let server = Server::start_program(world, command);
    server.answers(Answer::Answered);
    let once = server.load("/", false, Duration::from_millis(5));
    let kept = server.load("/", true, Duration::from_millis(20));
    let (once, report) = restart_under(world, &server, once, &["-t", "8"]);
    let kept = kept.stop();
    assert_eq!((once.failed(), kept.failed()), (0, 0), "{once}; {kept}: {report:#}");
    assert_eq!(report["connections"]["cut"], Value::Array(Vec::new()), "{report:#}");
    assert!(once.answered > 20 && kept.answered > 20, "{once}; {kept}");
}

fn python_http_server(world: &World) {
    let python = installed!("/usr/bin/python3");
    let site = world.directory().join("site");
    fs::create_dir(&site).expect("a directory");
    fs::write(site.join("index.html"), "hello\n").expect("a page");
    loses_nothing(world, |at| {
        let (ip, port, site) = (at.ip().to_string(), at.port().to_string(), site.display().to_string());
        words(&[python, "-m", "http.server", &port, "--bind", &ip, "--directory", &site])
    });
}

fn nginx(world: &World) {
    let nginx = installed!("/usr/sbin/nginx");
    let at = world.directory().display().to_string();
    loses_nothing(world, |address| {
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {at}/{name};"))
            .concat();
        let config = format!(
            "daemon off; user root; worker_processes 2; pid {at}/nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; {places}\n\
             server {{ listen {address}; location / {{ return 200 \"hello\\n\"; }} }} }}\n"
        );
        fs::write(format!("{at}/nginx.conf"), config).expect("a configuration");
        words(&[nginx, "-e", "stderr", "-c", &format!("{at}/nginx.conf")])
    });
}

fn haproxy(world: &World) {
    let haproxy = installed!("/usr/sbin/haproxy");
    let file = world.directory().join("haproxy.cfg").display().to_string();
    loses_nothing(world, |at| {
        let config = format!(
            "defaults\n mode http\n timeout client 30s\n timeout http-keep-alive 30s\n\
             frontend hello\n bind {at}\n http-request return status 200 content-type text/plain string hello\n"
        );
        fs::write(&file, config).expect("a configuration");
        words(&[haproxy, "-db", "-f", &file])
    });
}

fn node(world: &World) {
    let node = installed!("/usr/bin/node");
    loses_nothing(world, |at| {
        let script = format!(
            "require('http').createServer((request, answer) => setTimeout(() => answer.end('hello\\n'), 10))\
             .listen({}, '{}')",
            at.port(),
            at.ip()
        );
        words(&[node, "-e", &script])
    });
}

fn gunicorn(world: &World) {
    let gunicorn = installed!("/usr/bin/gunicorn");
    let at = world.directory().display().to_string();
    let app = "def app(environ, start):\n    start('200 OK', [('Content-Length', '6')])\n    return [b'hello\\n']\n";
    fs::write(format!("{at}/app.py"), app).expect("a program");
    loses_nothing(world, |address| {
        words(&[gunicorn, "--chdir", &at, "--bind", &address.to_string(), "--workers", "2", "app:app"])
    });
}

/// As one writes it in Go: `http.Server.Shutdown` at SIGTERM.
fn server_with_a_handler(world: &World) {
    let victim = world.victim();
    loses_nothing(world, |at| words(&[&victim, "http-graceful", &at.to_string()]));
}

/// For half a second it runs and does not listen any more, then it is gone, and then it does not listen yet.
fn slow_server_with_a_handler(world: &World) {
    let victim = world.victim();
    loses_nothing(world, |at| words(&[&victim, "http-slow", &at.to_string()]));
}
