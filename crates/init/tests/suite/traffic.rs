//! Settle and drain (77): main gets its signal when no request is under way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Setup, Way};

/// Answers every request after 700 ms, and says when it has one and when it gets a signal. The port is its first line.
const SERVER: &str = "import http.server,os,signal,threading,time
class H(http.server.BaseHTTPRequestHandler):
 protocol_version='HTTP/1.1'
 def do_GET(s):
  os.write(1,b'asked\\n'); time.sleep(0.7); s.send_response(200); s.send_header('Content-Length','2'); s.end_headers(); s.wfile.write(b'ok')
 def log_message(s,*a): pass
h=http.server.ThreadingHTTPServer(('127.0.0.1',0),H)
h.daemon_threads=True
def term(*a): os.write(1,b'got 15\\n'); os._exit(0)
signal.signal(15,term)
os.write(1,b'%d\\n'%h.server_address[1])
h.serve_forever()";

fn request(port: u16) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    client
}

fn answer(mut client: TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

/// A request that is under way is answered first. Without it main ends in the middle.
fn requests_are_answered_before_the_signal(way: Way) {
    for (options, answered) in [(&["--drain", "auto"][..], true), (&[], false)] {
        let mut init = Setup::new(way).options(options).start(&["python3", "-c", SERVER]);
        let port = init.line().parse().unwrap();
        let client = request(port);
        init.says("asked");
        init.signal(15);
        assert_eq!(answer(client).ends_with("ok"), answered, "{options:?}");
        assert_eq!(init.end().code, 0);
    }
}

/// The same for a port that is named, and an idle connection keeps nobody waiting.
fn idle_connections_keep_nobody_waiting(way: Way) {
    let mut init = Setup::new(way).options(&["--drain", "1,2,3"]).start(&["python3", "-c", SERVER]);
    let port = init.line().parse().unwrap();
    let idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert!(end.took < Duration::from_secs(3), "no such port: {:?}", end.took);
    drop(idle);

    let mut init = Setup::new(way).options(&["--drain", "auto"]).start(&["python3", "-c", SERVER]);
    let port = init.line().parse().unwrap();
    let _idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    init.restart_clock();
    init.signal(15);
    assert!(init.end().took < Duration::from_secs(6));
}

/// A connection on which one request was answered, and none has come since, as a gateway keeps it.
fn a_connection_that_is_kept_keeps_nobody_waiting(way: Way) {
    let mut init = Setup::new(way).options(&["--drain", "auto"]).start(&["python3", "-c", SERVER]);
    let port: u16 = init.line().parse().unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") {
        let mut piece = [0; 512];
        let n = client.read(&mut piece).unwrap();
        assert!(n > 0);
        answer.extend_from_slice(&piece[..n]);
    }
    init.restart_clock();
    init.signal(15);
    let end = init.end();
    assert!(end.took < Duration::from_secs(6), "{:?} {:?}", end.took, end.err);
    assert!(end.err.iter().any(|line| line.contains("graceful: SIGTERM")), "{:?}", end.err);
}

/// As long as clients come, main gets no signal; a second signal ends the waiting.
fn clients_that_keep_coming_are_served(way: Way) {
    for hurried in [false, true] {
        let mut init = Setup::new(way)
            .options(&["--grace", "20", "--settle", "auto", "--drain", "auto"])
            .start(&["python3", "-c", SERVER]);
        let port = init.line().parse().unwrap();
        init.restart_clock();
        init.signal(15);
        let began = Instant::now();
        let mut answered = 0;
        while began.elapsed() < Duration::from_secs(3) {
            if hurried && answered == 2 {
                init.signal(15);
                break;
            }
            assert!(answer(request(port)).ends_with("ok"), "request {answered}");
            answered += 1;
        }
        let end = init.end();
        assert_eq!(end.code, 0);
        let took = end.took.as_secs_f64();
        assert!(
            if hurried { took < 8.0 } else { (3.5..13.0).contains(&took) },
            "{took} s, {answered} answered"
        );
    }
}

super::cases! {
    everywhere: a_connection_that_is_kept_keeps_nobody_waiting, requests_are_answered_before_the_signal, idle_connections_keep_nobody_waiting, clients_that_keep_coming_are_served;
}
