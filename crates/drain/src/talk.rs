//! What is said on a connection, if it is HTTP/1 (RFC 9112): is a request being sent, being answered, or is everything said?
//!
//! The kernel's counters say who sent last, not whether an answer is complete. The bytes on the wire do: a head says how long
//! its body is. Whoever sees them from the beginning of a request on knows the exact byte with which its answer ends.
//!
//! Everything that does not fit makes it [`State::Unknown`] until the next request begins: TLS, HTTP/2, a segment that was missed, a
//! head that is longer than what is captured. Nothing is guessed.

mod head;

use self::head::{Answer, Body, Parsed, Request};

/// Where the conversation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// It cannot be followed, or not yet.
    #[default]
    Unknown,
    /// A request is being sent.
    Asking,
    /// A request was sent whole, its answer was not.
    Answering,
    /// The answer has no end of its own: it lasts as long as the connection, or the connection has become something else
    /// (`Upgrade`).
    Endless,
    /// Every request was answered whole.
    Complete,
}

/// One conversation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Talk {
    state: State,
    /// The request was not seen, only that an answer has begun. If it was HEAD, the body that the answer promises never comes.
    assumed: bool,
    /// How many answers were complete.
    answers: u32,
    client: Stream,
    server: Stream,
    /// Of the request that is under way: an answer to HEAD has no body.
    head_only: bool,
    /// The client has asked for more before it was answered.
    pipelined: bool,
    /// In how many segments the server has said something.
    said: u32,
}

/// What is known of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Where it is.
    pub(crate) state: State,
    /// How many answers were complete since it is followed.
    pub(crate) answers: u32,
    /// An answer has begun, and its head promises more than has come. If it was to HEAD, which was not heard, that never
    /// comes.
    pub(crate) promised: bool,
    /// The client asks for more before it is answered.
    pub(crate) pipelined: bool,
    /// In how many segments the server has said something.
    pub(crate) said: u32,
}

/// A piece of what one side sends, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// Its first byte's place in the stream (RFC 9293, section 3.4).
    pub(crate) sequence: u32,
    /// How long it is.
    pub(crate) length: u32,
    /// Its beginning, as much as was captured.
    pub(crate) captured: &'a [u8],
}

/// What is known of one direction.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// The place of the next byte; `None`: nothing was seen yet.
    next: Option<u32>,
    expects: Expects,
}

/// What the next byte belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Expects {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A head, of which this has come.
    Head(Vec<u8>),
    /// So many bytes of a body.
    Body(u64),
    /// Chunks.
    Chunks(Chunks),
    /// No end.
    Endless,
}

/// Where a chunked body is (RFC 9112, section 7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Chunks {
    /// In a line: a size, or behind the last chunk a trailer field.
    Line { text: Vec<u8>, trailer: bool },
    /// In the data of a chunk and the line end behind it: so many bytes are left.
    Data(u64),
}

/// How a piece of a message ended.
enum Fed {
    /// It goes on with the next segment.
    More,
    /// It ended, and this many bytes of the segment were not part of it.
    Done { left: usize },
    /// It cannot be followed.
    Lost,
}

/// The longest head that is followed, and the longest line of a chunked body.
const HEAD: usize = 16 * 1024;
const LINE: usize = 1024;

impl Talk {
    /// What is known; of an answer whose request was not seen, only that it is complete.
    pub(crate) fn heard(&self) -> Heard {
        let promised = self.assumed && self.state == State::Answering;
        let state = if promised { State::Unknown } else { self.state };
        Heard { state, answers: self.answers, promised, pipelined: self.pipelined, said: self.said }
    }

