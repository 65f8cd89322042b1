//! HTTP/1, and what it is upgraded to.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gracefully::Verdict;
use gracefully::serve::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use crate::{App, ask, builder, ms, request, serving};

/// Clients that keep their connections and send a request every few milliseconds; a load balancer that turns new ones away 300 ms
/// after the request for the stop. With settle nothing fails; without, it does, or this would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_keep_their_connections_lose_nothing() {
    for (settle, loses) in [(ms(600), false), (Duration::ZERO, true)] {
        let (shutdown, at, _) = serving(builder().settle(settle)).await;
        let clients: Vec<_> = (0..64_u64)
            .map(|number| {
                let shutdown = shutdown.clone();
                tokio::spawn(async move {
                    let (mut answered, mut failed) = (0_u32, 0_u32);
                    let mut asked_at = None;
                    loop {
                        if asked_at.is_none() && shutdown.is_requested() {
                            asked_at = Some(Instant::now());
                        }
                        if asked_at.is_some_and(|at| at.elapsed() > ms(300)) {
                            return (answered, failed);
                        }
                        let Ok(mut client) = TcpStream::connect(at).await else {
                            failed += 1;
                            sleep(ms(10)).await;
                            continue;
                        };
                        // As long as the connection may be used, also when the load balancer has turned elsewhere.
                        loop {
                            match ask(&mut client, 2).await {
                                Some(true) => answered += 1,
                                Some(false) => {
                                    answered += 1;
                                    break;
                                }
                                None => {
                                    failed += 1;
                                    break;
                                }
                            }
                            sleep(ms(2 + number % 7)).await;
                        }
                    }
                })
            })
            .collect();
        sleep(ms(300)).await;
        shutdown.trigger("test");
        let (mut answered, mut failed) = (0, 0);
        for client in clients {
            let (more, less) = client.await.unwrap();
            (answered, failed) = (answered + more, failed + less);
        }
        assert!(answered > 500, "{answered}");
        assert_eq!(failed > 0, loses, "{failed} failed, {answered} answered");
        let ended = shutdown.wait().await;
        assert_eq!(ended.report().verdict, Verdict::Graceful, "{ended}");
    }
}

#[tokio::test]
async fn a_long_answer_is_finished_and_an_idle_connection_is_closed_at_once() {
    let (shutdown, at, app) = serving(builder()).await;
    let mut idle = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut idle, 0).await, Some(true));
    let mut busy = TcpStream::connect(at).await.unwrap();
    let answer = tokio::spawn(async move { ask(&mut busy, 700).await });
    app.is_asked(2).await;
    shutdown.trigger("test");
    assert_eq!(timeout(ms(600), idle.read(&mut [0; 16])).await.unwrap().unwrap(), 0, "closed");
    assert!(TcpStream::connect(at).await.is_err(), "while the other is waited for nobody listens any more");
    assert_eq!(answer.await.unwrap(), Some(false), "and says that it is the last");
    let ended = shutdown.wait().await;
    assert_eq!((ended.code(), ended.report().verdict), (0, Verdict::Graceful), "{ended}");
    assert!((400..2_000).contains(&ended.report().took.as_millis()), "{ended}");
}

/// Half a head, and a connection that says nothing: hyper's own shutdown waits for both for ever.
#[tokio::test]
async fn who_does_not_finish_is_cut_and_named() {
    let (shutdown, at, app) = serving(builder().budget(ms(1_000))).await;
    let mut half = TcpStream::connect(at).await.unwrap();
    half.write_all(b"GET /0 HTTP/1.1\r\nHo").await.unwrap();
    let mut slow = TcpStream::connect(at).await.unwrap();
    slow.write_all(&request(60_000)).await.unwrap();
    let peer = slow.local_addr().unwrap();
    app.is_asked(1).await;
    let mut idle = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut idle, 0).await, Some(true));
    shutdown.trigger("test");
    let ended = shutdown.wait().await;
    assert!((900..3_000).contains(&ended.report().took.as_millis()), "{ended}");
    assert_eq!((ended.code(), ended.report().verdict), (1, Verdict::Forced));
    assert!(
        ended.to_string().contains(&format!("http {peer} GET /60000 (drain): not finished after")),
        "{ended}"
    );
    assert_eq!(timeout(ms(500), slow.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0, "cut");
}

/// Clients that the kernel has accepted when drain begins are served.
#[tokio::test]
async fn the_backlog_is_served() {
    let shutdown = builder().install().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let at = listener.local_addr().unwrap();
    shutdown.serve("http", listener, App::new()).unwrap();
    // This runtime has one thread, and it is here: so all of them wait in the kernel's queue.
    let clients: Vec<_> = (0..600)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(at).unwrap();
            io::Write::write_all(&mut client, &request(100)).unwrap();
            client
        })
        .collect();
    shutdown.trigger("test");
    for client in clients {
        client.set_nonblocking(true).unwrap();
        let mut answer = String::new();
        TcpStream::from_std(client).unwrap().read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("answer"), "{answer:?}");
    }
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// axum's own shutdown does not know of upgraded connections.
#[tokio::test]
async fn an_upgraded_connection_is_waited_for_and_cut_in_the_end() {
    for ends_in_time in [true, false] {
        let (shutdown, at, _) = serving(builder().budget(ms(1_000))).await;
        let mut client = TcpStream::connect(at).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(client.read_buf(&mut head).await.unwrap() > 0);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        shutdown.trigger("test");
        // It stays open, also long after idle connections are closed.
        sleep(ms(300)).await;
        client.write_all(b"still there").await.unwrap();
        let mut answer = [0; 11];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"still there");
        if ends_in_time {
            client.shutdown().await.unwrap();
        }
        let ended = shutdown.wait().await;
        let verdict = if ends_in_time { Verdict::Graceful } else { Verdict::Forced };
        assert_eq!(ended.report().verdict, verdict, "{ended}");
        assert_eq!(timeout(ms(500), client.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0, "closed");
    }
}

