//! Watching the connections of a program: one look after the other, each a dump of the kernel's socket table.
//!
//! A look combines two sources: what the kernel shows of every socket, and what was heard on the wire since the look before
//! ([`tap`](crate::tap)), if that can be heard and understood.
//!
//! Connections are looked at where the program is, in its own network namespace. Docker's userland proxy makes a second
//! place: it accepts a client's connection on the host and opens another one to the container, so an answer that has left
//! the program may still be in the proxy, and a client that the proxy has accepted may not have reached the program.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use gracefully_core::traffic::Why;
use gracefully_linux::connection::{Activity, Connection};
use gracefully_linux::netns::NetNs;
use gracefully_linux::sock_diag::{SockDiag, State, States, TcpSocket, Which};
use gracefully_linux::tcp_table;
use rustix::io::Result;

use crate::freeze::Course;
use crate::judge::{After, Program, was_cut};
use crate::owners::Owners;
use crate::queue::Ends;
use crate::talk::{self, Heard};
use crate::tap::Tap;
use crate::target::Target;

/// How often listeners that come and go are looked for.
const LISTENERS: Duration = Duration::from_millis(100);

/// How often the program's files are looked at though nothing is new: somebody may have handed it a listener.
const FILES: Duration = Duration::from_secs(10);

/// How long to wait for the rest of an answer of which it is unknown whether the request was HEAD.
const PROMISED: Duration = Duration::from_secs(3);

/// Where Docker's DNS server listens, in the namespace of a container but not of it.
const DOCKERS_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// All places at which connections of the target are.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Where the program is.
    pub(crate) inside: Place,
    /// Where the proxy of its engine is, if there may be one.
    pub(crate) outside: Option<Place>,
    /// Whether the program is in our network namespace.
    pub(crate) shares_ours: bool,
}

/// What one look showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Connections with a request under way, those that were not accepted included.
    pub(crate) busy: u32,
    /// Connections without.
    pub(crate) idle: u32,
    /// Connections that were not there at the look before.
    pub(crate) new: u32,
    /// Connections on which a request was under way at the look before, and is no longer.
    pub(crate) settled: u32,
}

impl Watch {
    /// Begins to watch.
    ///
    /// Fails with `EPERM` or `EACCES` if we may not look into the program's network namespace, with `ENOENT` if it is gone.
    pub(crate) fn begin(target: &Target, now: Duration) -> Result<Self> {
        let there = NetNs::of(target.main)?;
        let shares_ours = there == NetNs::ours()?;
        let inside = there.inside(|| Place::of_program(target.main, shares_ours, now))??;
        let mut ports: Vec<u16> = target.published.iter().map(|published| published.outside.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        let outside =
            if ports.is_empty() || shares_ours { None } else { Some(Place::of_proxy(target, ports)?) };
        Ok(Self { inside, outside, shares_ours })
    }

    /// When a look can show something at the earliest, if that is known: who listens nowhere has no connections.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        match &self.inside.whose {
            Whose::Programs(programs) if self.inside.ports.is_empty() && self.outside.is_none() => {
                Some(programs.due)
            }
            Whose::Programs(_) | Whose::At(_) => None,
        }
    }

    /// How many connections the program can accept now.
    pub(crate) fn room(&mut self, now: Duration) -> Result<u32> {
        self.inside.look(now)?;
        Ok(self.inside.room)
    }

    /// Connections that ended between the last look and the one before, in the middle of a request.
    pub(crate) fn ended(&self) -> Vec<Ended> {
        let [outside, inside] = self.ended_at_both();
        match &self.outside {
            // Here a client's own address is seen. A proxy closes its client's connection when the other one was closed, and
            // that one was judged.
            Some(place) if !place.connections.is_empty() => outside,
            Some(_) | None => inside,
        }
    }

    /// The same, first where clients' own addresses are seen and then where the program is.
    pub(crate) fn ended_at_both(&self) -> [Vec<Ended>; 2] {
        let outside = self.outside.iter().flat_map(|place| &place.ended);
        let outside = outside.filter(|ended| ended.why != Why::Unclear).copied().collect();
        [outside, self.inside.ended.clone()]
    }

    /// Connections with a request under way at the last look, as if they ended now: where clients' own addresses are seen, and
    /// where the program is.
    pub(crate) fn end_now(&mut self) -> Result<[Vec<Ended>; 2]> {
        let outside = match &mut self.outside {
            Some(outside) => outside.end_now()?,
            None => Vec::new(),
        };
        Ok([outside, self.inside.end_now()?])
    }

    /// Looks once.
    pub(crate) fn look(&mut self, now: Duration) -> Result<Look> {
        let inside = self.inside.look(now)?;
        let Some(outside) = &mut self.outside else { return Ok(inside) };
        let outside = outside.look(now)?;
        // A request by way of the proxy is under way at both places.
        Ok(Look { busy: inside.busy.max(outside.busy), new: inside.new.max(outside.new), ..inside })
    }
}

