//! A connection with one server, on which one thing is asked after the other.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::wire::{self, Acl, Code, Granted, Kind, Malformed, Reply, Request, Session};
use crate::Deadline;
use crate::secret::Secret;
use crate::timely::Timely;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server says so.
    No(Code),
    /// The session has run out.
    Expired,
    /// There was no answer in time.
    Late,
    /// There is no connection, or none that is of use.
    Lost(String),
}

pub(super) type Answered<T> = Result<T, Fault>;

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        if code == Code::SESSION_EXPIRED { Self::Expired } else { Self::No(code) }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Lost(malformed.to_string())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Late,
            // Which of them it is hangs on what was on its way then.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::Lost("it has closed the connection".into())
            }
            _ => Self::Lost(error.to_string()),
        }
    }
}

/// A connection. After a [`Fault`] that the server has not sent it is of no use any more: an answer may still come.
///
/// Dropping it leaves its session to the servers.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    session: i64,
    /// The number of the last request.
    xid: i32,
}

impl Connection {
    /// A connection with this server, `HOST:PORT`, on which the user is known. It goes on with the session if there is one, else it
    /// begins one with this time-out.
    pub(super) fn open(
        server: &str,
        timeout: Duration,
        session: Option<&Session>,
        user: Option<&Secret>,
        until: Deadline,
    ) -> Answered<(Self, Granted)> {
        let mut stream = Stream { socket: connect(server, until)?, until };
        stream.socket.set_nodelay(true)?;
        stream.write_all(&wire::connect(timeout, session))?;
        let granted = Granted::read(&stream.frame()?)?.ok_or(Fault::Expired)?;
        if session.is_some_and(|session| session.id != granted.session.id) {
            return Err(Fault::Lost("it has taken our session for another".into()));
        }
        let mut connection = Self { stream, session: granted.session.id, xid: 0 };
        if let Some(user) = user {
            connection.stream.write_all(&wire::auth("digest", user.expose()))?;
            connection.answer(wire::AUTH)?;
        }
        Ok((connection, granted))
    }

    /// Answers may take until then.
    pub(super) fn wait_until(&mut self, until: Deadline) {
        self.stream.until = until;
    }

    /// The number of its session.
    pub(super) fn session(&self) -> i64 {
        self.session
    }

    /// Makes a node.
    pub(super) fn create(&mut self, path: &str, data: &[u8], kind: Kind, acls: &[Acl]) -> Answered<()> {
        self.ask(&Request::Create { path, data, kind, acls }).map(drop)
    }

    /// Removes one.
    pub(super) fn delete(&mut self, path: &str) -> Answered<()> {
        self.ask(&Request::Delete { path }).map(drop)
    }

