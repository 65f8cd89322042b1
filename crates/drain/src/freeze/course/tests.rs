//! The decisions on conversations made up at random: an HTTP/1 client with its kernel, a program with its kernel, a valve.

use gracefully_linux::sock_diag::{State as TcpState, TcpInfo, TcpSocket};

use super::*;

#[test]
fn what_data_looks_like() {
    let kind = |text: &[u8]| {
        let mut beginning = [0; 16];
        beginning[..text.len().min(16)].copy_from_slice(&text[..text.len().min(16)]);
        Kind::of(&beginning)
    };
    assert_eq!(kind(b"GET / HTTP/1.1\r\n"), Kind::Request);
    assert_eq!(kind(b"DELETE /orders/7"), Kind::Request);
    assert_eq!(kind(b"GETTING STARTED "), Kind::Other);
    assert_eq!(kind(&[23, 3, 3, 0, 200, 1]), Kind::Record);
    assert_eq!(kind(&[23, 3, 3, 0, 44, 1]), Kind::Record, "GET / HTTP/1.1 and nothing but the host's name");
    assert_eq!(kind(&[23, 3, 3, 0, 43, 1]), Kind::Other, "as short as two window updates");
    assert_eq!(kind(&[23, 3, 3, 0x40, 0, 1]), Kind::Other, "a full record is a piece of more");
    assert_eq!(kind(&[22, 3, 1, 0, 200, 1]), Kind::Other, "a handshake");
    assert_eq!(kind(&[0, 0, 4, 8, 0, 0, 0, 0, 0]), Kind::Other, "a window update of HTTP/2");
    assert_eq!(kind(b""), Kind::Other);
}

/// Numbers that look random and are the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        for _ in 0..3 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
        }
        self.0 % n
    }
}

/// How a client and a program behave; microseconds.
#[derive(Clone, Copy, Debug)]
struct Manners {
    service: u64,
    think: u64,
    /// The answer comes in so many pieces, with pauses.
    pieces: u64,
    pause: u64,
    /// The request comes in so many pieces, with pauses.
    request_pieces: u64,
    request_pause: u64,
    tick: u64,
    /// What the beginning of a request looks like: HTTP, or TLS around it.
    beginning: Beginning,
}

impl Manners {
    fn is_encrypted(&self) -> bool {
        self.beginning[0] == 23
    }

    fn random(random: &mut Random) -> Self {
        let mut span = || match random.below(4) {
            0 => 20 + random.below(300),
            1 => random.below(5_000),
            2 => random.below(60_000),
            _ => random.below(900_000),
        };
        let (service, think) = (span(), span());
        let mut tls = [0; 16];
        tls[..5].copy_from_slice(&[23, 3, 3, 1, 0]);
        Self {
            service,
            think: if random.below(2) == 0 { 20 + random.below(100) } else { think },
            pieces: if random.below(3) == 0 { 2 + random.below(4) } else { 1 },
            pause: random.below(90_000),
            request_pieces: if random.below(4) == 0 { 2 + random.below(30) } else { 1 },
            request_pause: random.below(40_000),
            tick: [1_000, 4_000, 10_000][usize::try_from(random.below(3)).unwrap()],
            beginning: if random.below(3) == 0 { tls } else { *b"GET / HTTP/1.1\r\n" },
        }
    }
}

/// Both ends, the wire and the valve.
struct World {
    manners: Manners,
    now: u64,
    shut: bool,
    dropped: u32,
    held_back: Option<Beginning>,
    /// The socket of the program.
    received: (u64, u64),
    written: (u64, u64),
    confirmed: (u64, u64),
    interactive: bool,
    /// The client: when it sends its next piece, how many are left, and when it sends again what was dropped.
    next_piece: Option<u64>,
    pieces_left: u64,
    retry: Option<(u64, u64)>,
    /// The program: when it sends its next piece, and how many are left.
    next_answer: Option<u64>,
    answers_left: u64,
    confirm_at: Option<u64>,
    /// The program has read the whole of a request, or a part, and not answered it in full.
    begun: bool,
    answered: u64,
    /// What a tap has heard since it listens.
    heard: Heard,
    listening: bool,
    assumed: bool,
    /// When the drain began.
    began: u64,
}

impl World {
    fn new(manners: Manners) -> Self {
        Self {
            manners,
            now: 1_000_000,
            shut: false,
            dropped: 0,
            held_back: None,
            received: (0, 1_000_000),
            written: (0, 1_000_000),
            confirmed: (0, 1_000_000),
            interactive: false,
            next_piece: Some(1_000_000),
            pieces_left: manners.request_pieces,
            retry: None,
            next_answer: None,
            answers_left: 0,
            confirm_at: None,
            begun: false,
            answered: 0,
            heard: Heard::default(),
            listening: false,
            assumed: false,
            began: 0,
        }
    }