/// One place with connections.
#[derive(Debug)]
pub(crate) struct Place {
    connections: HashMap<u64, Watched>,
    diag: SockDiag,
    /// `None`: we may not listen.
    tap: Option<Tap>,
    ports: Vec<u16>,
    whose: Whose,
    /// Connections that were not accepted, by the listeners' own count, and how many more they can take.
    waiting: u32,
    room: u32,
    look: u64,
    /// Ports of ours on which HTTP/1 was heard.
    plain: Vec<u16>,
    /// The first look tells nothing about what is new.
    seen_before: bool,
    /// Connections that ended since the look before while a request was under way on them.
    ended: Vec<Ended>,
}

/// What is needed to act on the connections of a place.
#[derive(Debug)]
pub(crate) struct Parts<'a, I> {
    /// All that were there at the last look.
    pub(crate) connections: I,
    /// Where the program has them open.
    pub(crate) owners: Option<&'a mut Owners>,
    /// What is said on them.
    pub(crate) tap: Option<&'a mut Tap>,
}

/// A connection that ended while a request was under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) watched: Watched,
    pub(crate) why: Why,
    pub(crate) after: After,
}

impl Ended {
    /// See [`judge`](crate::judge).
    pub(crate) fn was_cut(&self, program: Program) -> bool {
        was_cut(&self.watched.connection, self.why, self.after, program)
    }
}

/// Whose sockets count.
#[derive(Debug)]
enum Whose {
    /// The program's.
    Programs(Box<Programs>),
    /// Everything that comes to these addresses.
    At(Vec<SocketAddr>),
}

/// The sockets of a program.
#[derive(Debug)]
struct Programs {
    owners: Owners,
    listeners: SockDiag,
    /// Listening sockets that were there when the program's files were looked at, anybody's, by cookie.
    known: HashSet<u64>,
    /// When to look for new listeners.
    due: Duration,
    /// When to look at the program's files, whatever is new.
    files_due: Duration,
    /// Ports at which somebody else listens, too.
    shared: Vec<u16>,
    /// Where the program listens, or has.
    listening_at: Vec<SocketAddr>,
    /// Whether the program is in our network namespace.
    shares_ours: bool,
}

/// A connection since it was first seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) connection: Connection,
    pub(crate) activity: Activity,
    pub(crate) course: Course,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) cookie: u64,
    pub(crate) inode: u64,
    /// What was heard on the wire.
    pub(crate) heard: Heard,
    /// Segments dropped by the kernel.
    pub(crate) dropped: u32,
    pub(crate) retransmits: u8,
    pub(crate) since: Duration,
    /// As it was known at the look before, and what has changed since.
    before: Connection,
    after: After,
    ours: bool,
    look: u64,
}

/// An ear at these ports, if we may listen. It costs some 15 ms to close one, so there is none where nothing is to be heard.
fn tap(ports: &[u16]) -> Option<Tap> {
    if ports.is_empty() { None } else { Tap::new(ports).ok() }
}

