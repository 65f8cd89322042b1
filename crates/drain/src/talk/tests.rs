use super::*;

/// Both sides of a conversation, each segment in order and captured up to `limit`.
struct Wire {
    talk: Talk,
    client: u32,
    server: u32,
    limit: usize,
}

impl Wire {
    fn new(limit: usize) -> Self {
        // Close to where the numbers wrap.
        Self { talk: Talk::default(), client: u32::MAX - 10, server: 7, limit }
    }

    fn client(&mut self, text: &str) -> State {
        let captured = &text.as_bytes()[..text.len().min(self.limit)];
        let length = u32::try_from(text.len()).unwrap();
        self.talk.client(Segment { sequence: self.client, length, captured });
        self.client = self.client.wrapping_add(length);
        self.talk.heard().state
    }

    fn server(&mut self, text: &str) -> State {
        let captured = &text.as_bytes()[..text.len().min(self.limit)];
        let length = u32::try_from(text.len()).unwrap();
        self.talk.server(Segment { sequence: self.server, length, captured });
        self.server = self.server.wrapping_add(length);
        self.talk.heard().state
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_and_its_answer() {
    let mut wire = Wire::new(4096);
    for _ in 0..3 {
        assert_eq!(wire.client(GET), State::Answering);
        assert_eq!(wire.server(OK), State::Complete);
    }
}

#[test]
fn in_pieces_of_every_size() {
    let post = "POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\n12345";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nwiki\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n";
    for size in 1..100 {
        let mut wire = Wire::new(4096);
        let pieces = |text: &str| -> Vec<String> {
            text.as_bytes().chunks(size).map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
        };
        for (text, is_client, then) in [
            (GET, true, State::Answering),
            (chunked, false, State::Complete),
            (post, true, State::Answering),
            (OK, false, State::Complete),
        ] {
            let pieces = pieces(text);
            for (n, piece) in pieces.iter().enumerate() {
                let state = if is_client { wire.client(piece) } else { wire.server(piece) };
                let last = n + 1 == pieces.len();
                let expected = match (last, is_client) {
                    (true, _) => then,
                    (false, true) => State::Asking,
                    (false, false) => State::Answering,
                };
                assert_eq!(state, expected, "pieces of {size}: {piece:?}");
            }
        }
    }
}

#[test]
fn bodies_of_every_kind() {
    for (request, answer, state) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", State::Complete),
        (
            "GET / HTTP/1.1\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
            State::Complete,
        ),
        ("HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", State::Complete),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", State::Complete),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", State::Answering),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nuntil the end", State::Endless),
        (
            "GET / HTTP/1.1\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
            State::Endless,
        ),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", State::Answering),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 X\r\n\r\n", State::Complete),
        (
            "GET / HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            State::Unknown,
        ),
        (
            "GET / HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            State::Unknown,
        ),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/2 200\r\n\r\n", State::Unknown),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nok", State::Unknown),
    ] {
        let mut wire = Wire::new(4096);
        wire.client(request);
        assert_eq!(wire.server(answer), state, "{request:?} {answer:?}");
    }
}

#[test]
fn what_is_not_followed_is_unknown_until_the_next_request() {
    let mut wire = Wire::new(4096);
    assert_eq!(wire.server("the end of an answer"), State::Unknown);
    // An answer whose request was not seen: until it is complete, it might be one to HEAD.
    assert_eq!(wire.server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), State::Unknown);
    assert_eq!(wire.server("ok"), State::Complete);
    assert_eq!(wire.talk.heard().answers, 1);
    assert_eq!(wire.client("\x16\x03\x01\x02\x00\x01"), State::Unknown);
    assert_eq!(wire.client("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), State::Unknown);
    assert_eq!(wire.client(GET), State::Answering);
    assert_eq!(wire.server(OK), State::Complete);
    assert_eq!(wire.server("unasked"), State::Unknown);

    // Pipelined: which answer ends what?
    assert_eq!(wire.client(GET), State::Answering);
    assert_eq!(wire.client(GET), State::Unknown);
    assert_eq!(Wire::new(4096).client(&[GET, GET].concat()), State::Unknown);
}

#[test]
fn what_is_sent_again_changes_nothing_and_what_is_missed_everything() {
    let mut wire = Wire::new(4096);
    wire.client(GET);
    wire.server(OK);
    let again = Segment { sequence: 7, length: 40, captured: &OK.as_bytes()[..40] };
    wire.talk.server(again);
    assert_eq!(wire.talk.heard().state, State::Complete);
    // A segment of the next request was missed.
    wire.client = wire.client.wrapping_add(5);
    assert_eq!(wire.client("X: y\r\n\r\n"), State::Unknown);
}

#[test]
fn a_long_body_is_counted_without_being_seen() {
    let mut wire = Wire::new(64);
    wire.client(GET);
    let body = "x".repeat(60_000);
    assert_eq!(wire.server("HTTP/1.1 200 OK\r\nContent-Length: 120000\r\n\r\n"), State::Answering);
    assert_eq!(wire.server(&body), State::Answering);
    assert_eq!(wire.server(&body), State::Complete);

    // Of chunks, the lines must be seen.
    wire.client(GET);
    assert_eq!(wire.server("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), State::Answering);
    assert_eq!(wire.server("5\r\n12345\r\n"), State::Answering);
    assert_eq!(wire.server(&format!("64\r\n{}\r\n0\r\n\r\n", "x".repeat(100))), State::Unknown);
}

#[test]
fn bytes_at_random_never_panic() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % n as u64).unwrap()
    };
    let words = [
        "GET ",
        "HTTP/1.1 ",
        "200 ",
        "\r\n",
        "\r\n\r\n",
        "Content-Length: ",
        "5",
        "Transfer-Encoding: chunked",
        "0",
        "\0",
        "é",
    ];
    for _ in 0..20_000 {
        let mut wire = Wire::new(below(100));
        for _ in 0..below(8) {
            let text: String = (0..below(8)).map(|_| words[below(words.len())]).collect();
            if below(2) == 0 {
                wire.client(&text)
            } else {
                wire.server(&text)
            };
        }
    }
}

#[test]
fn a_body_that_waits_for_100_continue_is_still_being_sent() {
    let continues = "HTTP/1.1 100 Continue\r\n\r\n";
    let mut wire = Wire::new(4096);
    let head = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(wire.client(head), State::Asking);
    assert_eq!(wire.server(continues), State::Asking);
    assert_eq!(wire.client("body"), State::Answering);
    assert_eq!(wire.server(OK), State::Complete);

    let mut wire = Wire::new(4096);
    assert_eq!(wire.server(continues), State::Asking, "though the request was not heard");
    assert_eq!(wire.client("body"), State::Unknown);
    assert_eq!(wire.server(OK), State::Complete);
}

#[test]
fn who_asks_for_more_before_the_answer_is_remembered() {
    for requests in [&[GET, GET][..], &[&[GET, GET].concat()]] {
        let mut wire = Wire::new(4096);
        for request in requests {
            wire.client(request);
        }
        assert!(wire.talk.heard().pipelined);
    }
}

#[test]
fn an_answer_that_was_promised_and_what_was_said_are_told() {
    let mut wire = Wire::new(4096);
    assert_eq!(wire.server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), State::Unknown);
    assert!(wire.talk.heard().promised);
    assert_eq!(wire.server("ok"), State::Complete);
    assert_eq!((wire.talk.heard().promised, wire.talk.heard().said), (false, 2));
}
