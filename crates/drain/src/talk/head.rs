//! The heads of HTTP/1 messages (RFC 9112, sections 2 to 6), as far as they say where a message ends.

use super::HEAD;

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// As long as the connection.
    UntilEnd,
}

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<T> {
    /// It goes on.
    More,
    /// It is none.
    Bad,
    /// It is whole, and took so many bytes of what came last.
    Whole {
        /// What it says.
        head: T,
        /// How many bytes of the segment belong to it.
        used: usize,
    },
}

/// What a request's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) body: Body,
    /// Its answer has no body.
    pub(super) head_only: bool,
}

/// What an answer's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) body: Body,
    /// Another one follows.
    pub(super) interim: bool,
    /// From here on it is another protocol.
    pub(super) upgrades: bool,
}

impl Request {
    /// Does this look like the beginning of one? The methods of RFC 9110 and PATCH; others are not followed.
    pub(super) fn begins(text: &[u8]) -> bool {
        const METHODS: [&str; 9] =
            ["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT "];
        METHODS.iter().any(|method| {
            let method = method.as_bytes();
            // A piece of a method is one, too, if there is no more.
            text.starts_with(method) || (!text.is_empty() && method.starts_with(text))
        })
    }

    /// Adds what has come to `so_far`.
    pub(super) fn parse(so_far: &mut Vec<u8>, captured: &[u8]) -> Parsed<Self> {
        collect(so_far, captured, |lines| {
            let mut words = lines.first.split(' ');
            let (method, _target, version) = (words.next()?, words.next()?, words.next()?);
            if !version.starts_with("HTTP/1.") || method == "CONNECT" {
                return None;
            }
            let body = match lines.body()? {
                Body::UntilEnd => Body::None,
                body => body,
            };
            Some(Self { body, head_only: method == "HEAD" })
        })
    }
}

impl Answer {
    /// Does this look like the beginning of one?
    pub(super) fn begins(text: &[u8]) -> bool {
        text.starts_with(b"HTTP/1.")
    }

    /// Is this "100 Continue", and nothing else?
    pub(super) fn continues(text: &[u8]) -> bool {
        let status = text.get("HTTP/1.1".len()..).unwrap_or_default();
        Self::begins(text) && status.starts_with(b" 100 ") && text.ends_with(b"\r\n\r\n")
    }

    /// Adds what has come to `so_far`.
    pub(super) fn parse(so_far: &mut Vec<u8>, captured: &[u8]) -> Parsed<Self> {
        collect(so_far, captured, |lines| {
            let mut words = lines.first.split(' ');
            if !words.next()?.starts_with("HTTP/1.") {
                return None;
            }
            let status: u16 = words.next()?.parse().ok()?;
            let body = match status {
                100..200 | 204 | 304 => Body::None,
                _ => lines.body()?,
            };
            Some(Self {
                body,
                interim: (100..200).contains(&status) && status != 101,
                upgrades: status == 101,
            })
        })
    }
}

/// The size in the line before a chunk.
pub(super) fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = str::from_utf8(line).ok()?;
    let size = line.split(';').next()?.trim();
    if size.is_empty() || size.starts_with('+') { None } else { u64::from_str_radix(size, 16).ok() }
}

/// The lines of a head.
struct Lines<'a> {
    first: &'a str,
    fields: &'a str,
}

impl Lines<'_> {
    /// `None`: nobody could say where the body ends.
    fn body(&self) -> Option<Body> {
        let mut body = Body::UntilEnd;
        for field in self.fields.lines().filter(|line| !line.is_empty()) {
            let (name, value) = field.split_once(':')?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("transfer-encoding") {
                // It wins over a length; anything but chunks is not followed.
                if !value.eq_ignore_ascii_case("chunked") {
                    return None;
                }
                body = Body::Chunked;
            } else if name.eq_ignore_ascii_case("content-length") && body != Body::Chunked {
                let length = match value.parse().ok()? {
                    0 => Body::None,
                    length => Body::Length(length),
                };
                // Twice, and not the same.
                if body != Body::UntilEnd && body != length {
                    return None;
                }
                body = length;
            }
        }
        Some(body)
    }
}

fn collect<T>(so_far: &mut Vec<u8>, captured: &[u8], read: impl FnOnce(Lines<'_>) -> Option<T>) -> Parsed<T> {
    const END: &[u8] = b"\r\n\r\n";
    let before = so_far.len();
    so_far.extend_from_slice(captured);
    // The end may have begun in the piece before.
    let from = before.saturating_sub(END.len() - 1);
    let Some(end) = so_far[from..].windows(END.len()).position(|window| window == END) else {
        return if so_far.len() > HEAD { Parsed::Bad } else { Parsed::More };
    };
    let end = from + end;
    let head = str::from_utf8(&so_far[..end]).ok();
    let lines = head.map(|head| {
        let (first, fields) = head.split_once("\r\n").unwrap_or((head, ""));
        Lines { first, fields }
    });
    match lines.and_then(read) {
        Some(head) => Parsed::Whole { head, used: end + END.len() - before },
        None => Parsed::Bad,
    }
}
