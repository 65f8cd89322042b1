//! Is a request under way on this connection? Judged from outside, by looking at the socket again and again.
//!
//! The kernel knows nothing of requests. It knows who sent last and when, and what is still on its way
//! ([`TcpSocket`]). For a protocol in which a client asks and a program answers, that is nearly enough:
//!
//! | what the kernel shows | the connection is |
//! |---|---|
//! | bytes that the program has not read, or that the peer has not confirmed | busy |
//! | the peer sent last | busy: the answer is due |
//! | the program sent last, and not for a while | idle |
//! | the program sent last, just now | busy: an answer may be going on |
//!
//! Three things make it harder.
//!
//! **Who sent last.** The kernel keeps the time of the last data sent and received, but in ticks of up to 10 ms, and both
//! often happen in one tick: a request that is answered at once, or an answer that is followed at once by the next
//! request. The first is idle, the second busy. What decides then, in this order:
//! * A look before: only one of the two counts has grown since.
//! * Something is unconfirmed, or was confirmed by a segment of its own soon after: then it was sent last, because
//!   a request that follows an answer confirms it on the way.
//! * The kernel's own idea of the conversation (`pingpong` in `net/ipv4/tcp_input.c`, shown by /proc/net/tcp,
//!   `Documentation/networking/proc_net_tcp.rst`): a socket that answers at once is interactive; when a request waits so
//!   long for its answer that the kernel must confirm it by itself (40 to 200 ms), it is no longer. The exception is a
//!   request of several segments, which is confirmed when it is read: so this evidence counts only after [`UNCLEAR`].
//! * Else it stays unclear, which counts as busy.
//!
//! **When an answer is over.** Only the program knows. An answer that has been going on for long may pause for long
//! (server-sent events), so silence must last as long as half of the answer has lasted so far, three times the longest
//! pause seen, and in any case [`QUIET`].
//!
//! **Several requests at once** (HTTP/2): what is answered last need not be what was asked last. Where the peer is seen
//! to ask again before it is answered, silence must last [`QUIET_MULTIPLEXED`].
//!
//! **What is no answer.** At the beginning of a connection a program may say something at once that only belongs to the
//! protocol: session tickets of TLS (RFC 8446, section 4.6.1), settings of HTTP/2 (RFC 9113, section 3.4). So a connection on
//! which few segments came, and the last of them had a reply at once, must be silent for [`QUIET_PRELIMINARY`], unless its
//! protocol is known to have nothing of that kind.
//!
//! What cannot be seen this way: a program that takes longer than that for the first answer over such a protocol; and on a
//! connection that is older, one that answers in part at once and in full much later, without having sent anything in
//! between while we look.

use core::time::Duration;

use gracefully_core::traffic::Why;

use crate::sock_diag::{State, TcpSocket};

/// No answer is over before the program has been silent for so long.
pub const QUIET: Duration = Duration::from_millis(100);

/// The same for a connection on which several requests were seen under way at once.
pub const QUIET_MULTIPLEXED: Duration = Duration::from_secs(1);

/// The same for a connection on which all that was said may belong to the protocol.
pub const QUIET_PRELIMINARY: Duration = Duration::from_secs(3);

/// So many segments a client sends at most until its first request is there: with TLS its hello, the end of the handshake and
/// the request, with HTTP/2 its preface, its settings, a confirmation and the request.
const FIRST_SEGMENTS: u32 = 4;

/// A reply within this time may be one at once, from a program on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A client that has connected and said nothing for so long has connected in advance.
pub const FRESH: Duration = Duration::from_millis(500);

/// How long a connection of which it is unclear who sent last must be silent before the kernel's idea of it counts.
pub const UNCLEAR: Duration = Duration::from_secs(1);

/// The kernel confirms received data within this time (`TCP_DELACK_MAX`), with some slack for its ticks.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(250);

/// A handshake that takes longer has lost its peer.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// Pieces of one request follow each other more closely than this, or it is an upload.
const ONE_REQUEST: Duration = Duration::from_millis(5);

/// What is going on on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    /// It waits for connections; so many wait to be accepted.
    Listening(u32),
    /// No request is under way.
    Idle,
    /// A request is, or may be, under way.
    Busy(Why),
    /// One side has closed and nothing is left to be delivered.
    Closing,
}

/// What is known of one connection from all looks at it. Times are on the looker's own monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    state: State,
    accepted: bool,
    known_since: Duration,
    /// Bytes that the peer has sent, and that the program has written, a FIN counting as one.
    received: u64,
    written: u64,
    unread: u32,
    unconfirmed: u32,
    last: Sender,
    /// When something was last sent by either side.
    moved: Duration,
    /// When the peer last sent something.
    asked: Duration,
    /// When the program began to send what it sent last.
    answer_began: Duration,
    /// When the program last sent something.
    answered: Duration,
    longest_pause: Duration,
    multiplexed: bool,
    /// What the program has said may be no answer.
    preliminary: bool,
}