    /// The client has sent something.
    pub(crate) fn client(&mut self, segment: Segment<'_>) {
        if !self.client.follows(&segment) {
            return;
        }
        let in_order = self.client.next == Some(segment.sequence);
        self.client.next = Some(segment.sequence.wrapping_add(segment.length));
        match self.state {
            State::Asking if in_order => self.feed_request(segment.captured, segment.length),
            // The next request. Or the first that we see: whatever was said before, it is answered.
            State::Complete if in_order => self.begin_request(segment),
            State::Unknown => self.begin_request(segment),
            // Something was missed; or there is more before the answer: it is pipelined, or not HTTP.
            State::Asking | State::Complete | State::Answering => {
                self.pipelined |= self.state == State::Answering && Request::begins(segment.captured);
                self.lose();
            }
            State::Endless => {}
        }
    }

    /// The server has sent something.
    pub(crate) fn server(&mut self, segment: Segment<'_>) {
        if !self.server.follows(&segment) {
            return;
        }
        let in_order = self.server.next.is_none_or(|next| next == segment.sequence);
        self.server.next = Some(segment.sequence.wrapping_add(segment.length));
        self.said = self.said.wrapping_add(1);
        match self.state {
            State::Answering if in_order => self.feed_answer(segment.captured, segment.length),
            // The client waits for that word before it sends the body (RFC 9110, section 10.1.1).
            State::Asking | State::Unknown if in_order && Answer::continues(segment.captured) => {
                self.state = State::Asking;
            }
            // It answers before it has the whole request, or says something unasked.
            State::Asking | State::Answering | State::Complete => self.lose(),
            State::Unknown if Answer::begins(segment.captured) => {
                self.asked(0);
                self.assumed = true;
                self.feed_answer(segment.captured, segment.length);
            }
            State::Unknown | State::Endless => {}
        }
    }

    /// Something was missed.
    pub(crate) fn lose(&mut self) {
        self.state = State::Unknown;
        self.client.expects = Expects::Unknown;
        self.server.expects = Expects::Unknown;
    }

    fn begin_request(&mut self, segment: Segment<'_>) {
        if !Request::begins(segment.captured) {
            return self.lose();
        }
        self.state = State::Asking;
        self.client.expects = Expects::Head(Vec::new());
        self.feed_request(segment.captured, segment.length);
    }

    fn feed_request(&mut self, captured: &[u8], length: u32) {
        if let Expects::Head(head) = &mut self.client.expects {
            match Request::parse(head, captured) {
                Parsed::More => return,
                Parsed::Bad => return self.lose(),
                Parsed::Whole { head, used } => {
                    self.head_only = head.head_only;
                    let Some(rest) = behind(captured, length, used) else { return self.lose() };
                    self.client.expects = match head.body {
                        // A request without a length has no body.
                        Body::None | Body::UntilEnd => return self.asked(rest.1),
                        Body::Length(length) => Expects::Body(length),
                        Body::Chunked => Expects::Chunks(Chunks::start()),
                    };
                    return self.feed_request(rest.0, rest.1);
                }
            }
        }
        match self.client.expects.feed(captured, length) {
            Fed::More => {}
            Fed::Done { left: 0 } => self.asked(0),
            Fed::Done { .. } | Fed::Lost => self.lose(),
        }
    }

    /// The request is whole; `left` bytes of its last segment were more than it.
    fn asked(&mut self, left: u32) {
        if left > 0 {
            self.pipelined = true;
            return self.lose();
        }
        self.state = State::Answering;
        self.assumed = false;
        self.client.expects = Expects::Unknown;
        self.server.expects = Expects::Head(Vec::new());
    }

