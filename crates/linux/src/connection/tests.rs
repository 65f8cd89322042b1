//! The rules one by one; and conversations made up at random, seen through the kernel's coarse clock.

use std::vec::Vec;

use super::*;
use crate::sock_diag::TcpInfo;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A socket as the first look at time `now` shows it; times are of the last data either way.
fn socket(now: u64, received: (u64, u64), written: (u64, u64)) -> TcpSocket {
    let address = "127.0.0.1:80".parse().unwrap();
    TcpSocket {
        state: State::Established,
        local: address,
        peer: address,
        cookie: 1,
        inode: 1,
        receive_queue: 0,
        send_queue: 0,
        retransmits: 0,
        dropped: 0,
        info: Some(TcpInfo {
            since_sent: ms(now - written.1),
            since_received: ms(now - received.1),
            since_confirmed: ms(now - received.1),
            confirmed: written.0,
            received: received.0,
            // Enough for its first exchange to be over.
            segments: 100,
        }),
    }
}

fn first(socket: &TcpSocket) -> Activity {
    Connection::new(socket, ms(100_000)).activity(ms(100_000))
}

const NOW: u64 = 100_000;

#[test]
fn who_says_nothing_has_connected_in_advance() {
    let silent = |now| socket(now, (0, now), (0, now));
    let connection = Connection::new(&silent(NOW), ms(NOW));
    assert_eq!(connection.activity(ms(NOW) + FRESH), Activity::Idle);
}

/// TLS: the program's tickets come after the client's first request, and its answer two seconds later.
#[test]
fn what_only_belongs_to_the_protocol_is_no_answer() {
    let with = |segments, written, now| {
        let mut socket = socket(now, (900, NOW), written);
        if let Some(info) = &mut socket.info {
            info.segments = segments;
        }
        socket
    };
    let tickets = (3000, NOW + 2);
    let busy = Activity::Busy(Why::Unclear);
    let mut young = Connection::new(&with(3, tickets, NOW + 500), ms(NOW + 500));
    assert_eq!(young.activity(ms(NOW + 500)), busy);
    assert_eq!(young.activity(ms(NOW + 2_900)), busy);
    assert_eq!(young.activity(ms(NOW + 3_100)), Activity::Idle);

    let mut known = young;
    known.has_only_answers();
    assert_eq!(known.activity(ms(NOW + 500)), Activity::Idle);
    let old = Connection::new(&with(30, tickets, NOW + 500), ms(NOW + 500));
    assert_eq!(old.activity(ms(NOW + 500)), Activity::Idle);

    // The answer came after two seconds; it may go on, but not for long.
    young.look(&with(3, (5000, NOW + 2_000), NOW + 2_000), ms(NOW + 2_000));
    assert_eq!(young.activity(ms(NOW + 4_000)), Activity::Busy(Why::Answering));
    assert_eq!(young.activity(ms(NOW + 5_100)), Activity::Idle);
}

