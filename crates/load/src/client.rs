//! One client: just enough of HTTP/1.1 to know whether an answer is whole (RFC 9112, section 6).

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::{Outcome, PATIENCE};

/// A client with one connection at most.
#[derive(Debug)]
pub struct Client {
    to: SocketAddr,
    keep_alive: bool,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client of this server.
    pub fn new(to: SocketAddr, keep_alive: bool) -> Self {
        Self { to, keep_alive, connection: None }
    }

    /// Has it a connection, as far as it knows?
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Asks for `path`, and says what happened and how long that took.
    pub fn ask(&mut self, path: &str) -> (Outcome, Duration) {
        self.exchange("GET", path, "")
    }

    /// Sends `body` to `path`, and says what happened and how long that took.
    pub fn post(&mut self, path: &str, body: &str) -> (Outcome, Duration) {
        self.exchange("POST", path, body)
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> (Outcome, Duration) {
        let began = Instant::now();
        let kept = self.connection.is_some();
        let outcome = match self.try_exchange(method, path, body) {
            Ok(outcome) => outcome,
            Err(Failed { answer_began: true, .. }) => Outcome::Cut,
            Err(Failed { error, .. }) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
            // A socket with a time limit says either.
            Err(Failed { error, .. })
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                Outcome::TimedOut
            }
            Err(Failed { sent: false, .. }) if kept => Outcome::ClosedIdle,
            Err(Failed { .. }) if kept => Outcome::Raced,
            Err(Failed { .. }) => Outcome::Dropped,
        };
        if outcome != Outcome::Answered {
            self.connection = None;
        }
        (outcome, began.elapsed())
    }

    fn try_exchange(&mut self, method: &str, path: &str, body: &str) -> Result<Outcome, Failed> {
        let early = |error| Failed { error, sent: false, answer_began: false };
        let mut connection = match self.connection.take() {
            Some(connection) if is_open(connection.get_ref()).map_err(early)? => connection,
            Some(_) => return Err(early(ErrorKind::UnexpectedEof.into())),
            None => connect(self.to).map_err(early)?,
        };
        let connection_header = if self.keep_alive { "keep-alive" } else { "close" };
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: load\r\nConnection: {connection_header}\r\n{length}\r\n{body}"
        );
        connection.get_mut().write_all(request.as_bytes()).map_err(early)?;

        let waiting = |error| Failed { error, sent: true, answer_began: false };
        if connection.fill_buf().map_err(waiting)?.is_empty() {
            return Err(waiting(ErrorKind::UnexpectedEof.into()));
        }
        let answering = |error| Failed { error, sent: true, answer_began: true };
        let head = Head::read(&mut connection).map_err(answering)?;
        head.read_body(&mut connection).map_err(answering)?;
        if self.keep_alive && head.keep_alive {
            self.connection = Some(connection);
        }
        Ok(if (200..300).contains(&head.status) { Outcome::Answered } else { Outcome::Status(head.status) })
    }
}

struct Failed {
    error: io::Error,
    /// Was the request sent?
    sent: bool,
    answer_began: bool,
}

fn connect(to: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// Has the server not closed it while it was idle?
fn is_open(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match peeked {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Ok(_) | Err(_) => Ok(false),
    }
}

/// What the head of an answer says about its body.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: Length,
    keep_alive: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Chunked,
    /// Until the connection ends.
    End,
}

impl Head {
    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let status_line = line(from)?;
        let mut words = status_line.split(' ');
        let keeps_by_default = words.next() == Some("HTTP/1.1");
        let status = words.next().and_then(|word| word.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        let mut head = Self { status, length: Length::End, keep_alive: keeps_by_default };
        loop {
            let header = line(from)?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').ok_or(ErrorKind::InvalidData)?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    head.length = Length::Bytes(value.parse().map_err(|_| ErrorKind::InvalidData)?);
                }
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => head.length = Length::Chunked,
                "connection" => head.keep_alive = !value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        head.keep_alive &= head.length != Length::End;
        Ok(head)
    }

    fn read_body(&self, from: &mut impl BufRead) -> io::Result<()> {
        match self.length {
            Length::Bytes(length) => skip(from, length),
            Length::End => io::copy(from, &mut io::sink()).map(drop),
            Length::Chunked => loop {
                let size = line(from)?;
                let size = size.split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
                if size == 0 {
                    // The trailer, which is empty but for the line that ends it.
                    while !line(from)?.is_empty() {}
                    return Ok(());
                }
                skip(from, size)?;
                line(from)?;
            },
        }
    }
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.take(64 * 1024).read_line(&mut line)? == 0 || !line.ends_with('\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn skip(from: &mut impl BufRead, length: u64) -> io::Result<()> {
    let read = io::copy(&mut from.take(length), &mut io::sink())?;
    if read < length { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener};
    use std::thread;

    /// What a client makes of a server that says this on one connection after the other.
    fn outcomes(answers: &'static [&'static [&'static str]], keep_alive: bool) -> Vec<Outcome> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for connection in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut stream = BufReader::new(stream);
                for answer in *connection {
                    while !line(&mut stream).unwrap().is_empty() {}
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
                stream.get_ref().shutdown(Shutdown::Both).unwrap();
            }
        });
        let mut client = Client::new(to, keep_alive);
        let asked: usize = answers.iter().map(|connection| connection.len().max(1)).sum();
        let outcomes = (0..asked).map(|_| client.ask("/").0).collect();
        server.join().unwrap();
        outcomes
    }

    #[test]
    fn whole_answers_of_every_kind() {
        const WHOLE: &[&[&str]] = &[
            &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
            &["HTTP/1.0 200 OK\r\n\r\nuntil the end"],
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n"],
            &["HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"],
        ];
        assert_eq!(outcomes(WHOLE, false), [Outcome::Answered; 4]);
    }

    #[test]
    fn what_ends_too_early_is_cut_and_what_never_began_is_dropped() {
        use Outcome::{Cut, Dropped, Status};
        const BROKEN: &[&[&str]] = &[
            &["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"],
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
            &["HTTP/1.1 200 O"],
            &[""],
            &[],
            &["HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"],
        ];
        assert_eq!(outcomes(BROKEN, false), [Cut, Cut, Cut, Dropped, Dropped, Status(503)]);
    }

    #[test]
    fn a_kept_connection_may_be_closed_between_or_after_a_request() {
        const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(outcomes(&[&[OK, OK, ""]], true), [Outcome::Answered, Outcome::Answered, Outcome::Raced]);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::new(listener.local_addr().unwrap(), true);
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(OK.as_bytes()).unwrap();
        });
        assert_eq!(client.ask("/").0, Outcome::Answered);
        server.join().unwrap();
        assert_eq!(client.ask("/").0, Outcome::ClosedIdle);
        assert_eq!(client.ask("/").0, Outcome::Refused);
    }
}
