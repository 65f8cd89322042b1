//! HTTP/2: GOAWAY, and clients that do not answer it.

use std::net::SocketAddr;

use gracefully::Verdict;
use http::Request;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::{builder, ms, serving};

async fn connect(at: SocketAddr) -> (SendRequest<String>, JoinHandle<hyper::Result<()>>) {
    let stream = TokioIo::new(TcpStream::connect(at).await.unwrap());
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    (client, tokio::spawn(connection))
}

/// A request that is answered after so many milliseconds.
fn request(at: SocketAddr, takes: u64) -> Request<String> {
    Request::get(format!("http://{at}/{takes}")).body(String::new()).unwrap()
}

#[tokio::test]
async fn streams_are_finished() {
    let (shutdown, at, app) = serving(builder()).await;
    let (mut client, connection) = connect(at).await;
    let answer = tokio::spawn(client.send_request(request(at, 600)));
    app.is_asked(1).await;
    shutdown.trigger("test");
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    timeout(ms(1_000), connection).await.expect("GOAWAY ends the connection").unwrap().unwrap();
    let ended = shutdown.wait().await;
    assert_eq!(ended.report().verdict, Verdict::Graceful, "{ended}");
}

/// While it settles clients are told to go, each after what it has begun, and may come back.
#[tokio::test]
async fn clients_leave_while_it_settles() {
    let (shutdown, at, app) = serving(builder().budget(ms(20_000)).settle(ms(6_000))).await;
    let (mut client, connection) = connect(at).await;
    let answer = tokio::spawn(client.send_request(request(at, 400)));
    app.is_asked(1).await;
    let began = Instant::now();
    shutdown.trigger("test");
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    timeout(ms(1_000), connection).await.expect("GOAWAY ends the connection").unwrap().unwrap();
    assert!(began.elapsed() < ms(1_500), "it has waited for drain");
    assert!(!shutdown.token().is_requested(), "it settles still");
    let (mut again, connection) = connect(at).await;
    assert_eq!(again.send_request(request(at, 0)).await.unwrap().status(), 200);
    drop(again);
    connection.await.unwrap().unwrap();
    let ended = shutdown.wait().await;
    assert_eq!(ended.report().verdict, Verdict::Graceful, "{ended}");
}

/// Not only new connections are traffic: it settles as long as requests come.
#[tokio::test]
async fn requests_on_kept_connections_are_traffic() {
    let (shutdown, at, _) = serving(builder().settle(ms(4_000))).await;
    // The last of the groups in which connections are told to go: after about a second.
    let mut before = Vec::new();
    for _ in 0..63 {
        before.push(TcpStream::connect(at).await.unwrap());
    }
    let (mut client, connection) = connect(at).await;
    assert_eq!(client.send_request(request(at, 0)).await.unwrap().status(), 200);
    shutdown.trigger("test");
    let began = Instant::now();
    let mut requests = 0;
    while client.ready().await.is_ok() {
        assert_eq!(client.send_request(request(at, 100)).await.unwrap().status(), 200);
        requests += 1;
    }
    connection.await.unwrap().unwrap();
    assert!(requests > 3, "{requests}");
    shutdown.token().requested().await;
    assert!(began.elapsed() > ms(1_500), "it has not settled for {:?}", began.elapsed());
    drop(before);
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// A client of which every byte is ours (RFC 9113).
struct Raw {
    stream: TcpStream,
    /// All payloads that have come.
    seen: Vec<u8>,
}

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

impl Raw {
    async fn connect(at: SocketAddr) -> Self {
        let mut raw = Self { stream: TcpStream::connect(at).await.unwrap(), seen: Vec::new() };
        raw.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw.receive(SETTINGS).await;
        raw.send(SETTINGS, ACK, 0, &[]).await;
        raw
    }

    /// `GET /0` on a stream, with indexed header fields alone (RFC 7541, 6.1 and 6.2.2) but for the path.
    async fn get(&mut self, stream: u8) {
        const END: u8 = 0x5;
        self.send(1, END, stream, &[0x82, 0x86, 0x04, 2, b'/', b'0']).await;
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
        self.stream.write_all(&[&head[..], payload].concat()).await.unwrap();
    }

    /// The payload of the next frame of this kind that is no acknowledgement.
    async fn receive(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
            self.stream.read_exact(&mut payload).await.unwrap();
            self.seen.extend_from_slice(&payload);
            let acknowledges = matches!(head[3], SETTINGS | PING) && head[4] & ACK != 0;
            if head[3] == wanted && !acknowledges {
                return payload;
            }
        }
    }
}

/// First no last stream, then, a round trip later, the last one: what the client has sent meanwhile is answered.
#[tokio::test]
async fn goaway_is_said_twice_and_what_comes_between_is_answered() {
    let (shutdown, at, app) = serving(builder()).await;
    let mut client = Raw::connect(at).await;
    shutdown.trigger("test");
    let last = |goaway: Vec<u8>| u32::from_be_bytes(goaway[..4].try_into().unwrap());
    assert_eq!(last(client.receive(GOAWAY).await), 0x7fff_ffff);
    let ping = client.receive(PING).await;
    client.get(1).await;
    client.send(PING, ACK, 0, &ping).await;
    assert_eq!(last(client.receive(GOAWAY).await), 1);
    app.is_asked(1).await;
    client.stream.read_to_end(&mut client.seen).await.unwrap();
    assert!(client.seen.windows(6).any(|bytes| bytes == b"answer"), "{:?}", client.seen);
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// hyper waits for it for ever. Of whom not even the version is known nothing is waited for.
#[tokio::test]
async fn who_does_not_answer_is_cut_and_named() {
    let (shutdown, at, _) = serving(builder().budget(ms(1_000))).await;
    let mut parked = TcpStream::connect(at).await.unwrap();
    parked.write_all(b"PRI * HTTP/2.0").await.unwrap();
    let silent = Raw::connect(at).await;
    shutdown.trigger("test");
    assert_eq!(timeout(ms(500), parked.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0, "closed");
    let ended = shutdown.wait().await;
    assert!((900..3_000).contains(&ended.report().took.as_millis()), "{ended}");
    assert_eq!(ended.report().verdict, Verdict::Forced);
    let peer = silent.stream.local_addr().unwrap();
    assert!(ended.to_string().contains(&format!("http {peer} (drain): not finished after")), "{ended}");
}