    /// The session that has made the node, if it is there; 0 if it is not an ephemeral one.
    pub(super) fn owner(&mut self, path: &str) -> Answered<Option<i64>> {
        match self.ask(&Request::Exists { path }) {
            Ok(record) => Ok(Some(wire::owner(&record)?)),
            Err(Fault::No(Code::NO_NODE)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// What the node says, and its owner.
    pub(super) fn data(&mut self, path: &str) -> Answered<(Vec<u8>, i64)> {
        let record = self.ask(&Request::GetData { path })?;
        let (data, owner) = wire::data(&record)?;
        Ok((data.to_vec(), owner))
    }

    /// Has the node say this.
    pub(super) fn set_data(&mut self, path: &str, data: &[u8]) -> Answered<()> {
        self.ask(&Request::SetData { path, data }).map(drop)
    }

    /// Ends the session, and with it goes what it has made.
    pub(super) fn close(mut self) -> Answered<()> {
        self.ask(&Request::Close).map(drop)
    }

    fn ask(&mut self, request: &Request<'_>) -> Answered<Vec<u8>> {
        // What is less than 1 means something else.
        self.xid = self.xid.checked_add(1).unwrap_or(1);
        self.stream.write_all(&request.frame(self.xid))?;
        self.answer(self.xid)
    }

    /// The record of the next answer, which is the one to this request.
    fn answer(&mut self, to: i32) -> Answered<Vec<u8>> {
        loop {
            let frame = self.stream.frame()?;
            let Reply { xid, record } = Reply::read(&frame)?;
            if xid == to {
                return Ok(record?.to_vec());
            }
            // Nobody has asked for these.
            if !matches!(xid, wire::NOTIFICATION | wire::PING) {
                return Err(Fault::Lost("it answers what was not asked".into()));
            }
        }
    }
}

/// The first of the server's addresses that takes a connection; each has its share of the time.
fn connect(server: &str, until: Deadline) -> Answered<TcpStream> {
    let addresses = addresses(server, until)?;
    let mut fault = Fault::Lost("it has no address".into());
    for (tried, address) in addresses.iter().enumerate() {
        let time = until.left() / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        if time.is_zero() {
            return Err(Fault::Late);
        }
        match TcpStream::connect_timeout(address, time) {
            Ok(stream) => return Ok(stream),
            Err(error) => fault = error.into(),
        }
    }
    Err(fault)
}

/// A name is looked up on a thread, as that takes no deadline: if it is late, the thread is left to itself.
fn addresses(server: &str, until: Deadline) -> Answered<Vec<SocketAddr>> {
    if let Ok(address) = server.parse() {
        return Ok(vec![address]);
    }
    let (tell, told) = channel();
    let name = server.to_owned();
    // Nobody waits for a late answer.
    let look_up = move || drop(tell.send(name.to_socket_addrs().map(Vec::from_iter)));
    thread::Builder::new().name("zookeeper".into()).spawn(look_up)?;
    Ok(told.recv_timeout(until.left()).map_err(|_| Fault::Late)??)
}

type Stream = Timely<TcpStream>;

impl Stream {
    fn frame(&mut self) -> Answered<Vec<u8>> {
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let mut frame = vec![0; wire::length(length)?];
        self.read_exact(&mut frame)?;
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::TcpListener;
    use std::time::Instant;

    /// A session of 4 s.
    const GRANTED: [u8; 37] = [
        0, 0, 0, 0, 0, 0, 15, 160, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
        12, 13, 14, 15, 16, 0,
    ];

    fn soon() -> Deadline {
        Deadline::within(Duration::from_secs(20))
    }

    fn reply(xid: i32, code: i32) -> Vec<u8> {
        [&xid.to_be_bytes()[..], &[0; 8], &code.to_be_bytes()].concat()
    }

    fn frame(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    /// A server that says something to each frame that comes, and then closes the connection.
    fn says(answers: Vec<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let mut stream = Stream { socket: listener.accept().unwrap().0, until: soon() };
            for answer in answers {
                stream.frame().unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        at
    }

    fn open(server: &str) -> Answered<(Connection, Granted)> {
        Connection::open(server, Duration::from_secs(4), None, None, soon())
    }

    fn asked(answers: Vec<Vec<u8>>) -> Answered<()> {
        let (mut connection, granted) =
            open(&says([vec![frame(&GRANTED)], answers].concat())).expect("a session");
        assert_eq!((connection.session(), granted.session.id), (7, 7));
        connection.delete("/a")
    }

    #[test]
    fn answers_are_those_to_what_was_asked() {
        let (told, pinged, done) =
            (frame(&reply(wire::NOTIFICATION, 0)), frame(&reply(wire::PING, 0)), frame(&reply(1, 0)));
        assert_eq!(asked(vec![[told, pinged, done].concat()]), Ok(()));
        assert_eq!(asked(vec![frame(&reply(1, -101))]), Err(Fault::No(Code::NO_NODE)));
        assert_eq!(asked(vec![frame(&reply(1, -112))]), Err(Fault::Expired));
        let lost = |words: &str| Err(Fault::Lost(words.into()));
        assert_eq!(asked(vec![frame(&reply(2, 0))]), lost("it answers what was not asked"));
        assert_eq!(asked(vec![frame(&[0; 7])]), lost("it does not speak ZooKeeper's protocol"));
        assert_eq!(asked(vec![vec![0x7f; 4]]), lost("it does not speak ZooKeeper's protocol"));
        assert_eq!(asked(vec![frame(&reply(1, 0))[..9].to_vec()]), lost("it has closed the connection"));
        assert_eq!(asked(vec![]).unwrap_err(), Fault::Lost("it has closed the connection".into()));
    }

    #[test]
    fn a_session_that_is_not_ours_is_not_taken() {
        let (_, Granted { timeout, session }) = open(&says(vec![frame(&GRANTED)])).unwrap();
        let go_on = |answer: &[u8]| {
            Connection::open(&says(vec![frame(answer)]), timeout, Some(&session), None, soon()).map(drop)
        };
        assert_eq!(go_on(&GRANTED), Ok(()));
        assert_eq!(go_on(&[0; 37]), Err(Fault::Expired));
        let mut another = GRANTED;
        another[8] = 1;
        assert!(matches!(go_on(&another), Err(Fault::Lost(_))));
    }

    #[test]
    fn a_user_who_is_not_taken_hears_it() {
        let server = says(vec![frame(&GRANTED), frame(&reply(wire::AUTH, -115))]);
        let opened =
            Connection::open(&server, Duration::from_secs(4), None, Some(&Secret::from("we:x")), soon());
        assert_eq!(opened.unwrap_err(), Fault::No(Code::AUTH_FAILED));
    }

    #[test]
    fn a_server_that_dribbles_is_late() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let mut tcp = listener.accept().unwrap().0;
            // Each byte comes in time, and all of them never do.
            while tcp.write_all(&[0]).is_ok() {
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        let (began, until) = (Instant::now(), Deadline::within(Duration::from_millis(200)));
        let mut stream = Stream { socket: TcpStream::connect(at).unwrap(), until };
        assert_eq!(Fault::from(stream.read_exact(&mut [0; 4096]).unwrap_err()), Fault::Late);
        assert!(began.elapsed() < Duration::from_secs(10));
        stream.until = Deadline::within(Duration::ZERO);
        assert_eq!(Fault::from(stream.write_all(b"ruok").unwrap_err()), Fault::Late);
    }

    #[test]
    fn all_addresses_of_a_name_are_tried() {
        // Of whatever this machine knows by that name only one is listened at.
        let port = says(vec![frame(&GRANTED)]).rsplit_once(':').unwrap().1.to_owned();
        assert!(open(&format!("localhost:{port}")).is_ok());
        let unknown = open("localhost:no-port").unwrap_err();
        assert!(matches!(unknown, Fault::Lost(_)), "{unknown:?}");
        let no_time = Deadline::within(Duration::ZERO);
        assert_eq!(connect("127.0.0.1:1", no_time).unwrap_err(), Fault::Late);
    }
}
