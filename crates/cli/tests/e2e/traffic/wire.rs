//! What may be on the wire: uploads, plain TCP, IPv6, TLS, HTTP/2, WebSocket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use gracefully_load::{Load, Outcome as Answer, free_address};
use serde_json::Value;

use super::programs::{installed, words};
use super::server::Server;
use super::{restart_under, soon};
use crate::harness::{
    NOT_TEN, SECOND, Target, World, behaviours, eventually, read_report, run, skip_test, start,
};

behaviours! {
    "A" upload_under_way_is_finished [bridge local];
    "A" upload_that_pauses_is_finished [docker bridge local process];
    "A" stream_that_pauses_is_finished [docker bridge local process];
    "A" plain_tcp_is_answered_and_closed_when_idle [bridge local process];
    "A" ipv6_clients_lose_nothing [local];
    "A" clients_of_a_dual_stack_listener_lose_nothing [local];
    "A" tls_answer_is_finished [local process];
    "A" http2_answer_is_finished [local process];
    "A" websocket_is_cut_at_the_cap [local process];
}

/// 100 MB, of which most are sent while the stop is waiting.
fn upload_under_way_is_finished(world: &World) {
    const CHUNKS: usize = 100;
    const CHUNK: usize = 1_000_000;
    let chunk = vec![b'x'; CHUNK];
    let server = Server::start(world, "http");
    let mut stream = TcpStream::connect(server.at).expect("a connection");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        CHUNKS * CHUNK
    );
    stream.write_all(head.as_bytes()).expect("a head");
    stream.write_all(&chunk).expect("the first chunk");
    let client = thread::spawn(move || {
        for _ in 1..CHUNKS {
            stream.write_all(&chunk)?;
            soon(15);
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    });
    let stopped = world.run(&["stop", "-t", "20", &server.target.name]);
    stopped.is(0, &server.target.line()).took_between(SECOND, 2 * NOT_TEN);
    let answer = client.join().expect("a client").expect("the upload is taken");
    assert!(answer.ends_with("hello\n"), "{answer}");
}

/// What the drain holds back while it takes the request for complete, it lets through.
fn upload_that_pauses_is_finished(world: &World) {
    let server = Server::start(world, "http");
    let mut stream = TcpStream::connect(server.at).expect("a connection");
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 20\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("a head");
    soon(300);
    let stop = world.spawn(&["stop", "-t", "20", &server.target.name]);
    soon(1500);
    stream.write_all(&[b'x'; 20]).expect("a body");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("hello\n"), "{answer}");
    stop.ended().is(0, &server.target.line()).took_less_than(NOT_TEN);
}

/// It has paused before the drain looks at it; how long it has lasted, the kernel remembers.
fn stream_that_pauses_is_finished(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/stream/6/500");
    soon(1700);
    let file = world.directory().join("report.json");
    let report = file.to_str().expect("a path");
    let stopped = world.run(&["stop", "-t", "20", "--report", report, &server.target.name]);
    stopped.is(0, &server.target.line()).took_less_than(NOT_TEN);
    let report = read_report(&file);
    assert_eq!(answer.join().expect("a client"), Answer::Answered, "{report:#}");
    assert_eq!(report["connections"]["cut"], Value::Array(Vec::new()), "{report:#}");
}

/// A protocol that nobody has heard of.
fn plain_tcp_is_answered_and_closed_when_idle(world: &World) {
    let server = Server::start(world, "echo");
    let connect = || BufReader::new(TcpStream::connect(server.at).expect("a connection"));
    let (mut idle, mut asking) = (connect(), connect());
    let mut line = String::new();
    idle.get_mut().write_all(b"0 ping\n").expect("a line");
    idle.read_line(&mut line).expect("an answer");
    assert_eq!(line, "0 ping\n");
    asking.get_mut().write_all(b"2000 slow\n").expect("a line");
    let file = world.directory().join("report.json");
    let report = file.to_str().expect("a path");
    let stop = world.spawn(&["stop", "-t", "8", "--report", report, &server.target.name]);
    let mut answer = String::new();
    asking.read_line(&mut answer).expect("an answer");
    assert_eq!(answer, "2000 slow\n");
    assert_eq!(idle.read_line(&mut line).expect("its end"), 0, "it was closed in order");
    stop.ended().is(0, &server.target.line()).took_less_than(NOT_TEN);
    let report = read_report(&file);
    assert_eq!(report["connections"]["cut"], Value::Array(Vec::new()), "{report:#}");
}

fn ipv6_clients_lose_nothing(world: &World) {
    loses_nothing(world, "[::1]", "[::1]");
}

fn clients_of_a_dual_stack_listener_lose_nothing(world: &World) {
    loses_nothing(world, "[::]", "127.0.0.1");
}

