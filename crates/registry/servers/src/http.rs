//! A small HTTP/1.1 server for the doubles: one thread for each connection, which is kept; bodies have a `Content-Length`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::Value;

/// A client of the tests sends no more.
const BODY_AT_MOST: usize = 1 << 20;

/// What was asked.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As it came, with what is escaped in it.
    raw_path: String,
    /// As it is meant.
    pub(crate) path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    /// What stands between the slashes of its path, each as it is meant.
    pub(crate) fn parts(&self) -> Vec<String> {
        self.raw_path.split('/').filter(|part| !part.is_empty()).map(unescaped).collect()
    }

    /// The value of this one in the query or in a form; nothing, if it stands there alone.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value.as_str()))
    }

    /// `None`: the connection has ended.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let [method, target, _] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(invalid("no request"));
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            method: method.to_owned(),
            raw_path: path.to_owned(),
            path: unescaped(path),
            query: pairs(query),
            headers: Vec::new(),
            body: String::new(),
        };
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            request.headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let length = request.header("Content-Length").map_or(Ok(0), str::parse);
        let length = length.ok().filter(|length| *length <= BODY_AT_MOST);
        let mut body = vec![0; length.ok_or_else(|| invalid("no length"))?];
        from.read_exact(&mut body)?;
        request.body = String::from_utf8(body).map_err(|_| invalid("no text"))?;
        // As a servlet has it.
        if request
            .header("Content-Type")
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
        {
            let form = pairs(&request.body);
            request.query.extend(form);
        }
        Ok(Some(request))
    }
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Response {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn text(status: u16, words: &str) -> Self {
        let body = words.to_owned();
        Self { body, ..Self::empty(status).header("Content-Type", "text/plain; charset=utf-8") }
    }

    pub(crate) fn page(status: u16) -> Self {
        let body = format!("<html>{status}</html>");
        Self { body, ..Self::empty(status).header("Content-Type", "text/html") }
    }

    pub(crate) fn xml(xml: String) -> Self {
        Self { body: xml, ..Self::empty(200).header("Content-Type", "application/xml") }
    }

    pub(crate) fn json(json: &Value) -> Self {
        Self { body: json.to_string(), ..Self::empty(200).header("Content-Type", "application/json") }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let Self { status, headers, body } = self;
        // Clients go by the number.
        let mut answer = format!("HTTP/1.1 {status} -\r\n");
        for (name, value) in headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        // One that has no body may say so, or not; RFC 9110 wants it not said for 204.
        if *status != 204 {
            answer.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        answer.push_str("\r\n");
        answer.push_str(body);
        to.write_all(answer.as_bytes())
    }
}

/// An answer, or one that refuses: both are sent.
pub(crate) type Answered = Result<Response, Response>;

/// Serves on a free port of the loopback interface. The threads end with the process.
pub(crate) fn serve(answer: impl Fn(&Request) -> Answered + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("it is bound");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // A client that leaves is no affair of ours.
            thread::spawn(move || drop(converse(&client, answer.as_ref())));
        }
    });
    at
}

fn converse(client: &TcpStream, answer: impl Fn(&Request) -> Answered) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    while let Some(request) = Request::read(&mut reader)? {
        answer(&request).unwrap_or_else(|refused| refused).write(&mut &*client)?;
        if request.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}

/// What a query has, or a form.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let unescaped = |text: &str| unescaped(&text.replace('+', " "));
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (unescaped(name), unescaped(value)))
        .collect()
}

/// What stands for a byte as `%2F` is that byte.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let (byte, behind) =
            hex.filter(|_| first == b'%').map_or((first, behind), |byte| (byte, &behind[2..]));
        bytes.push(byte);
        rest = behind;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_and_the_next_one_behind_it() {
        let mut bytes = b"PUT /a%2Fb%zz?x=1+2&passing HTTP/1.1\r\nX-Token: t\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n"
            .as_slice();
        let request = Request::read(&mut bytes).unwrap().unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/a/b%zz"));
        assert_eq!(request.parts(), ["a/b%zz"]);
        assert_eq!(
            (request.query("x"), request.query("passing"), request.query("y")),
            (Some("1 2"), Some(""), None)
        );
        assert_eq!((request.header("x-token"), request.body.as_str()), (Some("t"), "{}"));
        assert_eq!(Request::read(&mut bytes).unwrap().unwrap().path, "/");
        assert!(Request::read(&mut bytes).unwrap().is_none());
        assert!(Request::read(&mut b"nonsense\r\n".as_slice()).is_err());
    }
}