impl Place {
    /// The sockets of a program, in the network namespace of the calling thread.
    fn of_program(main: u32, shares_ours: bool, now: Duration) -> Result<Self> {
        let owners = Owners::of(main);
        let listeners = SockDiag::open(Which { states: States::LISTENING, ports: &[] })?;
        let programs = Programs {
            owners,
            listeners,
            known: HashSet::new(),
            due: now,
            files_due: now,
            shared: Vec::new(),
            listening_at: Vec::new(),
            shares_ours,
        };
        let mut place = Self::new(Vec::new(), Whose::Programs(Box::new(programs)))?;
        place.find_listeners(now)?;
        place.tap = tap(&place.ports);
        Ok(place)
    }

    fn of_proxy(target: &Target, ports: Vec<u16>) -> Result<Self> {
        Self::new(ports, Whose::At(target.published.iter().map(|published| published.outside).collect()))
    }

    fn new(ports: Vec<u16>, whose: Whose) -> Result<Self> {
        Ok(Self {
            connections: HashMap::new(),
            tap: None,
            diag: SockDiag::open(Which { states: States::LIVE, ports: &ports })?,
            ports,
            whose,
            waiting: 0,
            room: 0,
            look: 0,
            plain: Vec::new(),
            seen_before: false,
            ended: Vec::new(),
        })
    }

    /// Where the program has listened since we began to watch.
    pub(crate) fn listening_at(&self) -> &[SocketAddr] {
        match &self.whose {
            Whose::Programs(programs) => &programs.listening_at,
            Whose::At(addresses) => addresses,
        }
    }

    /// The ports at which the program has listened since we began to watch, in order.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The listening sockets of the program: inode and cookie.
    pub(crate) fn listeners(&mut self) -> Result<Vec<(u64, u64)>> {
        let Whose::Programs(programs) = &mut self.whose else { return Ok(Vec::new()) };
        let Programs { owners, listeners, .. } = &mut **programs;
        let mut found = Vec::new();
        listeners.dump(|socket| {
            if owners.have(socket.inode) {
                found.push((socket.inode, socket.cookie));
            }
        })?;
        Ok(found)
    }

    /// The other end of every connection, and what is going on there.
    pub(crate) fn activities(&self) -> Vec<(SocketAddr, Activity)> {
        let ours = self.connections.values().filter(|watched| watched.ours);
        ours.map(|watched| (watched.peer, watched.activity)).collect()
    }

    /// As [`Watch::end_now`].
    fn end_now(&mut self) -> Result<Vec<Ended>> {
        if self.connections.is_empty() {
            return Ok(Vec::new());
        }
        let mut after = HashMap::new();
        self.diag.dump(|socket| {
            after.insert(socket.cookie, *socket);
        })?;
        self.ended.clear();
        for watched in self.connections.values().filter(|watched| !watched.closed_by_us()) {
            let after = after.get(&watched.cookie).map(|socket| After::of(&watched.connection, socket));
            self.ended.extend(watched.end(watched.connection, after.unwrap_or(After::Gone { said: None })));
        }
        if let Some(tap) = &mut self.tap {
            tap.listen()?;
        }
        self.hear_the_end();
        Ok(self.ended.clone())
    }