#[tokio::test]
async fn unix_sockets_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let shutdown = builder().install().unwrap();
    let app = App::new();
    shutdown.serve("unix", UnixListener::bind(&path).unwrap(), app.clone()).unwrap();
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(&request(300)).await.unwrap();
    app.is_asked(1).await;
    shutdown.trigger("test");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("answer"), "{answer}");
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// Of two requests that came together the second is not begun once the first answer says that it is the last (RFC 9112, 9.6).
#[tokio::test]
async fn a_request_behind_the_last_answer_is_not_begun() {
    let (shutdown, at, app) = serving(builder()).await;
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(&[request(300), request(0)].concat()).await.unwrap();
    app.is_asked(1).await;
    shutdown.trigger("test");
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("200 OK").count(), 1, "{answers}");
    assert_eq!(app.times_asked(), 0, "the second was not begun");
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// A connection of HTTP/1.0 is kept only if the client asks for it; a proxy may.
#[tokio::test]
async fn an_old_client_is_told_to_close_too() {
    let (shutdown, at, _) = serving(builder().settle(ms(2_000))).await;
    shutdown.trigger("test");
    shutdown.requested().await;
    let mut client = TcpStream::connect(at).await.unwrap();
    client.write_all(b"GET /0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("connection: close") && !answer.contains("keep-alive"), "{answer}");
}

/// A request that is in the kernel's buffer when drain begins is answered, however busy this process was.
#[tokio::test]
async fn a_request_that_nobody_has_read_is_answered() {
    let (shutdown, at, app) = serving(builder()).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut client, 0).await, Some(true));
        app.is_asked(1).await;
        clients.push(client);
    }
    // This runtime has one thread, and it is here: so nobody reads these before the stop begins.
    for client in &clients {
        client.try_write(&request(0)).unwrap();
    }
    shutdown.trigger("test");
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("answer") && answer.contains("connection: close"), "{answer:?}");
    }
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// Whoever is answered in the middle of an upload gets the answer and then the end, not a reset.
#[tokio::test]
async fn an_early_answer_is_heard_by_who_goes_on_sending() {
    let (shutdown, at, _) = serving(builder()).await;
    for round in 0..20 {
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n").await.unwrap();
        client.write_all(&vec![b'x'; 200_000]).await.unwrap();
        let mut answer = String::new();
        let read = client.read_to_string(&mut answer).await;
        assert!(read.is_ok() && answer.ends_with("answer"), "round {round}: {read:?} {answer:?}");
        // It may still send.
        client.write_all(&vec![b'x'; 200_000]).await.unwrap();
    }
    shutdown.trigger("test");
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// Without descriptors nobody can be accepted; whoever waits is accepted when there are some again.
#[tokio::test]
async fn an_error_of_accept_is_survived() {
    struct Exhausted {
        listener: TcpListener,
        errors: AtomicU32,
    }

    impl Listener for Exhausted {
        type Io = TcpStream;

        async fn accept(&self) -> io::Result<(TcpStream, String)> {
            if self
                .errors
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                return Err(io::Error::from_raw_os_error(24));
            }
            Listener::accept(&self.listener).await
        }
    }

    let shutdown = builder().install().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    shutdown.serve("http", Exhausted { listener, errors: AtomicU32::new(3) }, App::new()).unwrap();
    let mut client = TcpStream::connect(at).await.unwrap();
    assert_eq!(ask(&mut client, 0).await, Some(true));
    shutdown.trigger("test");
    assert_eq!(shutdown.wait().await.code(), 0);
}

/// Accepts as [`TcpListener`] does, and has no way to pause.
struct Restless(TcpListener);

impl Listener for Restless {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, String)> {
        Listener::accept(&self.0).await
    }
}

/// Clients with a connection for every request, of which one is always just connecting, and no settle: each is answered, or
/// refused before it has sent anything. The control is a listener that cannot pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_between_the_last_accept_and_the_close() {
    let lost = async |pauses: bool| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let shutdown = builder().install().unwrap();
        let app = App::new();
        if pauses {
            shutdown.serve("http", listener, app.clone()).unwrap();
        } else {
            shutdown.serve("http", Restless(listener), app.clone()).unwrap();
        }
        let clients = gracefully_load::Load::new(at, 8).start();
        app.is_asked(200).await;
        shutdown.trigger("test");
        assert_eq!(shutdown.wait().await.code(), 0);
        let tally = tokio::task::spawn_blocking(|| clients.stop()).await.unwrap();
        tally.failed() - tally.refused
    };
    // Between the last two calls on a socket that others may have there is room for one, if a busy machine has us wait there.
    let mut sum = 0;
    for _ in 0..10 {
        sum += lost(true).await;
    }
    assert!(sum <= 2, "{sum} of ten stops");
    let mut control = 0;
    for _ in 0..400 {
        control += lost(false).await;
        if control > 2 {
            break;
        }
    }
    assert!(control > 2, "this proves nothing");
}
