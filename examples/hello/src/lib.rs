//! A small HTTP/1.1 server, as one writes it without a thought of stopping: a thread per connection, kept open as long as the client
//! likes, and no handler for any signal.
//!
//! It stands for any program of a user, so it knows nothing of gracefully.
//!
//! | path | answer |
//! |---|---|
//! | `/sleep/MS` | `hello`, after so many milliseconds |
//! | `/stream/COUNT/MS` | a chunk every so many milliseconds (`Transfer-Encoding: chunked`) |
//! | `/bytes/N` | N bytes |
//! | anything else | `hello`; the body of a request is read first |

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The whole program: serves on the address in the first argument, else on `127.0.0.1:8000`.
pub fn run() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    match serve(&address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hello: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves for ever on this address, such as `127.0.0.1:8000`; says `listening on ADDRESS` when it does.
pub fn serve(address: &str) -> io::Result<()> {
    Server::listen(address)?.accept(|| false)
}

/// The server, for those who want to end it.
#[derive(Debug, Clone)]
pub struct Server {
    listener: Arc<TcpListener>,
    /// Requests under way.
    busy: Arc<AtomicUsize>,
}

impl Server {
    /// Listens, and says so.
    pub fn listen(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let mut stdout = io::stdout();
        // That nobody reads it is no reason to fail.
        let _ = writeln!(stdout, "listening on {}", listener.local_addr()?).and_then(|()| stdout.flush());
        Ok(Self { listener: Arc::new(listener), busy: Arc::default() })
    }

    /// Serves connections until `over` says so after one has come.
    pub fn accept(&self, over: impl Fn() -> bool) -> io::Result<()> {
        for stream in self.listener.incoming() {
            if over() {
                return Ok(());
            }
            let (stream, busy) = (stream?, Arc::clone(&self.busy));
            std::thread::spawn(move || connection(&stream, &busy));
        }
        Ok(())
    }

    /// Connects to it, so that [`accept`](Self::accept) looks whether it is over.
    pub fn wake(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.listener.local_addr()?)
    }

    /// How many requests are under way.
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::SeqCst)
    }
}

/// One connection. Whatever goes wrong on it ends it, and nothing else.
fn connection(stream: &TcpStream, busy: &AtomicUsize) {
    let mut from = BufReader::new(stream);
    while let Ok(Some(request)) = Request::read(&mut from) {
        busy.fetch_add(1, Ordering::SeqCst);
        let answered = request.answer(&mut &*stream);
        busy.fetch_sub(1, Ordering::SeqCst);
        if answered.is_err() || !request.keep_alive {
            break;
        }
    }
}

struct Request {
    path: String,
    keep_alive: bool,
}

impl Request {
    /// The next one with its body; `None` at the end of the connection.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_ascii_whitespace().skip(1);
        let path = words.next().unwrap_or("/").to_owned();
        let mut request = Self { path, keep_alive: words.next() == Some("HTTP/1.1") };
        let mut length = 0;
        loop {
            let mut header = String::new();
            from.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            match header.split_once(':').map(|(name, value)| (name, value.trim())) {
                None if header.is_empty() => break,
                Some(("connection", value)) => request.keep_alive = value != "close",
                Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                Some(_) | None => {}
            }
        }
        io::copy(&mut from.take(length), &mut io::sink())?;
        Ok(Some(request))
    }

    fn answer(&self, to: &mut impl Write) -> io::Result<()> {
        let number = |word: &str| word.parse::<u64>().unwrap_or(0);
        let words: Vec<&str> = self.path.split('/').skip(1).collect();
        match words[..] {
            ["sleep", ms] => {
                pause(number(ms));
                self.whole(to, b"hello\n")
            }
            ["stream", count, ms] => self.stream(to, number(count), number(ms)),
            ["bytes", n] => self.whole(to, &vec![b'x'; usize::try_from(number(n)).unwrap_or(0)]),
            _ => self.whole(to, b"hello\n"),
        }
    }

    fn whole(&self, to: &mut impl Write, body: &[u8]) -> io::Result<()> {
        let head = format!("{}Content-Length: {}\r\n\r\n", self.head(), body.len());
        to.write_all(&[head.as_bytes(), body].concat())
    }

    fn stream(&self, to: &mut impl Write, count: u64, ms: u64) -> io::Result<()> {
        to.write_all(format!("{}Transfer-Encoding: chunked\r\n\r\n", self.head()).as_bytes())?;
        for n in 0..count {
            pause(ms);
            let chunk = format!("chunk {n}\n");
            to.write_all(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes())?;
        }
        to.write_all(b"0\r\n\r\n")
    }

    fn head(&self) -> &'static str {
        if self.keep_alive {
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        }
    }
}

/// The work that a real program would do.
fn pause(ms: u64) {
    let never = Mutex::new(());
    let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = Condvar::new().wait_timeout_while(guard, Duration::from_millis(ms), |()| true);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str) -> String {
        let server = Server::listen("127.0.0.1:0").unwrap();
        let address = server.listener.local_addr().unwrap();
        std::thread::spawn(move || server.accept(|| false));
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_connection_is_kept_as_long_as_the_client_likes() {
        let twice = answer("GET / HTTP/1.1\r\n\r\nGET /sleep/1 HTTP/1.1\r\n\r\n");
        assert_eq!(twice.matches("Content-Length: 6\r\n\r\nhello\n").count(), 2, "{twice}");
        let once = answer("GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        assert_eq!(once.matches("hello").count(), 1, "{once}");
    }

    #[test]
    fn streams_and_bodies() {
        let stream = answer("GET /stream/2/1 HTTP/1.1\r\n\r\n");
        assert!(stream.ends_with("\r\n\r\n8\r\nchunk 0\n\r\n8\r\nchunk 1\n\r\n0\r\n\r\n"), "{stream}");
        let upload = answer("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345GET /bytes/3 HTTP/1.1\r\n\r\n");
        assert!(upload.ends_with("Content-Length: 3\r\n\r\nxxx"), "{upload}");
    }
}