    /// A tap begins to listen.
    fn listen(&mut self) {
        self.listening = true;
        self.began = self.now;
    }

    /// It hears a piece of a request, whether that is held back or not; what is sent again tells nothing new.
    fn hear_piece(&mut self) {
        let first = self.pieces_left == self.manners.request_pieces;
        let last = self.pieces_left == 1;
        self.heard.state = match (self.heard.state, first, last) {
            _ if !self.listening || self.manners.is_encrypted() => State::Unknown,
            (State::Unknown | State::Complete, true, true) | (State::Asking, false, true) => State::Answering,
            (State::Unknown | State::Complete, true, false) | (State::Asking, false, false) => State::Asking,
            _ => State::Unknown,
        };
        self.assumed = false;
    }

    fn hear_answer(&mut self, first: bool, last: bool) {
        if !self.listening || self.manners.is_encrypted() {
            return;
        }
        self.assumed |= first && self.heard.state == State::Unknown;
        if last && (self.assumed || self.heard.state == State::Answering) {
            self.heard =
                Heard { state: State::Complete, answers: self.heard.answers + 1, ..Heard::default() };
        }
    }

    fn run_until(&mut self, end: u64) {
        loop {
            let retry = self.retry.map(|(at, _)| at);
            let due = [self.next_piece, retry, self.next_answer, self.confirm_at].into_iter().flatten().min();
            let Some(at) = due.filter(|at| *at <= end) else { break };
            self.now = at;
            if self.retry.is_some_and(|(due, _)| due == at) {
                self.piece_again();
            } else if self.next_piece == Some(at) {
                self.piece();
            } else if self.next_answer == Some(at) {
                self.answer();
            } else {
                self.confirm_at = None;
                self.confirmed = (self.written.0, at);
            }
        }
        self.now = end;
        // The request has waited so long that the kernel confirms it by itself.
        if self.received.1 > self.written.1 && end >= self.received.1 + 40_000 {
            self.interactive = false;
        }
    }

    fn piece(&mut self) {
        let first = self.pieces_left == self.manners.request_pieces;
        self.hear_piece();
        if self.shut {
            self.dropped += 1;
            self.held_back.get_or_insert(if first || self.manners.is_encrypted() {
                self.manners.beginning
            } else {
                [b'x'; 16]
            });
            self.next_piece = None;
            self.retry = Some((self.now + 200_000, 400_000));
            return;
        }
        self.deliver();
    }

