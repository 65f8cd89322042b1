//! What a container has written.
//!
//! Without a terminal the daemon multiplexes both streams into one (Engine API, `ContainerAttach`): a head of eight
//! bytes, of which the first is the stream and the last four the length of what follows, big-endian; then that. A
//! container with a terminal has one stream and no heads. Nothing in the answer of daemons before 23.0 tells which,
//! but the container does.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, BoxStream, StreamExt};

use super::client::{Answer, Call, Client};
use crate::{Error, LogChunk, LogOptions, LogStream, Result};

/// How the daemon sends the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it was written.
    Raw,
    /// Both streams in one.
    Multiplexed,
}

/// The request for a log.
pub(super) fn call(id: &str, options: &LogOptions) -> Call {
    let since = options.since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
    Call::get(format!("/containers/{id}/logs"))
        .with("stdout", Some(1))
        .with("stderr", Some(1))
        .with("follow", options.follow.then_some(1))
        .with("timestamps", options.timestamps.then_some(1))
        .with("tail", options.tail)
        .with("since", since.map(|since| format!("{}.{:09}", since.as_secs(), since.subsec_nanos())))
}

/// Opens a log and gives it out as it comes. `limit` is how long the next piece may take; none when following.
pub(super) async fn open(
    client: &Client,
    call: Call,
    form: Form,
    limit: Option<Duration>,
) -> Result<BoxStream<'static, Result<LogChunk>>> {
    let answer = client.within(limit, client.open(call)).await?;
    let reader = Reader { answer, limit, decoder: Decoder::new(form), ready: VecDeque::new() };
    let chunks = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(chunk) => chunk.map(|chunk| (Ok(chunk), Some(reader))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(chunks.boxed())
}

struct Reader {
    answer: Answer,
    limit: Option<Duration>,
    decoder: Decoder,
    ready: VecDeque<Piece>,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LogChunk>> {
        loop {
            match self.ready.pop_front() {
                Some(Piece::Log(chunk)) => return Ok(Some(chunk)),
                Some(Piece::Refusal(message)) => return Err(Error::Daemon { status: 500, message }),
                None => {}
            }
            match self.answer.chunk_within(self.limit).await? {
                Some(bytes) => {
                    let pieces = self.decoder.push(&bytes);
                    self.ready.extend(pieces.map_err(|why| self.answer.nonsense(why))?);
                }
                None if self.decoder.is_between_frames() => return Ok(None),
                None => return Err(self.answer.nonsense("the log ended in the middle")),
            }
        }
    }
}

/// What the daemon sent.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Log(LogChunk),
    /// The daemon failed while it was reading the log.
    Refusal(String),
}

/// Takes the streams apart, without waiting for a frame to be complete.
#[derive(Debug)]
enum Decoder {
    Raw,
    Head(Vec<u8>),
    Body { source: Source, left: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Program(LogStream),
    Daemon,
}

const HEAD: usize = 8;

impl Decoder {
    fn new(form: Form) -> Self {
        match form {
            Form::Raw => Self::Raw,
            Form::Multiplexed => Self::Head(Vec::new()),
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Piece>, &'static str> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            match self {
                Self::Raw => {
                    let chunk = LogChunk { stream: LogStream::Stdout, bytes: bytes.to_vec() };
                    pieces.push(Piece::Log(chunk));
                    bytes = &[];
                }
                Self::Head(head) => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(HEAD - head.len()));
                    head.extend_from_slice(taken);
                    bytes = rest;
                    if let &[source, 0, 0, 0, a, b, c, d] = head.as_slice() {
                        *self = Self::frame(
                            Source::from_byte(source)?,
                            u32::from_be_bytes([a, b, c, d]) as usize,
                        );
                    } else if head.len() == HEAD {
                        return Err("the log is not what a container without a terminal writes");
                    }
                }
                Self::Body { source, left } => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(*left));
                    pieces.push(match source {
                        Source::Program(stream) => {
                            Piece::Log(LogChunk { stream: *stream, bytes: taken.to_vec() })
                        }
                        Source::Daemon => {
                            Piece::Refusal(String::from_utf8_lossy(taken).trim_end().to_owned())
                        }
                    });
                    bytes = rest;
                    *self = Self::frame(*source, *left - taken.len());
                }
            }
        }
        Ok(pieces)
    }

    fn frame(source: Source, left: usize) -> Self {
        if left == 0 { Self::Head(Vec::with_capacity(HEAD)) } else { Self::Body { source, left } }
    }

    fn is_between_frames(&self) -> bool {
        match self {
            Self::Raw => true,
            Self::Head(head) => head.is_empty(),
            Self::Body { .. } => false,
        }
    }
}

