//! How somebody outside has a registration leave before its program hears of a stop.
//!
//! A stop from outside refuses new connections while it drains a program, and signals it only then. If the program, or a sidecar of it, is
//! registered and leaves at the signal, requests would still be sent to its closed door until then. So whoever stops it from outside has it leave
//! first: each [`Membership`](crate::Membership) listens at a socket for that.
//!
//! * The socket is a unix one with an **abstract name** (unix(7)): it belongs to the network namespace of its process, needs no file system and is
//!   gone with the process. `/proc/net/unix` lists the names; who really listens there the kernel says (`SO_PEERCRED`).
//! * Who may: root of its user namespace, and the user of the process itself, both of whom could signal it as well. Whoever has no number there
//!   appears as the overflow UID (`user_namespaces(7)`), so that one is nobody's.
//! * An order holds **as long as the connection**. Whoever has had an instance leave and is lost in the middle of a stop has changed nothing: it
//!   is registered again.
//!
//! One line each way, ended by a newline:
//!
//! | who | what |
//! |---|---|
//! | the registration, at first | `1 SETTLE_MS ID`: the version of this protocol, how long its consumers take to hear of a leave, its id |
//! | outside | `leave MS`: out, within so many milliseconds |
//! | outside | `return`: in again |
//! | the registration, to both | `done`, or `failed WHY` |

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::Duration;

use gracefully_linux::family;
use gracefully_linux::netns::NetNs;
use gracefully_linux::peer::Peer;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::timely::Timely;
use crate::{Deadline, Hints};

/// What the names begin with; a number of the process's own and one of the registration's follow.
const PREFIX: &str = "gracefully-registration/";

const VERSION: &str = "1";

/// Whoever connects has to say something within this time, if it has not had us leave.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// How many may be connected at once, and how much each may say.
const ASKING_AT_ONCE: usize = 16;
const SAID_AT_MOST: u64 = 4096;

/// How long registrations may take to say which they are.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// More of them are none.
const REGISTRATIONS_AT_MOST: usize = 64;

/// One part in so many of the time for a leave is kept to hear how it went.
const TO_ANSWER: u32 = 8;

/// Whoever has no number in a user namespace, unless somebody has set another (`/proc/sys/kernel/overflowuid`).
const OVERFLOW: u32 = 65_534;

/// What somebody outside wants. The answer is why it was not done.
#[derive(Debug)]
pub(crate) enum Order {
    /// Out.
    Leave(Deadline, Sender<Result<(), String>>),
    /// In again.
    Return(Sender<Result<(), String>>),
}

/// The socket of one registration. It is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    name: String,
    is_closed: Arc<AtomicBool>,
}

impl Control {
    /// Listens. Orders go to whoever has the other end of `orders`, as long as it has it.
    pub(crate) fn open(id: &str, hints: Hints, orders: Weak<Sender<Order>>) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // PIDs are not unique in a network namespace, as containers may share one. The clock is.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("{PREFIX}{}-{:x}-{number}", std::process::id(), now.as_nanos());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        // A line is a line.
        let id: String = id.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let hello = format!("{VERSION} {} {id}\n", hints.settle.as_millis());
        let control = Self { name, is_closed: Arc::default() };
        let is_closed = Arc::clone(&control.is_closed);
        let listen = move || {
            let asking = Arc::new(());
            for stream in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::Relaxed) {
                    break;
                }
                if !may_ask(&stream) || Arc::strong_count(&asking) > ASKING_AT_ONCE {
                    continue;
                }
                let (hello, orders, counted) = (hello.clone(), orders.clone(), Arc::clone(&asking));
                let answer = move || {
                    // Whoever is gone does not hear it.
                    let _ = answer(&stream, &hello, &orders);
                    drop(counted);
                };
                // Whoever finds no thread is as one who came too late.
                let _ = Builder::new().name("control".into()).spawn(answer);
            }
        };
        Builder::new().name("control".into()).spawn(listen)?;
        Ok(control)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        // So that it looks.
        let _ = connect(&self.name);
    }
}

fn may_ask(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    Peer::of(stream.as_raw_fd()).is_ok_and(|peer| may(peer.uid, ours))
}

fn may(user: u32, ours: u32) -> bool {
    user == 0 || user == ours && user != OVERFLOW
}