    fn piece_again(&mut self) {
        let (_, wait) = self.retry.take().unwrap();
        if self.shut {
            self.dropped += 1;
            self.retry = Some((self.now + wait, wait * 2));
        } else {
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        self.received = (self.received.0 + 100, self.now);
        self.confirmed = (self.written.0, self.now);
        self.confirm_at = None;
        self.begun = true;
        self.pieces_left -= 1;
        if self.pieces_left > 0 {
            self.next_piece = Some(self.now + 1 + self.manners.request_pause);
        } else {
            self.next_piece = None;
            self.answers_left = self.manners.pieces;
            self.next_answer = Some(self.now + self.manners.service);
        }
    }

    fn answer(&mut self) {
        self.interactive |= self.now - self.received.1 < 40_000;
        self.written = (self.written.0 + 100, self.now);
        self.hear_answer(self.answers_left == self.manners.pieces, self.answers_left == 1);
        self.answers_left -= 1;
        // Linux confirms at once at the beginning of a connection and after a pause (`tcp_in_quickack_mode`).
        let at_once = self.answered < 8 || self.manners.think > 200_000;
        self.confirm_at = Some(self.now + if at_once { 15 } else { 40_000 });
        if self.answers_left > 0 {
            self.next_answer = Some(self.now + 1 + self.manners.pause);
        } else {
            self.next_answer = None;
            self.begun = false;
            self.answered += 1;
            self.pieces_left = self.manners.request_pieces;
            self.next_piece = Some(self.now + 30 + self.manners.think);
        }
    }

    fn socket(&self) -> TcpSocket {
        let tick = self.manners.tick;
        let since = |(_, at): (u64, u64)| Duration::from_micros((self.now / tick - at / tick) * tick);
        let address = "127.0.0.1:80".parse().unwrap();
        TcpSocket {
            state: TcpState::Established,
            local: address,
            peer: address,
            cookie: 1,
            inode: 1,
            receive_queue: 0,
            send_queue: u32::try_from(self.written.0 - self.confirmed.0).unwrap(),
            retransmits: 0,
            dropped: self.dropped,
            info: Some(TcpInfo {
                since_sent: since(self.written),
                since_received: since(self.received),
                since_confirmed: since(self.confirmed),
                confirmed: self.confirmed.0,
                received: self.received.0,
                // Enough for its first exchange to be over.
                segments: 100,
            }),
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Closed after so many microseconds, and no request was under way.
    Closed(u64),
    /// Closed in the middle of a request.
    Cut,
    /// Not closed within 20 seconds.
    Never,
}

/// Drains one connection from a random moment on.
fn drain(
    seed: u64,
    hears: bool,
    next: impl Fn(&mut Course, &Connection, &World, Duration) -> Step,
) -> (Manners, End) {
    let mut random = Random::new(seed);
    let manners = Manners::random(&mut random);
    let mut world = World::new(manners);
    let start = 1_000_000 + random.below(3_000_000);
    let pace = 1_000 * (1 + random.below(3));
    world.run_until(start);
    world.listen();
    let mut connection = Connection::new(&world.socket(), Duration::from_micros(start));
    let mut course = Course::default();
    while world.now < start + 20_000_000 {
        let now = Duration::from_micros(world.now);
        connection.look(&world.socket(), now);
        if connection.wants_evidence(now) {
            connection.is_interactive(world.interactive);
        }
        // The wire is listened to a little later, and the step taken later still.
        world.run_until(world.now + random.below(100));
        let step = next(&mut course, &connection, &world, now);
        world.run_until(world.now + random.below(300));
        match step {
            Step::Nothing => {}
            Step::Shut => {
                world.shut = true;
                if course.was_shut(if hears { world.heard } else { Heard::default() }) {
                    return (manners, if world.begun { End::Cut } else { End::Closed(world.now - start) });
                }
            }
            Step::Open => {
                world.shut = false;
                world.held_back = None;
            }
            Step::Close if world.begun => return (manners, End::Cut),
            Step::Close => return (manners, End::Closed(world.now - start)),
        }
        let next = world.now + pace;
        world.run_until(next);
    }
    (manners, End::Never)
}

fn ours(course: &mut Course, connection: &Connection, world: &World, now: Duration) -> Step {
    let since = now.saturating_sub(Duration::from_micros(world.began));
    course.next(
        Seen { connection, heard: world.heard, dropped: world.dropped, since },
        || world.held_back,
        now,
    )
}

/// As ours where nothing may be heard.
fn deaf(course: &mut Course, connection: &Connection, world: &World, now: Duration) -> Step {
    let since = now.saturating_sub(Duration::from_micros(world.began));
    let seen = Seen { connection, heard: Heard::default(), dropped: world.dropped, since };
    course.next(seen, || world.held_back, now)
}

/// Drains many; says how long half of them and nine of ten took, and how many were never closed.
fn drain_many(hears: bool) -> (Duration, Duration, usize) {
    let next = if hears { ours } else { deaf };
    let mut took = Vec::new();
    let mut never = 0;
    for seed in 0..10_000 {
        match drain(seed, hears, next) {
            (_, End::Closed(time)) => took.push(time),
            // A client that is always sending a request in pieces leaves no moment to hold the next one back.
            (manners, End::Never) if manners.request_pieces > 1 => never += 1,
            (manners, end) => panic!("seed {seed}: {end:?}: {manners:?}"),
        }
    }
    took.sort_unstable();
    let quantile = |percent: usize| Duration::from_micros(took[(took.len() - 1) * percent / 100]);
    (quantile(50), quantile(90), never)
}

#[test]
fn no_connection_is_closed_in_the_middle_of_a_request_and_nearly_every_one_is_closed() {
    let (half, most, never) = drain_many(true);
    assert!(half < Duration::from_millis(300), "half of them take {half:?}");
    assert!(most < Duration::from_secs(1), "nine of ten take {most:?}");
    assert!(never < 400, "{never} are never closed");
}

#[test]
fn the_same_holds_where_nothing_can_be_heard() {
    let (half, most, never) = drain_many(false);
    assert!(half < Duration::from_millis(400), "half of them take {half:?}");
    assert!(most < Duration::from_millis(1_500), "nine of ten take {most:?}");
    assert!(never < 800, "{never} are never closed");
}

#[test]
fn the_conversations_would_show_a_course_that_is_too_simple() {
    type Simple = fn(&mut Course, &Connection, &World, Duration) -> Step;
    let simple: [(&str, Simple); 3] = [
        ("without a valve and silence", |_, connection, _, _| match connection.last() {
            Sender::Program => Step::Close,
            _ => Step::Nothing,
        }),
        ("everything that is held back is the next request", |course, connection, world, now| {
            if world.shut && world.dropped > 0 {
                return Step::Close;
            }
            ours(course, connection, world, now)
        }),
        ("a shut valve and silence", |_, connection, world, now| match connection.silent_for(now) {
            silent if world.shut && silent >= QUIET => Step::Close,
            _ => Step::Shut,
        }),
    ];
    for (what, next) in simple {
        assert!((0..2_000).any(|seed| drain(seed, true, next).1 == End::Cut), "{what}");
    }
}