    fn feed_answer(&mut self, captured: &[u8], length: u32) {
        if let Expects::Head(head) = &mut self.server.expects {
            match Answer::parse(head, captured) {
                Parsed::More => return,
                Parsed::Bad => return self.lose(),
                Parsed::Whole { head, used } => {
                    let Some(rest) = behind(captured, length, used) else { return self.lose() };
                    self.server.expects = match head.body {
                        // "100 Continue" and its like: the answer proper follows.
                        _ if head.interim => Expects::Head(Vec::new()),
                        _ if head.upgrades => Expects::Endless,
                        Body::None => return self.answered(rest.1),
                        _ if self.head_only => return self.answered(rest.1),
                        Body::Length(length) => Expects::Body(length),
                        Body::Chunked => Expects::Chunks(Chunks::start()),
                        Body::UntilEnd => Expects::Endless,
                    };
                    if self.server.expects == Expects::Endless {
                        self.state = State::Endless;
                        return;
                    }
                    if rest.1 > 0 || self.server.expects == Expects::Body(0) {
                        return self.feed_answer(rest.0, rest.1);
                    }
                    return;
                }
            }
        }
        match self.server.expects.feed(captured, length) {
            Fed::More => {}
            Fed::Done { left } => self.answered(u32::try_from(left).unwrap_or(u32::MAX)),
            Fed::Lost => self.lose(),
        }
    }

    fn answered(&mut self, left: u32) {
        if left > 0 {
            return self.lose();
        }
        self.state = State::Complete;
        self.answers = self.answers.wrapping_add(1);
        self.server.expects = Expects::Unknown;
    }
}

/// Does this look like the beginning of a request?
pub(crate) fn begins_request(text: &[u8]) -> bool {
    // Zeros fill what was shorter.
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    end >= "GET ".len() && Request::begins(&text[..end])
}

/// What is captured of a segment behind its first `used` bytes, and how long the rest is; `None`, if it does not reach there.
fn behind(captured: &[u8], length: u32, used: usize) -> Option<(&[u8], u32)> {
    let rest = captured.get(used..)?;
    Some((rest, length.checked_sub(u32::try_from(used).ok()?)?))
}

impl Stream {
    /// Is there anything new in a segment? What was sent again is not.
    fn follows(&self, segment: &Segment<'_>) -> bool {
        let Some(next) = self.next else { return segment.length > 0 };
        let end = segment.sequence.wrapping_add(segment.length);
        // Distances of less than half the space of numbers, as TCP compares them.
        segment.length > 0 && end.wrapping_sub(next).cast_signed() > 0
    }
}

impl Expects {
    /// Reads on in a body.
    fn feed(&mut self, captured: &[u8], length: u32) -> Fed {
        match self {
            Self::Body(left) => {
                let length = u64::from(length);
                match left.checked_sub(length) {
                    Some(0) => Fed::Done { left: 0 },
                    Some(rest) => {
                        *left = rest;
                        Fed::More
                    }
                    None => Fed::Done { left: usize::try_from(length - *left).unwrap_or(usize::MAX) },
                }
            }
            Self::Chunks(chunks) => chunks.feed(captured, length),
            Self::Unknown | Self::Head(_) | Self::Endless => Fed::Lost,
        }
    }
}

impl Chunks {
    fn start() -> Self {
        Self::Line { text: Vec::new(), trailer: false }
    }

    fn feed(&mut self, captured: &[u8], length: u32) -> Fed {
        let Ok(length) = usize::try_from(length) else { return Fed::Lost };
        let mut at = 0;
        while at < length {
            match self {
                Self::Data(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(length - at);
                    at += here;
                    *left -= here as u64;
                    if *left == 0 {
                        *self = Self::start();
                    }
                }
                Self::Line { text, trailer } => {
                    // The line must be seen.
                    let Some(&byte) = captured.get(at) else { return Fed::Lost };
                    at += 1;
                    if byte != b'\n' {
                        text.push(byte);
                        if text.len() > LINE {
                            return Fed::Lost;
                        }
                        continue;
                    }
                    let line = text.strip_suffix(b"\r").unwrap_or(text);
                    match (*trailer, line.is_empty()) {
                        (true, true) => return Fed::Done { left: length - at },
                        (true, false) => text.clear(),
                        (false, _) => match head::chunk_size(line) {
                            Some(0) => *self = Self::Line { text: Vec::new(), trailer: true },
                            // And the line end behind it.
                            Some(size) => *self = Self::Data(size.saturating_add(2)),
                            None => return Fed::Lost,
                        },
                    }
                }
            }
        }
        Fed::More
    }
}

#[cfg(test)]
mod tests;
