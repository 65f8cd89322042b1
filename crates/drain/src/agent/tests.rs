//! A real program, which knows nothing of us, in a network namespace of its own.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{self, Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::target::Published;
use crate::testing::{eventually, in_new_netns};
use gracefully_core::traffic::Method;
use gracefully_linux::netns::NetNs;
use std::time::Instant;

/// Python's own HTTP server, with keep-alive. It answers `/SECONDS` after so many seconds.
const SERVER: &str = "
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        time.sleep(float(self.path[1:]))
        self.send_response(200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
";

const LONG: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(port: u16) -> Self {
        let mut python = process::Command::new("python3");
        python.args(["-c", SERVER, &port.to_string()]).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = format!("127.0.0.1:{}", line.trim()).parse().unwrap();
        Self { child, address }
    }

    fn target(&self) -> Target {
        Target { main: self.child.id(), ..Target::default() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(server: &Server) -> Self {
        Self(TcpStream::connect(server.address).unwrap())
    }

    fn ask(&mut self, seconds: &str) {
        self.send(&format!("GET /{seconds} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }

    /// The connection may be closed: that shows when the answer is read.
    fn send(&mut self, text: &str) {
        let _ = self.0.write_all(text.as_bytes());
    }

    /// The body of the answer; `None` at the end of the connection.
    fn answer(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut from = BufReader::new(&self.0);
        loop {
            let mut line = String::new();
            match from.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
        from.take(2).read_to_string(&mut text).unwrap();
        Some(text)
    }
}

fn begin(server: &Server) -> (Drain, Receiver<Notice>) {
    let (told, notices) = channel();
    let drain = Drain::begin(server.target(), move |notice| drop(told.send(notice)));
    (drain.unwrap(), notices)
}

/// Waits for a look with nothing in flight.
fn drained(notices: &Receiver<Notice>) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < end, "it is not drained");
        match notices.recv_timeout(Duration::from_secs(20)).expect("it is drained") {
            Notice::Looked(Traffic { in_flight: 0, .. }) => return,
            Notice::Looked(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn finished(drain: &Drain, notices: &Receiver<Notice>) -> Connections {
    drain.finish();
    loop {
        if let Notice::Finished(connections) = notices.recv_timeout(Duration::from_secs(20)).unwrap() {
            return connections;
        }
    }
}

#[test]
fn a_request_is_answered_an_idle_connection_closed_and_a_new_one_refused() {
    in_new_netns(|| {
        let server = Server::start(0);
        let (mut idle, mut busy) = (Client::connect(&server), Client::connect(&server));
        idle.ask("0.02");
        assert_eq!(idle.answer().as_deref(), Some("ok"));
        busy.ask("0.7");

        let (drain, notices) = begin(&server);
        drain.refuse(LONG);
        drain.observe();
        assert_eq!(idle.answer(), None, "closed");
        let refused = TcpStream::connect(server.address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        drained(&notices);
        assert_eq!(busy.answer().as_deref(), Some("ok"));
        assert_eq!(busy.answer(), None, "closed after its answer");

        let connections = finished(&drain, &notices);
        // The first answer may be so recent that it counts as going on.
        assert_eq!(connections.open, 2);
        assert!(matches!((connections.in_flight, connections.drained), (1, 1) | (2, 2)), "{connections:?}");
        assert_eq!((connections.closed_idle, connections.raced), (2, 0));
        assert_eq!(connections.gate, Some(Gate::Refused));
        drop(drain);
        TcpStream::connect(server.address).expect("the gate is open again");
    });
}

#[test]
fn new_connections_wait_for_the_program_that_is_started_again() {
    in_new_netns(|| {
        let server = Server::start(0);
        let address = server.address;
        let (drain, notices) = begin(&server);
        drain.hold(LONG);
        drain.observe();
        drained(&notices);
        let client = thread::spawn(move || {
            let mut client = Client(TcpStream::connect(address).unwrap());
            client.ask("0");
            client.answer()
        });
        // The program is gone for a while, and its port with it.
        drop(server);
        drain.judge(true);
        assert!(!client.is_finished());
        let server = Server::start(address.port());
        drain.await_listeners(server.target());
        let ready = |notice| matches!(notice, Notice::Ready);
        assert!(std::iter::from_fn(|| notices.recv_timeout(Duration::from_secs(20)).ok()).any(ready));
        drain.release();
        assert_eq!(client.join().unwrap().as_deref(), Some("ok"));
        let connections = finished(&drain, &notices);
        let Some(Gate::Held { method: Method::Nfqueue, held: 1, longest, overflowed: 0 }) = connections.gate
        else {
            panic!("{connections:?}");
        };
        assert!(longest > Duration::ZERO);
    });
}

#[test]
fn a_request_that_is_cut_is_reported_with_its_client() {
    in_new_netns(|| {
        let server = Server::start(0);
        let mut client = Client::connect(&server);
        client.ask("100");
        let (drain, notices) = begin(&server);
        drain.observe();
        while !matches!(notices.recv().unwrap(), Notice::Looked(Traffic { in_flight: 1, .. })) {}
        drop(server);
        drain.judge(true);
        let connections = finished(&drain, &notices);
        assert_eq!(connections.cut.len(), 1);
        assert_eq!(connections.cut[0].peer, client.0.local_addr().unwrap().to_string());
        assert_eq!(client.answer(), None);
    });
}

/// The two sides of a connection through the engine's proxy do not end at the same moment, and a look may fall in between.
#[test]
fn a_request_through_a_proxy_is_cut_once() {
    in_new_netns(|| {
        let server = Server::start(0);
        in_new_netns(move || {
            let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
            let outside = proxy.local_addr().unwrap();
            let published = Published { outside, inside: server.address.port() };
            let target = Target { published: vec![published], ..server.target() };
            let mut client = Client(TcpStream::connect(outside).unwrap());
            let (mut to_client, _) = proxy.accept().unwrap();
            let inside = NetNs::of(server.child.id()).unwrap();
            let mut to_server =
                Client(inside.inside(|| TcpStream::connect(server.address)).unwrap().unwrap());
            client.ask("100");
            to_server.ask("100");
            to_client.read_exact(&mut [0; 16]).unwrap();

            let (told, notices) = channel();
            let (main, watch) = Agent::find(&target).unwrap();
            let mut agent = Agent::new(target, main, watch, Box::new(move |notice| drop(told.send(notice))));
            eventually("both sides are busy", || agent.look(now()).unwrap().unwrap().in_flight == 1);
            to_client.shutdown(Shutdown::Both).unwrap();
            agent.watch.look(now()).unwrap();
            agent.last = agent.watch.ended_at_both();
            assert_eq!(agent.last.each_ref().map(Vec::len), [1, 0]);
            drop(server);
            agent.obey(Command::Judge { killed: true });
            assert_eq!(notices.try_iter().last(), Some(Notice::Judged(1)));
            assert_eq!(agent.tally.cut[0].peer, client.0.local_addr().unwrap().to_string());
        });
    });
}

/// They are closed behind an answer, before they ask again.
/// Another drain can close what this one had shut.
#[test]
fn a_drain_that_is_given_up_leaves_nothing_behind() {
    in_new_netns(|| {
        let server = Server::start(0);
        let mut client = Client::connect(&server);
        let (drain, notices) = begin(&server);
        client.ask("0.5");
        drain.refuse(LONG);
        drain.observe();
        let looks = notices.iter().filter(|notice| matches!(notice, Notice::Looked(it) if it.in_flight == 1));
        assert_eq!(looks.take(5).count(), 5);
        drop(drain);
        assert_eq!(client.answer().as_deref(), Some("ok"));

        let (drain, notices) = begin(&server);
        drain.refuse(LONG);
        drain.observe();
        drained(&notices);
        assert_eq!(client.answer(), None);
        let connections = finished(&drain, &notices);
        assert_eq!(connections.closed_idle, 1, "{connections:?}");
    });
}

#[test]
fn clients_that_pause_have_nothing_to_repeat() {
    in_new_netns(|| {
        let server = Server::start(0);
        let address = server.address;
        let clients: Vec<_> = (0..16)
            .map(|_| {
                thread::spawn(move || {
                    let mut client = Client(TcpStream::connect(address).unwrap());
                    loop {
                        client.ask("0.01");
                        if client.answer().is_none() {
                            return;
                        }
                        thread::park_timeout(Duration::from_millis(50));
                    }
                })
            })
            .collect();
        thread::park_timeout(Duration::from_millis(300));
        let (drain, notices) = begin(&server);
        drain.refuse(LONG);
        drain.observe();
        drained(&notices);
        for client in clients {
            client.join().unwrap();
        }
        let connections = finished(&drain, &notices);
        assert_eq!(connections.closed_idle + connections.raced, 16, "{connections:?}");
        // On a machine that is busy many a client is quicker than we are, and may repeat its request; but nobody's is cut.
        assert!(connections.cut.is_empty() && connections.closed_idle > 0, "{connections:?}");
    });
}

#[test]
fn clients_that_never_pause_are_never_cut() {
    in_new_netns(|| {
        let server = Server::start(0);
        let address = server.address;
        let clients: Vec<_> = (0..16)
            .map(|n| {
                thread::spawn(move || {
                    let mut client = Client(TcpStream::connect(address).unwrap());
                    let service = ["0", "0.002", "0.02"][n % 3];
                    // Until it is closed; in the middle of an answer would be a panic.
                    let mut answers = 0;
                    loop {
                        match n % 4 {
                            // In pieces, which its kernel sends one after the other (Nagle's algorithm).
                            0 => ["GET /", service, " HTTP/1.1\r\n\r\n"]
                                .iter()
                                .for_each(|piece| client.send(piece)),
                            _ => client.ask(service),
                        }
                        match client.answer() {
                            Some(text) => assert_eq!(text, "ok"),
                            None => return answers,
                        }
                        answers += 1;
                    }
                })
            })
            .collect();
        thread::park_timeout(Duration::from_millis(300));
        let (drain, notices) = begin(&server);
        drain.refuse(LONG);
        drain.observe();
        drained(&notices);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
        let connections = finished(&drain, &notices);
        assert_eq!(connections.closed_idle + connections.raced, 16, "{connections:?}");
        eprintln!("{connections:?}");
    });
}