#[test]
fn what_the_first_look_shows() {
    use Activity::{Busy, Closing, Idle};
    let asked = (10, NOW - 5_000);
    let base = socket(NOW, asked, (10, NOW - 4_996));
    let table = [
        ("answered long ago", base, Idle),
        ("a client that has only just connected", socket(NOW, (0, 0), (0, 0)), Busy(Why::Unclear)),
        ("a greeting without an answer", socket(NOW, (0, 0), (10, NOW - 500)), Idle),
        ("asked for the first time", socket(NOW, asked, (0, 0)), Busy(Why::Unanswered)),
        ("asked again", socket(NOW, (20, NOW - 100), (10, NOW - 200)), Busy(Why::Unanswered)),
        ("answered just now", socket(NOW, (10, NOW - 60), (10, NOW - 50)), Busy(Why::Answering)),
        ("a long answer pauses", socket(NOW, (10, NOW - 90_000), (10, NOW - 20_000)), Busy(Why::Answering)),
        ("both in one tick", socket(NOW, asked, (10, asked.1)), Busy(Why::Unclear)),
        ("unread", TcpSocket { receive_queue: 1, ..base }, Busy(Why::Unread)),
        ("unconfirmed", TcpSocket { send_queue: 1, ..base }, Busy(Why::Undelivered)),
        ("not accepted", TcpSocket { inode: 0, ..base }, Busy(Why::Unaccepted)),
        ("half open", TcpSocket { state: State::SynReceived, info: None, ..base }, Busy(Why::Connecting)),
        ("the peer has closed", TcpSocket { state: State::CloseWait, ..base }, Closing),
        ("only the FIN is unconfirmed", TcpSocket { state: State::FinWait1, send_queue: 1, ..base }, Closing),
        (
            "closed with data unconfirmed",
            TcpSocket { state: State::LastAck, send_queue: 2, ..base },
            Busy(Why::Undelivered),
        ),
        (
            "listening",
            TcpSocket { state: State::Listen, receive_queue: 3, info: None, ..base },
            Activity::Listening(3),
        ),
    ];
    for (what, socket, expected) in table {
        assert_eq!(first(&socket), expected, "{what}");
    }
}

#[test]
fn a_peer_that_has_closed_may_still_wait_for_its_answer() {
    let asked = socket(NOW, (10, NOW - 5_000), (0, 0));
    let asked = TcpSocket { state: State::CloseWait, ..asked };
    assert_eq!(first(&asked), Activity::Busy(Why::Unanswered));
}

#[test]
fn a_confirmation_of_its_own_tells_that_the_program_sent_last() {
    let mut tie = socket(NOW, (10, NOW - 5_000), (10, NOW - 5_000));
    assert_eq!(first(&tie), Activity::Busy(Why::Unclear));
    let info = tie.info.as_mut().unwrap();
    info.since_confirmed = ms(4_960);
    assert_eq!(first(&tie), Activity::Idle);
    // A probe for life, much later, tells nothing.
    tie.info.as_mut().unwrap().since_confirmed = ms(1_000);
    assert_eq!(first(&tie), Activity::Busy(Why::Unclear));
}

#[test]
fn the_kernels_idea_counts_only_where_it_is_unclear_and_silent() {
    let tie = socket(NOW, (10, NOW - 500), (10, NOW - 500));
    let mut connection = Connection::new(&tie, ms(NOW));
    assert!(!connection.wants_evidence(ms(NOW)));
    assert!(connection.wants_evidence(ms(NOW + 500)));
    connection.is_interactive(false);
    assert_eq!(connection.activity(ms(NOW + 500)), Activity::Busy(Why::Unclear));
    connection.is_interactive(true);
    assert_eq!(connection.activity(ms(NOW + 500)), Activity::Idle);

    let asked = socket(NOW, (10, NOW - 5_000), (10, NOW - 6_000));
    let mut connection = Connection::new(&asked, ms(NOW));
    assert!(!connection.wants_evidence(ms(NOW)));
    connection.is_interactive(true);
    assert_eq!(connection.activity(ms(NOW)), Activity::Busy(Why::Unanswered));
}

#[test]
fn growth_between_two_looks_tells_who_sent() {
    let tie = (10, NOW);
    let mut connection = Connection::new(&socket(NOW, tie, tie), ms(NOW));
    // In the same tick, but only the answer has grown.
    connection.look(&socket(NOW + 1, tie, (20, NOW)), ms(NOW + 1));
    assert_eq!(connection.last(), Sender::Program);
    assert_eq!(connection.activity(ms(NOW + 50)), Activity::Busy(Why::Answering));
    assert_eq!(connection.idle_at(), Some(ms(NOW + 101)));
    assert_eq!(connection.activity(ms(NOW + 101)), Activity::Idle);
    connection.look(&socket(NOW + 200, (20, NOW), (20, NOW)), ms(NOW + 200));
    assert_eq!(connection.activity(ms(NOW + 9_000)), Activity::Busy(Why::Unanswered));
    // A FIN is no answer.
    let closed = TcpSocket { state: State::CloseWait, ..socket(NOW + 201, (20, NOW), (20, NOW)) };
    connection.look(&closed, ms(NOW + 201));
    let fin = TcpSocket { state: State::LastAck, send_queue: 1, ..closed };
    connection.look(&fin, ms(NOW + 202));
    assert_eq!(connection.last(), Sender::Peer);
}

