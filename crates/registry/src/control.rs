//! How somebody outside has a registration leave before its program hears of a stop.
//!
//! A stop from outside refuses new connections while it drains a program, and signals it only then. If the program, or a sidecar of it, is
//! registered and leaves at the signal, requests would still be sent to its closed door until then. So whoever stops it from outside has it leave
//! first: each [`Membership`](crate::Membership) listens at a socket for that.
//!
//! * The socket is a unix one with an **abstract name** (unix(7)): it belongs to the network namespace of its process, needs no file system and is
//!   gone with the process. `/proc/net/unix` lists the names; who really listens there the kernel says (`SO_PEERCRED`).
//! * Who may: root of its user namespace, and the user of the process itself, both of whom could signal it as well.
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
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::Duration;

use gracefully_linux::family;
use gracefully_linux::netns::NetNs;
use gracefully_linux::peer::Peer;

use crate::{Deadline, Hints};

/// What the names begin with; a number of the process's own and one of the registration's follow.
const PREFIX: &str = "gracefully-registration/";

const VERSION: &str = "1";

/// Whoever connects has to say something within this time, if it has not had us leave.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// How many may be connected at once, and how much each may say.
const ASKING_AT_ONCE: usize = 16;
const SAID_AT_MOST: usize = 4096;

/// How long a registration may take to say which one it is.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// An answer may come so much later than what was asked for ended by.
const ANSWERED_LATE: Duration = Duration::from_millis(700);

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
    address: SocketAddr,
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
        let address = SocketAddr::from_abstract_name(name)?;
        let listener = UnixListener::bind_addr(&address)?;
        // A line is a line.
        let id: String = id.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let hello = format!("{VERSION} {} {id}\n", hints.settle.as_millis());
        let control = Self { address, is_closed: Arc::default() };
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
        let _ = UnixStream::connect_addr(&self.address);
    }
}

fn may_ask(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    Peer::of(stream.as_raw_fd()).is_ok_and(|peer| peer.uid == 0 || peer.uid == ours)
}

/// Until whoever has connected leaves.
fn answer(stream: &UnixStream, hello: &str, orders: &Weak<Sender<Order>>) -> io::Result<()> {
    let mut to = stream;
    to.write_all(hello.as_bytes())?;
    let mut lines = BufReader::new(stream.take(SAID_AT_MOST as u64)).lines();
    let mut is_out = false;
    loop {
        stream.set_read_timeout(if is_out { None } else { Some(HEARD_WITHIN) })?;
        let line = lines.next();
        let (tell, told) = channel();
        let order = match line.as_ref().and_then(|line| line.as_ref().ok()).map(|line| line.split_once(' ')) {
            Some(Some(("leave", ms))) if !is_out => {
                let Ok(ms) = ms.parse() else { return Ok(()) };
                Order::Leave(Deadline::within(Duration::from_millis(ms)), tell)
            }
            // It returns as well if we are not asked any more.
            _ if is_out => Order::Return(tell),
            _ => return Ok(()),
        };
        is_out = matches!(order, Order::Leave(..));
        // Whoever has left for good heeds no orders.
        let Some(orders) = orders.upgrade() else { return Ok(()) };
        let _ = orders.send(order);
        drop(orders);
        let Ok(done) = told.recv() else { return Ok(()) };
        let said = match done {
            Ok(()) => "done\n".to_owned(),
            Err(why) => format!("failed {}\n", why.replace('\n', " ")),
        };
        to.write_all(said.as_bytes())?;
    }
}

/// A registration of another process that can be had to leave. When this is dropped it returns.
#[derive(Debug)]
pub struct Registration {
    id: String,
    settle: Duration,
    stream: BufReader<UnixStream>,
}

/// The registrations of a process and of what descends from it. Those that we may not ask are left out.
pub fn registrations(main: u32) -> Vec<Registration> {
    let Ok(there) = NetNs::of(main) else { return Vec::new() };
    let addresses = there.inside(|| listening().into_iter().filter_map(connect).collect::<Vec<_>>());
    let streams = addresses.unwrap_or_default();
    if streams.is_empty() {
        return Vec::new();
    }
    let family: BTreeSet<u32> = family::descendants(main).into_iter().chain([main]).collect();
    let ours = streams.into_iter().filter(|(_, pid)| family.contains(pid));
    ours.filter_map(|(stream, _)| Registration::meet(stream).ok()).collect()
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

/// With the process that listens there.
fn connect(name: String) -> Option<(UnixStream, u32)> {
    let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).ok()?).ok()?;
    let pid = Peer::of(stream.as_raw_fd()).ok()?.pid;
    Some((stream, pid))
}

impl Registration {
    fn meet(stream: UnixStream) -> io::Result<Self> {
        let mut stream = BufReader::new(stream);
        let hello = hear(&mut stream, Deadline::within(TOLD_WITHIN))?;
        let mut words = hello.splitn(3, ' ');
        let (version, settle, id) = (words.next(), words.next(), words.next());
        match (version, settle.map(str::parse), id) {
            (Some(VERSION), Some(Ok(ms)), Some(id)) => {
                Ok(Self { id: id.to_owned(), settle: Duration::from_millis(ms), stream })
            }
            _ => Err(io::Error::other(format!("{hello:?} is no registration's word"))),
        }
    }

    /// Of the instance.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its consumers have heard of a leave within this time.
    pub fn settle(&self) -> Duration {
        self.settle
    }

    /// Has it leave all that it has entered, by then. Whatever happens it is out, or about to be, for as long as this lives.
    pub fn leave(&mut self, deadline: Deadline) -> Result<(), String> {
        let order = format!("leave {}\n", deadline.left().as_millis());
        self.order(&order, Deadline::within(deadline.left() + ANSWERED_LATE))
    }

    /// Has it come back.
    pub fn rejoin(&mut self, deadline: Deadline) -> Result<(), String> {
        self.order("return\n", deadline)
    }

    fn order(&mut self, order: &str, deadline: Deadline) -> Result<(), String> {
        let answer = self.ask(order, deadline);
        answer.unwrap_or_else(|error| {
            Err(format!("{}: whoever has registered it does not answer: {error}", self.id))
        })
    }

    /// The answer to these words; nothing, if the connection is closed.
    #[cfg(test)]
    pub(crate) fn say(&mut self, words: &str) -> String {
        writeln!(self.stream.get_mut(), "{words}").unwrap();
        hear(&mut self.stream, Deadline::within(Duration::from_secs(10))).unwrap_or_default()
    }

    fn ask(&mut self, order: &str, deadline: Deadline) -> io::Result<Result<(), String>> {
        let stream = self.stream.get_mut();
        stream.set_write_timeout(Some(TOLD_WITHIN))?;
        stream.write_all(order.as_bytes())?;
        let said = hear(&mut self.stream, deadline)?;
        Ok(match said.split_once(' ') {
            Some(("failed", why)) => Err(why.to_owned()),
            None if said == "done" => Ok(()),
            _ => return Err(io::Error::other(format!("{said:?} is no answer"))),
        })
    }
}

/// One line. Each part of it may come late, but not the whole.
fn hear(from: &mut BufReader<UnixStream>, deadline: Deadline) -> io::Result<String> {
    let mut line = Vec::new();
    loop {
        let left = deadline.left();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        from.get_ref().set_read_timeout(Some(left))?;
        let part = from.fill_buf()?;
        if part.is_empty() || line.len() > SAID_AT_MOST {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(part.len());
        line.extend(&part[..length]);
        from.consume(length + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
    }
}