/// Who sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Nothing was sent yet.
    Nobody,
    /// The peer: it has asked for something.
    Peer,
    /// The program: it has answered, or said something unasked.
    Program,
    /// One of the two; the kernel's clock is too coarse to tell.
    Unclear,
}

impl Connection {
    /// What the first look tells.
    pub fn new(socket: &TcpSocket, now: Duration) -> Self {
        let info = socket.info.unwrap_or_default();
        let (received, written) = counts(socket);
        let asked = now.saturating_sub(info.since_received);
        let answered = now.saturating_sub(info.since_sent);
        let last = match (received, written) {
            (0, 0) => Sender::Nobody,
            (_, 0) => Sender::Peer,
            (0, _) => Sender::Program,
            (_, _) => by_stamps(socket),
        };
        Self {
            state: socket.state,
            accepted: socket.inode != 0,
            // The kernel sets both to the time of the handshake.
            known_since: asked.min(answered),
            received,
            written,
            unread: socket.receive_queue,
            unconfirmed: socket.send_queue,
            last,
            moved: match last {
                Sender::Nobody => now,
                Sender::Peer => asked,
                Sender::Program => answered,
                Sender::Unclear => asked.max(answered),
            },
            asked,
            // It began after it was asked for; when, was not seen.
            answer_began: if received == 0 { answered } else { asked },
            answered,
            longest_pause: Duration::ZERO,
            multiplexed: false,
            preliminary: may_be_preliminary(socket),
        }
    }

    /// What a further look at the same socket tells.
    pub fn look(&mut self, socket: &TcpSocket, now: Duration) {
        let (received, written) = counts(socket);
        let asked = received > self.received;
        // A FIN of the program's is no answer.
        let answered = self.has_answered_since(socket);
        let last = match (asked, answered) {
            (false, false) if self.last == Sender::Unclear && confirmed_apart(socket) => Sender::Program,
            (false, false) => self.last,
            (true, false) => Sender::Peer,
            (false, true) => Sender::Program,
            (true, true) => by_stamps(socket),
        };
        if asked {
            self.multiplexed |=
                self.last == Sender::Peer && now > self.asked + ONE_REQUEST && self.unread == 0;
            self.asked = now;
        }
        if answered {
            if self.preliminary && !asked {
                // This is the answer, or its beginning. It will hardly pause again for as long as it took to come.
                self.answer_began = now;
                self.longest_pause = now.saturating_sub(self.answered) / 2;
            } else if self.last == Sender::Program && !asked {
                self.longest_pause = self.longest_pause.max(now.saturating_sub(self.answered));
            } else {
                self.answer_began = now;
                self.longest_pause = Duration::ZERO;
            }
            self.answered = now;
        }
        if asked || answered {
            self.moved = now;
            self.preliminary = may_be_preliminary(socket);
        }
        self.state = socket.state;
        self.accepted = socket.inode != 0;
        (self.received, self.written) = (received, written);
        (self.unread, self.unconfirmed) = (socket.receive_queue, socket.send_queue);
        self.last = last;
    }

    /// Tells whether the kernel holds the connection for interactive, where [`wants_evidence`](Self::wants_evidence).
    pub fn is_interactive(&mut self, interactive: bool) {
        if self.last == Sender::Unclear && interactive {
            self.last = Sender::Program;
        }
    }

    /// Is it unclear who sent last, and would the kernel's own idea of it help?
    pub fn wants_evidence(&self, now: Duration) -> bool {
        self.last == Sender::Unclear && now >= self.moved + UNCLEAR && self.unread == 0
    }

    /// Tells that in its protocol the program says nothing but answers.
    pub fn has_only_answers(&mut self) {
        self.preliminary = false;
    }

    /// Tells that the peer asks for more before it is answered.
    pub fn is_multiplexed(&mut self) {
        self.multiplexed = true;
    }

    /// When it last moved, either way, before it was looked at first; or was made, if it never did.
    pub fn known_since(&self) -> Duration {
        self.known_since
    }

    /// What is going on.
    pub fn activity(&self, now: Duration) -> Activity {
        match self.state {
            State::Listen => Activity::Listening(self.unread),
            State::SynReceived if now <= self.moved + HANDSHAKE => Activity::Busy(Why::Connecting),
            // The FIN itself counts as one.
            State::FinWait1 | State::LastAck | State::Closing if self.unconfirmed > 1 => {
                Activity::Busy(Why::Undelivered)
            }
            State::FinWait1
            | State::LastAck
            | State::Closing
            | State::FinWait2
            | State::TimeWait
            | State::Close
            | State::SynReceived
            | State::SynSent => Activity::Closing,
            State::Established | State::CloseWait => self.open(now),
        }
    }