#[test]
fn silence_must_last_in_proportion() {
    let mut now = NOW;
    let mut connection = Connection::new(&socket(now, (10, now), (0, 0)), ms(now));
    // A chunk every 400 ms: longer than QUIET, but after the second one its pace is known.
    let mut written = 0;
    for _ in 0..6 {
        now += if written < 2 { 90 } else { 400 };
        written += 1;
        connection.look(&socket(now, (10, NOW), (written, now)), ms(now));
        assert_eq!(connection.activity(ms(now + 99)), Activity::Busy(Why::Answering));
    }
    assert_eq!(connection.activity(ms(now + 1_199)), Activity::Busy(Why::Answering));
    assert_eq!(connection.activity(ms(now + 1_200)), Activity::Idle);
}

#[test]
fn several_requests_at_once_need_more_silence() {
    let mut connection = Connection::new(&socket(NOW, (10, NOW), (0, 0)), ms(NOW));
    connection.look(&socket(NOW + 50, (20, NOW + 50), (0, 0)), ms(NOW + 50));
    connection.look(&socket(NOW + 60, (20, NOW + 50), (10, NOW + 60)), ms(NOW + 60));
    assert_eq!(connection.activity(ms(NOW + 1_059)), Activity::Busy(Why::Answering));
    assert_eq!(connection.activity(ms(NOW + 1_060)), Activity::Idle);
}

// === conversations ===

/// Numbers that look random and are the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Microseconds: mostly far less than a tick, sometimes much more.
    fn span(&mut self) -> u64 {
        match self.below(4) {
            0 => 20 + self.below(200),
            1 => self.below(5_000),
            2 => self.below(60_000),
            _ => self.below(3_000_000),
        }
    }
}

/// What happens on the wire, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wire {
    Request,
    /// A piece of an answer; is it the last?
    Answer {
        last: bool,
    },
    /// The peer confirms by a segment without data.
    Confirm,
}

/// One client that asks, waits for the whole answer, thinks, and asks again.
fn conversation(random: &mut Random) -> Vec<(u64, Wire)> {
    let mut wire = Vec::new();
    let mut at = 1_000_000 + random.below(10_000);
    let thinks = random.below(3) > 0;
    for _ in 0..=random.below(6) {
        wire.push((at, Wire::Request));
        at += random.span();
        let pieces = if random.below(4) == 0 { 2 + random.below(5) } else { 1 };
        for piece in 1..=pieces {
            wire.push((at, Wire::Answer { last: piece == pieces }));
            if piece < pieces {
                at += 1 + random.below(80_000);
            }
        }
        let next = at + if thinks { random.span() } else { 20 + random.below(200) };
        // At once, or after the delay that a kernel allows itself; a request that comes first confirms on its way.
        let confirmed = at + if random.below(2) == 0 { 15 } else { 40_000 };
        if confirmed < next {
            wire.push((confirmed, Wire::Confirm));
        }
        at = next;
    }
    if wire.last().is_none_or(|(_, last)| *last != Wire::Confirm) {
        wire.push((at + 40_000, Wire::Confirm));
    }
    wire
}

/// What the kernel shows of it.
struct Kernel {
    tick: u64,
    received: (u64, u64),
    written: (u64, u64),
    confirmed: (u64, u64),
    outstanding: bool,
    interactive: bool,
}