    /// What is needed to act on connections.
    pub(crate) fn parts(&mut self) -> Parts<'_, impl Iterator<Item = &mut Watched>> {
        let owners = match &mut self.whose {
            Whose::Programs(programs) => Some(&mut programs.owners),
            Whose::At(_) => None,
        };
        let connections = self.connections.values_mut().filter(|watched| watched.ours);
        Parts { connections, owners, tap: self.tap.as_mut() }
    }

    /// Looks at all listeners anew, where that is due.
    fn find_listeners(&mut self, now: Duration) -> Result<()> {
        let Whose::Programs(programs) = &mut self.whose else { return Ok(()) };
        if now < programs.due {
            return Ok(());
        }
        programs.due = now + LISTENERS;
        let mut ports = programs.listening(now)?;
        // Later nobody can have vanished whom we have not seen.
        let at_first = !self.seen_before && self.ports.is_empty();
        if at_first && ports.is_empty() && !programs.owners.have_none() {
            ports = programs.listened()?;
        }
        // A program that ends may close its listeners first and finish what it has begun: their connections still count.
        ports.extend(&self.ports);
        ports.sort_unstable();
        ports.dedup();
        if ports != self.ports {
            self.diag.ask_about(Which { states: States::LIVE, ports: &ports });
            self.tap = match self.tap.take() {
                Some(tap) => Some(tap).filter(|tap| tap.listen_at(&ports).is_ok()),
                None => tap(&ports),
            };
            self.ports = ports;
        }
        Ok(())
    }

    fn look(&mut self, now: Duration) -> Result<Look> {
        self.find_listeners(now)?;
        self.look += 1;
        (self.waiting, self.room) = (0, 0);
        let mut look = Look::default();
        let mut half_open = 0;
        if !self.ports.is_empty() {
            let Self { connections, diag, ports, whose, waiting, room, .. } = self;
            diag.dump(|socket| {
                if ports.binary_search(&socket.local.port()).is_err() {
                    return;
                }
                if socket.state == State::Listen {
                    if whose.listens(socket) {
                        *waiting += socket.receive_queue;
                        // The kernel takes one more than the backlog says (`sk_acceptq_is_full`).
                        *room += (socket.send_queue + 1).saturating_sub(socket.receive_queue);
                    }
                    return;
                }
                half_open += u32::from(socket.state == State::SynReceived);
                match connections.entry(socket.cookie) {
                    Entry::Occupied(mut watched) => watched.get_mut().look(socket, whose, now, self.look),
                    Entry::Vacant(place) => {
                        let watched = place.insert(Watched::new(socket, whose, now, self.look));
                        look.new += u32::from(self.seen_before && watched.ours);
                    }
                }
            })?;
        }
        // Those will want a place in the queue, too.
        self.room = self.room.saturating_sub(half_open);
        self.seen_before = true;
        self.ended.clear();
        let Self { connections, ended, .. } = self;
        connections.retain(|_, watched| {
            let is_there = watched.look == self.look;
            if !is_there && let Some(end) = watched.end(watched.connection, After::Gone { said: None }) {
                look.settled += u32::from(watched.closed_by_us());
                ended.extend(Some(end).filter(|_| !watched.closed_by_us()));
            }
            is_there
        });
        self.ask_the_kernel(now);
        self.listen()?;
        self.hear_the_end();
        for watched in self.connections.values_mut().filter(|watched| watched.ours) {
            let was_busy = watched.why_busy().is_some();
            let activity = watched.judge(now);
            match activity {
                Activity::Busy(_) => look.busy += 1,
                Activity::Idle => look.idle += 1,
                Activity::Closing if watched.closed_by_us() => {}
                Activity::Closing => self.ended.extend(watched.end(watched.before, watched.after)),
                Activity::Listening(_) => {}
            }
            let settled =
                activity == Activity::Idle || (activity == Activity::Closing && watched.closed_by_us());
            look.settled += u32::from(was_busy && settled);
            watched.activity = activity;
        }
        // The listener counts those that the program has not accepted; so do we, but not all were shown to us.
        look.busy = look.busy.max(self.waiting);
        Ok(look)
    }

    /// Hears what was said until now. That is after the sockets were looked at: what it tells is newer.
    fn listen(&mut self) -> Result<()> {
        let Self { tap: Some(tap), connections, plain, .. } = self else { return Ok(()) };
        tap.listen()?;
        for watched in connections.values_mut() {
            watched.heard = tap.heard(watched.peer, watched.local);
            if watched.heard.pipelined {
                watched.connection.is_multiplexed();
            }
            if watched.heard.state != talk::State::Unknown && !plain.contains(&watched.local.port()) {
                plain.push(watched.local.port());
            }
        }
        // Others at the same port speak the same.
        for watched in connections.values_mut().filter(|watched| plain.contains(&watched.local.port())) {
            watched.connection.has_only_answers();
        }
        if tap.len() > 2 * connections.len() + 100 {
            let there: HashSet<Ends> =
                connections.values().map(|watched| Ends { from: watched.peer, to: watched.local }).collect();
            tap.keep(|ends| there.contains(ends));
        }
        Ok(())
    }

    /// Tells of those that have ended whether the program said something since the look before.
    fn hear_the_end(&mut self) {
        let Some(tap) = &self.tap else { return };
        for Ended { watched, after, .. } in &mut self.ended {
            if let After::Gone { said } = after {
                *said = Some(tap.heard(watched.peer, watched.local).said != watched.heard.said);
            }
        }
    }

    /// Where it is unclear who sent last, the kernel's own idea may help.
    fn ask_the_kernel(&mut self, now: Duration) {
        let Whose::Programs(programs) = &self.whose else { return };
        let ours = self.connections.values_mut().filter(|watched| watched.ours);
        let connections = ours.map(|watched| (watched.inode, &mut watched.connection));
        tcp_table::clarify(programs.owners.main(), connections, now);
    }
}