impl Source {
    fn from_byte(byte: u8) -> Result<Self, &'static str> {
        match byte {
            // 0 is standard input, which the daemon echoes as output.
            0 | 1 => Ok(Self::Program(LogStream::Stdout)),
            2 => Ok(Self::Program(LogStream::Stderr)),
            3 => Ok(Self::Daemon),
            _ => Err("the log has a stream that does not exist"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(source: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[source, 0, 0, 0], &length[..], text.as_bytes()].concat()
    }

    /// The decoded streams, each in one piece.
    fn decode(form: Form, bytes: &[u8], step: usize) -> Result<(String, String, bool), &'static str> {
        let mut decoder = Decoder::new(form);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for part in bytes.chunks(step) {
            for piece in decoder.push(part)? {
                match piece {
                    Piece::Log(chunk) => match chunk.stream {
                        LogStream::Stdout => out.extend(chunk.bytes),
                        LogStream::Stderr => err.extend(chunk.bytes),
                    },
                    Piece::Refusal(text) => err.extend(format!("daemon: {text}").bytes()),
                }
            }
        }
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), decoder.is_between_frames()))
    }

    #[test]
    fn the_streams_are_taken_apart_however_the_bytes_arrive() {
        let bytes = [frame(1, "one\n"), frame(2, "oops\n"), frame(1, ""), frame(1, "two")].concat();
        for step in 1..=bytes.len() {
            let decoded = decode(Form::Multiplexed, &bytes, step);
            assert_eq!(decoded, Ok(("one\ntwo".into(), "oops\n".into(), true)), "{step} bytes at a time");
        }
    }

    #[test]
    fn a_terminal_may_write_what_looks_like_a_head() {
        let bytes = frame(1, "x");
        let decoded = decode(Form::Raw, &bytes, 3).unwrap();
        assert_eq!(decoded.0.as_bytes(), bytes);
    }

    #[test]
    fn a_torn_log_is_noticed() {
        let bytes = frame(1, "whole");
        assert!(!decode(Form::Multiplexed, &bytes[..3], 9).unwrap().2);
        assert!(!decode(Form::Multiplexed, &bytes[..10], 99).unwrap().2);
        assert!(decode(Form::Multiplexed, b"plain text", 99).is_err());
        assert!(decode(Form::Multiplexed, &[9, 0, 0, 0, 0, 0, 0, 1, 65], 99).is_err());
    }

    #[test]
    fn the_daemons_own_failure_is_no_output() {
        let mut decoder = Decoder::new(Form::Multiplexed);
        let pieces = decoder.push(&frame(3, "Error grabbing logs: EOF\n")).unwrap();
        assert_eq!(pieces, [Piece::Refusal("Error grabbing logs: EOF".into())]);
    }

    #[test]
    fn only_what_was_asked_for_is_in_the_request() {
        let all = format!("{:?}", call("c", &LogOptions::default()));
        assert!(all.contains("/containers/c/logs?stdout=1&stderr=1\""), "{all}");
        let since = SystemTime::UNIX_EPOCH + Duration::new(5, 1);
        let options = LogOptions { follow: true, tail: Some(0), since: Some(since), timestamps: true };
        let some = format!("{:?}", call("c", &options));
        assert!(some.contains("&follow=1&timestamps=1&tail=0&since=5.000000001\""), "{some}");
    }
}