    /// When silence alone will have made it idle; `None` if it takes more than silence.
    pub fn idle_at(&self) -> Option<Duration> {
        (self.last == Sender::Program && self.unread == 0 && self.accepted)
            .then(|| self.answered.saturating_add(self.quiet()))
    }

    /// Has the program got everything that the peer sent, so that holding back what comes next cannot tear a request? A
    /// request in several pieces must be excluded by looking whether a further piece is held back.
    pub fn has_read_all(&self) -> bool {
        self.accepted && self.unread == 0 && matches!(self.state, State::Established)
    }

    /// Who sent last, as far as it can be told.
    pub fn last(&self) -> Sender {
        self.last
    }

    /// Does a later look at the same socket show that the program sent something meanwhile?
    pub fn has_answered_since(&self, socket: &TcpSocket) -> bool {
        let (_, written) = counts(socket);
        let fin = !has_closed(self.state) && has_closed(socket.state);
        written.saturating_sub(fin.into()) > self.written
    }

    /// Has the answer come in several pieces, with pauses, so that it may have no end?
    pub fn is_stream(&self) -> bool {
        self.longest_pause > ONE_REQUEST || self.answered.saturating_sub(self.answer_began) > QUIET
    }

    /// How long nothing was sent by either side.
    pub fn silent_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.moved)
    }

    fn open(&self, now: Duration) -> Activity {
        if !self.accepted {
            return Activity::Busy(Why::Unaccepted);
        }
        if self.unread > 0 {
            return Activity::Busy(Why::Unread);
        }
        // After its FIN the peer may still wait for the answer, but asks for nothing more.
        let done = if self.state == State::CloseWait { Activity::Closing } else { Activity::Idle };
        match self.last {
            Sender::Peer => Activity::Busy(Why::Unanswered),
            Sender::Unclear => Activity::Busy(Why::Unclear),
            Sender::Program if self.preliminary && now < self.answered.saturating_add(self.quiet()) => {
                Activity::Busy(Why::Unclear)
            }
            Sender::Program if self.unconfirmed > 0 => Activity::Busy(Why::Undelivered),
            Sender::Program if now < self.answered.saturating_add(self.quiet()) => {
                Activity::Busy(Why::Answering)
            }
            // Who has connected only now is about to ask.
            Sender::Nobody if now < self.moved.saturating_add(FRESH) => Activity::Busy(Why::Unclear),
            Sender::Nobody | Sender::Program => done,
        }
    }

    /// How long the program must have been silent.
    fn quiet(&self) -> Duration {
        let least = match (self.preliminary, self.multiplexed) {
            (true, _) => QUIET_PRELIMINARY,
            (false, true) => QUIET_MULTIPLEXED,
            (false, false) => QUIET,
        };
        let so_far = self.answered.saturating_sub(self.answer_began);
        least.max(so_far / 2).max(self.longest_pause.saturating_mul(3))
    }
}

/// Bytes received, and bytes written whether confirmed or not.
fn counts(socket: &TcpSocket) -> (u64, u64) {
    let info = socket.info.unwrap_or_default();
    (info.received, info.confirmed + u64::from(socket.send_queue))
}

/// Who sent last, where both have.
fn by_stamps(socket: &TcpSocket) -> Sender {
    let info = socket.info.unwrap_or_default();
    match info.since_sent.cmp(&info.since_received) {
        core::cmp::Ordering::Less => Sender::Program,
        core::cmp::Ordering::Greater => Sender::Peer,
        core::cmp::Ordering::Equal if confirmed_apart(socket) => Sender::Program,
        core::cmp::Ordering::Equal => Sender::Unclear,
    }
}

/// Have both sides sent so little, and replied at once, that all of it may belong to the protocol?
fn may_be_preliminary(socket: &TcpSocket) -> bool {
    let info = socket.info.unwrap_or_default();
    let (received, written) = counts(socket);
    let at_once = info.since_sent.abs_diff(info.since_received) <= AT_ONCE;
    received > 0 && written > 0 && info.segments <= FIRST_SEGMENTS && at_once
}

/// Was what the program sent not confirmed by the peer's last data, but later or not yet?
fn confirmed_apart(socket: &TcpSocket) -> bool {
    let info = socket.info.unwrap_or_default();
    // Probes for life (SO_KEEPALIVE) are confirmations too, but they come much later.
    let later = info.since_received.saturating_sub(info.since_confirmed);
    socket.send_queue > 0 || (later > Duration::ZERO && later <= CONFIRMED_WITHIN)
}

fn has_closed(state: State) -> bool {
    matches!(state, State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait)
}

#[cfg(test)]
mod tests;