/// Until whoever has connected leaves.
fn answer(stream: &UnixStream, hello: &str, orders: &Weak<Sender<Order>>) -> io::Result<()> {
    let mut to = stream;
    to.write_all(hello.as_bytes())?;
    let mut lines = BufReader::new(stream.take(SAID_AT_MOST)).lines();
    loop {
        stream.set_read_timeout(Some(HEARD_WITHIN))?;
        let line = lines.next().transpose()?.unwrap_or_default();
        let Some(Ok(ms)) = line.strip_prefix("leave ").map(str::parse) else { return Ok(()) };
        let deadline = Deadline::within(Duration::from_millis(ms));
        let Some((mut hold, left)) = Hold::begin(orders, deadline) else { return Ok(()) };
        to.write_all(in_words(left).as_bytes())?;
        stream.set_read_timeout(None)?;
        if !matches!(lines.next(), Some(Ok(line)) if line == "return") {
            return Ok(());
        }
        let Some(returned) = hold.end() else { return Ok(()) };
        to.write_all(in_words(returned).as_bytes())?;
    }
}

fn in_words(done: Result<(), String>) -> String {
    match done {
        Ok(()) => "done\n".to_owned(),
        Err(why) => format!("failed {}\n", why.replace('\n', " ")),
    }
}

/// As long as this lives somebody outside wants it out.
struct Hold<'a> {
    orders: &'a Weak<Sender<Order>>,
    is_over: bool,
}

impl<'a> Hold<'a> {
    /// With what came of it. `None`: it has left for good, and heeds no orders.
    fn begin(orders: &'a Weak<Sender<Order>>, deadline: Deadline) -> Option<(Self, Result<(), String>)> {
        // It holds also if the answer is lost.
        let hold = Self { orders, is_over: false };
        let left = hold.order(|told| Order::Leave(deadline, told))?;
        Some((hold, left))
    }

    fn end(&mut self) -> Option<Result<(), String>> {
        if std::mem::replace(&mut self.is_over, true) { None } else { self.order(Order::Return) }
    }

    fn order(&self, order: impl FnOnce(Sender<Result<(), String>>) -> Order) -> Option<Result<(), String>> {
        let (tell, told) = channel();
        self.orders.upgrade()?.send(order(tell)).ok()?;
        told.recv().ok()
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A registration of another process that can be had to leave. When this is dropped it returns.
#[derive(Debug)]
pub struct Registration {
    /// Of the instance, and how long its consumers need.
    known: Option<(String, Duration)>,
    process: u32,
    stream: Stream,
}

type Stream = BufReader<Timely<UnixStream>>;

/// The registrations of a process, of what descends from it, and of the others in its PID namespace, if that is not ours as well.
pub fn registrations(main: u32) -> Vec<Registration> {
    let Ok(there) = NetNs::of(main) else { return Vec::new() };
    let streams =
        there.inside(|| listening().iter().filter_map(|name| connect(name).ok()).collect::<Vec<_>>());
    let streams = streams.unwrap_or_default();
    if streams.is_empty() {
        return Vec::new();
    }
    let family: BTreeSet<u32> = family::descendants(main).into_iter().chain([main]).collect();
    let namespace =
        pid_namespace(main).filter(|theirs| Some(theirs) != pid_namespace(std::process::id()).as_ref());
    // All of them have been asked already, and answer at the same time.
    let deadline = Deadline::within(TOLD_WITHIN);
    let found = streams.into_iter().filter_map(|stream| {
        let process = Peer::of(stream.as_raw_fd()).ok()?.pid;
        // What `docker exec` has started descends from nobody in the container.
        let is_inside = || namespace.is_some() && pid_namespace(process) == namespace;
        (family.contains(&process) || is_inside()).then(|| Registration::meet(stream, process, deadline))?
    });
    found.take(REGISTRATIONS_AT_MOST).collect()
}

/// Of a container with one of its own everything in it is meant.
fn pid_namespace(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// The names at which registrations of this network namespace listen (proc(5), `/proc/net/unix`).
fn listening() -> Vec<String> {
    /// `__SO_ACCEPTCON`: without it this is one of the connections.
    const LISTENS: &str = "00010000";
    let table = std::fs::read_to_string("/proc/thread-self/net/unix").unwrap_or_default();
    let names = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let flags = words.nth(3)?;
        let name = words.nth(3)?.strip_prefix('@')?;
        (flags == LISTENS && name.starts_with(PREFIX)).then(|| name.to_owned())
    });
    names.collect()
}

/// Fails at once if nobody there takes those who come: anybody may listen at such a name, and the standard library would wait.
fn connect(name: &str) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

impl Registration {
    /// `None`: it is something else. One that does not say a word may be late, or does not let us ask.
    fn meet(stream: UnixStream, process: u32, deadline: Deadline) -> Option<Self> {
        let stream = BufReader::new(Timely { socket: stream, until: deadline });
        let mut met = Self { known: None, process, stream };
        match met.hear_who_it_is(deadline) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            Ok(()) | Err(_) => Some(met),
        }
    }