impl Programs {
    /// Is everything in this network namespace taken for the program's? We may not look into its files, and the namespace
    /// is not ours.
    fn alone(&self) -> bool {
        !self.shares_ours && self.owners.are_hidden()
    }

    /// The ports at which the program listens now, in order.
    ///
    /// To look at the program's files costs more than all else: one of them for each connection. So that is only done where
    /// something is new.
    fn listening(&mut self, now: Duration) -> Result<Vec<u16>> {
        let mut is_fresh = false;
        if self.owners.have_none() {
            self.look_at_files(now);
            is_fresh = true;
        }
        if self.owners.have_none() && !self.alone() {
            self.shared.clear();
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        self.listeners.dump(|socket| all.push((socket.cookie, socket.inode, socket.local)))?;
        let is_new = all.iter().any(|(cookie, ..)| !self.known.contains(cookie));
        if !is_fresh && (is_new || !self.shared.is_empty() || now >= self.files_due) {
            self.look_at_files(now);
        }
        self.known = all.iter().map(|(cookie, ..)| *cookie).collect();
        let alone = self.alone();
        let is_ours = |inode: &u64, local: &SocketAddr| {
            if alone { local.ip() != DOCKERS_DNS } else { self.owners.have(*inode) }
        };
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for (_, inode, local) in &all {
            if is_ours(inode, local) {
                ours.push(local.port());
                if !self.listening_at.contains(local) {
                    self.listening_at.push(*local);
                }
            } else {
                others.push(local.port());
            }
        }
        ours.sort_unstable();
        ours.dedup();
        others.retain(|port| ours.contains(port));
        self.shared = others;
        Ok(ours)
    }

    /// The ports at which it has listened before we began to watch, as far as its connections tell: a client has one of
    /// those that the kernel gives to clients.
    fn listened(&self) -> Result<Vec<u16>> {
        let clients = clients_ports();
        let mut ports = Vec::new();
        SockDiag::open(Which { states: States::LIVE, ports: &[] })?.dump(|socket| {
            let port = socket.local.port();
            if self.owners.have(socket.inode) && !clients.contains(&port) {
                ports.push(port);
            }
        })?;
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }

    fn look_at_files(&mut self, now: Duration) {
        self.owners.refresh();
        self.files_due = now + FILES;
    }
}

impl Whose {
    fn listens(&self, socket: &TcpSocket) -> bool {
        match self {
            Self::Programs(programs) => programs.alone() || programs.owners.have(socket.inode),
            Self::At(addresses) => at(addresses, socket.local),
        }
    }