#[track_caller]
fn loses_nothing(world: &World, listens: &str, clients: &str) {
    if !Path::new("/proc/net/if_inet6").exists() {
        skip_test!("this host has no IPv6");
    }
    let port = free_address().expect("a free port").port();
    let address = |ip: &str| format!("{ip}:{port}");
    let target = world.start_unready(&[], &format!("http {}", address(listens)));
    let server = Server { target, at: address(clients).parse().expect("an address"), clients: None };
    server.answers(Answer::Answered);
    let load = Load { path: "/sleep/20".into(), ..Load::new(server.at, 8) }.start();
    let (tally, report) = restart_under(world, &server, load, &["-t", "8"]);
    assert_eq!(tally.failed(), 0, "{tally}: {report:#}");
    assert_eq!(report["connections"]["gate"]["is"], "held", "{report:#}");
    assert!(tally.answered > 50, "{tally}");
}

/// It says `asked`, and two seconds later answers `hello`.
const TLS: &str = "
import http.server, ssl, sys, time
class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        print('asked', flush=True)
        time.sleep(2)
        self.send_response(200)
        self.send_header('Content-Length', '6')
        self.end_headers()
        self.wfile.write(b'hello\\n')
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Hello)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3], sys.argv[4])
server.socket = context.wrap_socket(server.socket, server_side=True)
print('listening', flush=True)
server.serve_forever()
";

fn tls_answer_is_finished(world: &World) {
    let (python, curl) = (installed!("/usr/bin/python3"), installed!("/usr/bin/curl"));
    let [key, certificate] = ["key.pem", "cert.pem"].map(|name| world.directory().join(name));
    let mut openssl = Command::new(installed!("/usr/bin/openssl"));
    openssl.args(["req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    assert_eq!(run(&mut openssl).code, 0);
    let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
    let server = Server::start_program(world, |at| {
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        words(&[python, "-c", TLS, &ip, &port, &certificate, &key])
    });
    wait_for(world, &server.target, "listening");
    let url = format!("https://{}/", server.at);
    answer_is_finished(world, &server, Command::new(curl).args(["--silent", "--insecure", &url]));
}

/// As above; with prior knowledge, without TLS.
fn http2_answer_is_finished(world: &World) {
    let (node, curl) = (installed!("/usr/bin/node"), installed!("/usr/bin/curl"));
    let server = Server::start_program(world, |at| {
        let script = format!(
            "require('http2').createServer((request, answer) => {{
                 console.log('asked');
                 setTimeout(() => answer.end('hello\\n'), 2000);
             }}).listen({}, '{}', () => console.log('listening'))",
            at.port(),
            at.ip()
        );
        words(&[node, "-e", &script])
    });
    wait_for(world, &server.target, "listening");
    let url = format!("http://{}/", server.at);
    answer_is_finished(
        world,
        &server,
        Command::new(curl).args(["--silent", "--http2-prior-knowledge", &url]),
    );
}

#[track_caller]
fn answer_is_finished(world: &World, server: &Server, client: &mut Command) {
    let client = start(client);
    wait_for(world, &server.target, "asked");
    // Node has a handler that does nothing for PID 1, which is seen only when it has had the signal.
    let stopped = world.run(&["stop", "-t", "5", &server.target.name]);
    stopped.is(0, &server.target.line()).took_between(SECOND, NOT_TEN);
    client.ended().is(0, "hello\n");
}

#[track_caller]
fn wait_for(world: &World, target: &Target, words: &str) {
    eventually(&format!("it says {words:?}"), || world.log(target).contains(words).then_some(()));
}

fn websocket_is_cut_at_the_cap(world: &World) {
    let node = installed!("/usr/bin/node");
    let server = Server::start_program(world, |at: SocketAddr| {
        let script = format!(
            "require('http').createServer().on('upgrade', (request, socket) => {{
                 socket.on('error', () => {{}});
                 socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n');
                 // A ping (RFC 6455, section 5.5.2).
                 setInterval(() => socket.write(Buffer.from([0x89, 0])), 100);
             }}).listen({}, '{}', () => console.log('listening'))",
            at.port(),
            at.ip()
        );
        words(&[node, "-e", &script])
    });
    wait_for(world, &server.target, "listening");
    let mut client = TcpStream::connect(server.at).expect("a connection");
    let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    client.write_all(upgrade.as_bytes()).expect("a request");
    let mut answer = [0; 12];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");
    let file = world.directory().join("report.json");
    let stopped =
        world.run(&["stop", "-t", "3", "--report", file.to_str().expect("a path"), &server.target.name]);
    stopped.is(0, &server.target.line()).took_between(SECOND, NOT_TEN);
    let report = read_report(&file);
    let cut = report["connections"]["cut"].as_array().expect("a list").clone();
    let peer = client.local_addr().expect("an address").to_string();
    assert_eq!(cut.iter().map(|cut| &cut["peer"]).collect::<Vec<_>>(), [&Value::String(peer)], "{report:#}");
}