impl Kernel {
    fn happen(&mut self, at: u64, wire: Wire) {
        match wire {
            Wire::Request => {
                self.received = (self.received.0 + 100, at);
                self.confirmed = (self.written.0, at);
                self.outstanding = true;
            }
            Wire::Answer { last } => {
                self.interactive |= at - self.received.1 < 40_000;
                self.written = (self.written.0 + 100, at);
                self.outstanding = !last;
            }
            Wire::Confirm => self.confirmed = (self.written.0, at),
        }
    }

    fn show(&mut self, now: u64) -> TcpSocket {
        // The request has waited so long that the kernel confirms it by itself.
        if self.received.1 > self.written.1 && now >= self.received.1 + 40_000 {
            self.interactive = false;
        }
        let since = |(_, at): (u64, u64)| ms((now / self.tick - at / self.tick) * self.tick / 1000);
        let address = "127.0.0.1:80".parse().unwrap();
        TcpSocket {
            state: State::Established,
            local: address,
            peer: address,
            cookie: 1,
            inode: 1,
            receive_queue: 0,
            send_queue: u32::try_from(self.written.0 - self.confirmed.0).unwrap(),
            retransmits: 0,
            dropped: 0,
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

/// Calls a connection idle, at a moment.
type Rule = fn(&Connection, Duration) -> bool;

/// Looks at one conversation from a moment on, every 1 to 20 ms. What is called idle must not wait for an answer, and
/// after a while of silence it must be called idle.
fn watch(seed: u64, calls_idle: Rule) -> Result<(), (u64, u64)> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..4 {
        random.below(1);
    }
    let wire = conversation(&mut random);
    let tick = [1_000, 4_000, 10_000][usize::try_from(random.below(3)).unwrap()];
    let mut kernel = Kernel {
        tick,
        received: (0, 0),
        written: (0, 0),
        confirmed: (0, 0),
        outstanding: false,
        interactive: false,
    };
    let end = wire.last().unwrap().0;
    let mut now = 1_000_000 + random.below(end - 1_000_000);
    let pace = 1_000 * (1 + random.below(20));
    let mut events = wire.into_iter().peekable();
    let mut connection: Option<Connection> = None;
    while now < end + 4_000_000 {
        while let Some((at, event)) = events.next_if(|(at, _)| *at <= now) {
            kernel.happen(at, event);
        }
        let (shown, at) = (kernel.show(now), Duration::from_micros(now));
        let connection = match &mut connection {
            Some(connection) => {
                connection.look(&shown, at);
                connection
            }
            none => none.insert(Connection::new(&shown, at)),
        };
        if connection.wants_evidence(at) {
            connection.is_interactive(kernel.interactive);
        }
        if calls_idle(connection, at) && kernel.outstanding {
            return Err((seed, now));
        }
        now += pace;
    }
    let last = connection.unwrap().activity(Duration::from_micros(now));
    assert_eq!(last, Activity::Idle, "seed {seed}: silent, and not idle");
    Ok(())
}

#[test]
fn what_is_idle_never_waits_for_an_answer() {
    for seed in 0..10_000 {
        let judged = watch(seed, |connection, at| connection.activity(at) == Activity::Idle);
        assert_eq!(judged, Ok(()), "called idle in the middle of a request");
    }
}

#[test]
fn the_conversations_would_show_a_rule_that_is_too_simple() {
    let too_simple: [(&str, Rule); 3] = [
        ("silence alone", |connection, at| connection.silent_for(at) >= QUIET),
        ("who sent last alone", |connection, _| connection.last == Sender::Program),
        ("unclear is idle", |connection, at| {
            connection.last == Sender::Unclear && connection.silent_for(at) >= QUIET
        }),
    ];
    for (what, rule) in too_simple {
        assert!((0..2_000).any(|seed| watch(seed, rule).is_err()), "{what}");
    }
}