    fn owns(&self, socket: &TcpSocket) -> bool {
        match self {
            // Whose it will be, where several listen, shows when it is accepted.
            Self::Programs(programs) => {
                programs.alone()
                    || !programs.shared.contains(&socket.local.port())
                    || programs.owners.have(socket.inode)
            }
            Self::At(addresses) => at(addresses, socket.local),
        }
    }
}

/// The ports from which programs connect, in this network namespace (`ip_local_port_range`, ip(7)).
fn clients_ports() -> RangeInclusive<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().map(str::parse);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 32_768..=60_999,
    }
}

fn at(addresses: &[SocketAddr], local: SocketAddr) -> bool {
    addresses.iter().any(|address| {
        address.port() == local.port() && (address.ip().is_unspecified() || address.ip() == local.ip())
    })
}

impl Watched {
    fn new(socket: &TcpSocket, whose: &Whose, now: Duration, look: u64) -> Self {
        let connection = Connection::new(socket, now);
        Self {
            connection,
            before: connection,
            after: After::of(&connection, socket),
            activity: Activity::Closing,
            course: Course::default(),
            local: socket.local,
            peer: socket.peer,
            cookie: socket.cookie,
            inode: socket.inode,
            heard: Heard::default(),
            dropped: socket.dropped,
            retransmits: socket.retransmits,
            since: connection.known_since(),
            ours: whose.owns(socket),
            look,
        }
    }

    fn look(&mut self, socket: &TcpSocket, whose: &Whose, now: Duration, look: u64) {
        self.before = self.connection;
        self.after = After::of(&self.before, socket);
        self.connection.look(socket, now);
        // It may have been accepted, and by whom may not have been known.
        if self.inode != socket.inode || !self.ours {
            self.inode = socket.inode;
            self.ours = whose.owns(socket);
        }
        self.dropped = socket.dropped;
        self.retransmits = socket.retransmits;
        self.look = look;
    }

    /// What is going on, by what the kernel shows and what was heard.
    fn judge(&self, now: Duration) -> Activity {
        let shown = self.connection.activity(now);
        // While we hold something back, the wire says more than the program has seen.
        let heard = if self.course == Course::Open { self.heard.state } else { talk::State::Unknown };
        let promised = self.heard.promised && self.connection.silent_for(now) < PROMISED;
        match (shown, heard) {
            (Activity::Idle, _) if promised => Activity::Busy(Why::Answering),
            (
                Activity::Listening(_)
                | Activity::Closing
                | Activity::Busy(Why::Connecting | Why::Unaccepted | Why::Unread | Why::Undelivered),
                _,
            )
            | (_, talk::State::Unknown) => shown,
            (Activity::Busy(_) | Activity::Idle, talk::State::Complete) => Activity::Idle,
            (Activity::Busy(_) | Activity::Idle, talk::State::Asking | talk::State::Answering) => {
                Activity::Busy(Why::Unanswered)
            }
            (Activity::Busy(_) | Activity::Idle, talk::State::Endless) => Activity::Busy(Why::Answering),
        }
    }

    /// Does a drain have to wait for it, where idle connections are closed?
    pub(crate) fn is_unfinished(&self) -> bool {
        match self.activity {
            Activity::Busy(_) => true,
            Activity::Idle => !self.closed_by_us() && self.course != Course::Untouchable,
            Activity::Closing | Activity::Listening(_) => false,
        }
    }

    fn closed_by_us(&self) -> bool {
        matches!(self.course, Course::Closed { .. })
    }

    /// Its end, if it was busy.
    fn end(&self, before: Connection, after: After) -> Option<Ended> {
        let why = self.why_busy().filter(|_| self.ours)?;
        Some(Ended { watched: Self { connection: before, ..*self }, why, after })
    }

    /// Why it was busy at the last look, if it was.
    pub(crate) fn why_busy(&self) -> Option<Why> {
        match self.activity {
            Activity::Busy(why) => Some(why),
            Activity::Idle | Activity::Closing | Activity::Listening(_) => None,
        }
    }
}