    fn hear_who_it_is(&mut self, deadline: Deadline) -> io::Result<()> {
        let hello = hear(&mut self.stream, deadline)?;
        let mut words = hello.splitn(3, ' ');
        let (version, settle, id) = (words.next(), words.next(), words.next());
        match (version, settle.map(str::parse), id) {
            (Some(VERSION), Some(Ok(ms)), Some(id)) => {
                self.known = Some((id.to_owned(), Duration::from_millis(ms)));
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Of the instance, if that is known.
    pub fn id(&self) -> Option<&str> {
        self.known.as_ref().map(|(id, _)| id.as_str())
    }

    /// Its consumers have heard of a leave within this time.
    pub fn settle(&self) -> Duration {
        self.known.as_ref().map_or(Duration::ZERO, |(_, settle)| *settle)
    }

    /// Has it leave all that it has entered, by then. Whatever happens it is out, or about to be, for as long as this lives.
    pub fn leave(&mut self, deadline: Deadline) -> Result<(), String> {
        let left = deadline.left();
        self.order(&format!("leave {}\n", (left * (TO_ANSWER - 1) / TO_ANSWER).as_millis()), deadline)
    }

    /// Has it come back.
    pub fn rejoin(&mut self, deadline: Deadline) -> Result<(), String> {
        self.order("return\n", deadline)
    }

    fn order(&mut self, order: &str, deadline: Deadline) -> Result<(), String> {
        let answer = self.ask(order, deadline);
        answer.unwrap_or_else(|error| {
            let who = self.id().unwrap_or("what is registered");
            let why = match (error.kind(), &self.known) {
                (io::ErrorKind::UnexpectedEof, None) => "lets only root and its own user have it leave",
                (io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe, Some(_)) => "has ended",
                _ => "does not answer",
            };
            Err(format!("{who}: process {} {why}", self.process))
        })
    }

    /// The answer to these words; nothing, if the connection is closed.
    #[cfg(test)]
    pub(crate) fn say(&mut self, words: &str) -> String {
        writeln!(self.stream.get_mut(), "{words}").unwrap();
        hear(&mut self.stream, Deadline::within(Duration::from_secs(10))).unwrap_or_default()
    }

    /// Does not wait for the answer.
    #[cfg(test)]
    pub(crate) fn order_and_go(mut self, words: &str) {
        writeln!(self.stream.get_mut(), "{words}").unwrap();
    }

    fn ask(&mut self, order: &str, deadline: Deadline) -> io::Result<Result<(), String>> {
        if self.known.is_none() {
            self.hear_who_it_is(deadline)?;
        }
        let stream = self.stream.get_mut();
        stream.until = deadline.at_most(TOLD_WITHIN);
        stream.write_all(order.as_bytes())?;
        let said = hear(&mut self.stream, deadline)?;
        Ok(match said.split_once(' ') {
            Some(("failed", why)) => Err(why.to_owned()),
            None if said == "done" => Ok(()),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

/// One line.
fn hear(from: &mut Stream, deadline: Deadline) -> io::Result<String> {
    from.get_mut().until = deadline;
    let mut line = String::new();
    from.by_ref().take(SAID_AT_MOST).read_line(&mut line)?;
    line.strip_suffix('\n').map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_may_ask() {
        assert!(may(0, 0) && may(0, 1000) && may(1000, 1000) && may(0, OVERFLOW));
        assert!(!may(1000, 0) && !may(1000, 1001) && !may(OVERFLOW, OVERFLOW));
    }

    /// A program may listen at such a name without being a registration.
    #[test]
    fn who_only_pretends_keeps_nobody() {
        let pretend = |number: u32| {
            let name = format!("{PREFIX}{}-pretended-{number}", std::process::id());
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap())
                .map(|it| (name, it))
                .unwrap()
        };
        let (full, _listens) = pretend(0);
        let waiting: Vec<_> = std::iter::from_fn(|| connect(&full).ok()).take(100_000).collect();
        assert!(connect(&full).is_err(), "its queue is full");
        let ((_, silent), (_, garbled)) = (pretend(1), pretend(2));
        let babbler = std::thread::spawn(move || {
            let (mut stream, _) = garbled.accept().unwrap();
            // It may have gone.
            let _ = stream.write_all("1 soon nobody\n".repeat(1000).as_bytes());
        });
        let began = Instant::now();
        let mut found = registrations(std::process::id());
        // Other tests of this process have registrations.
        found.retain(|it| it.known.is_none());
        let mut left = found.iter_mut().map(|it| it.leave(Deadline::within(Duration::from_millis(50))));
        let why = format!("what is registered: process {} does not answer", std::process::id());
        assert!(left.any(|left| left == Err(why.clone())), "one has not said anything yet");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        babbler.join().unwrap();
        drop((waiting, silent));
    }
}
