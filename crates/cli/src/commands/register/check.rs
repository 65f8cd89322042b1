//! Is the program ready? Asked again and again, by a thread of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gracefully_registry::exec::ended_within;
use gracefully_registry::{Deadline, Instance, Settling};
use serde::{Deserialize, Serialize};

use super::SPEC;
use super::agent::News;

/// How often it is asked before it is ready, and then.
const WHILE_STARTING: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(2);

/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
const EXITED_WITHIN: Duration = Duration::from_secs(5);

/// A program that was ready is not so any more when it has failed this often in a row.
const FAILURES: u32 = 3;

/// How one sees that a program is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Check {
    /// It is always.
    None,
    /// Somebody listens at its address.
    Tcp,
    /// A GET of this path is answered with 2xx or 3xx; the address is the instance's unless it is named.
    Http { at: Option<String>, path: String },
    /// A command exits 0: a JSON array is executed, anything else given to a shell, as in docker's HEALTHCHECK.
    Exec(Vec<String>),
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::None),
            "tcp" => return Ok(Self::Tcp),
            path if path.starts_with('/') => return Ok(Self::Http { at: None, path: path.into() }),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("http://") {
            let (at, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if at.is_empty() || at.contains('@') {
                return Err("http:// is followed by HOST:PORT/PATH".into());
            }
            let at = if at.contains(':') { at.to_owned() } else { format!("{at}:80") };
            let path = if path.is_empty() { "/" } else { path };
            return Ok(Self::Http { at: Some(at), path: path.into() });
        }
        match text.strip_prefix("exec:") {
            Some(array) if array.starts_with('[') => match serde_json::from_str::<Vec<String>>(array) {
                Ok(words) if !words.is_empty() => Ok(Self::Exec(words)),
                _ => Err("exec:[ begins a JSON array of words".into()),
            },
            Some(command) if !command.is_empty() => {
                Ok(Self::Exec(["/bin/sh", "-c", command].map(str::to_owned).into()))
            }
            _ => Err("none of none, tcp, /PATH, http://HOST:PORT/PATH, exec:COMMAND".into()),
        }
    }
}

impl Check {
    fn passes(&self, address: &str) -> bool {
        match self {
            Self::None => true,
            Self::Tcp => connect(address).is_some(),
            Self::Http { at, path } => {
                status(at.as_deref().unwrap_or(address), path).is_some_and(|code| (200..400).contains(&code))
            }
            Self::Exec(words) => exits_well(words),
        }
    }
}

/// While the program is being stopped it is not asked: whoever stops it waits until nobody comes, and that would be us.
#[derive(Debug, Default)]
pub(super) struct Pause {
    is_for_good: AtomicBool,
    /// Somebody outside may have one of these leave.
    memberships: Mutex<Vec<Settling>>,
}

impl Pause {
    /// We stop it ourselves.
    pub(super) fn for_good(&self) {
        self.is_for_good.store(true, Ordering::Relaxed);
    }

    /// While this one is out, too.
    pub(super) fn while_out(&self, membership: Settling) {
        self.memberships().push(membership);
    }

    /// Nobody outside can have it leave any more.
    pub(super) fn left(&self) {
        self.memberships().clear();
    }

    fn is_on(&self) -> bool {
        self.is_for_good.load(Ordering::Relaxed) || self.memberships().iter().any(Settling::is_out)
    }

    fn memberships(&self) -> MutexGuard<'_, Vec<Settling>> {
        self.memberships.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to check, and tells of every change.
pub(super) fn begin(check: Check, instance: &Instance, pause: Arc<Pause>, tell: &Sender<News>) {
    let (tell, address) = (tell.clone(), instance.host_and_port());
    let work = move || {
        let (mut ready, mut failures) = (false, 0);
        loop {
            if pause.is_on() {
                Deadline::within(LATER).wait();
                continue;
            }
            let passes = check.passes(&address);
            failures = if passes { 0 } else { failures + 1 };
            let now = passes || ready && failures < FAILURES;
            if now != ready && tell.send(News::Ready(now)).is_err() {
                return;
            }
            ready = now;
            if check == Check::None {
                return;
            }
            Deadline::within(if ready { LATER } else { WHILE_STARTING }).wait();
        }
    };
    // Without a thread nothing is ever ready, which shows.
    let _ = std::thread::Builder::new().name("check".into()).spawn(work);
}

fn connect(address: &str) -> Option<TcpStream> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs().ok()?.collect();
    addresses.iter().find_map(|address| TcpStream::connect_timeout(address, ANSWERED_WITHIN).ok())
}

/// The status of an answer. What follows it is not read.
fn status(address: &str, path: &str) -> Option<u16> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).ok()?;
    stream.set_write_timeout(Some(ANSWERED_WITHIN)).ok()?;
    // At once: a server may answer what it has heard, and hang up on the rest.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: gracefully\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    // `HTTP/1.1 200`
    let mut line = [0; 12];
    stream.read_exact(&mut line).ok()?;
    std::str::from_utf8(&line).ok()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

fn exits_well(words: &[String]) -> bool {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: what a shell has started ends with it.
    let Ok(mut child) = command.env_remove(SPEC).process_group(0).spawn() else { return false };
    let ended = ended_within(&mut child, Deadline::within(EXITED_WITHIN));
    ended.is_ok_and(|status| status.is_some_and(|status| status.success()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_can_be_written() {
        let http =
            |at: Option<&str>, path: &str| Check::Http { at: at.map(str::to_owned), path: path.into() };
        for (text, check) in [
            ("none", Check::None),
            ("tcp", Check::Tcp),
            ("/readyz", http(None, "/readyz")),
            ("http://localhost", http(Some("localhost:80"), "/")),
            ("http://[::1]:8080/a?b", http(Some("[::1]:8080"), "/a?b")),
            ("exec:[\"test\",\"-e\",\"/\"]", Check::Exec(["test", "-e", "/"].map(str::to_owned).into())),
            ("exec:test -e /", Check::Exec(["/bin/sh", "-c", "test -e /"].map(str::to_owned).into())),
        ] {
            assert_eq!(text.parse(), Ok(check));
        }
        for wrong in ["", "udp", "http://", "http://u:p@h/", "https://h", "exec:", "exec:[]", "exec:[1]"] {
            assert!(wrong.parse::<Check>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_pass_by_their_status() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers =
            ["HTTP/1.1 200 OK", "HTTP/1.0 302 Found", "HTTP/1.1 404 Not", "HTTP/1.1 503 Nope", "hello"];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for answer in answers {
                    let (mut stream, _) = listener.accept().unwrap();
                    let _ = stream.read(&mut [0; 1000]).unwrap();
                    stream.write_all(format!("{answer}\r\n\r\n").as_bytes()).unwrap();
                }
            });
            let check = Check::Http { at: None, path: "/".into() };
            assert_eq!(answers.map(|_| check.passes(&address)), [true, true, false, false, false]);
        });
        assert!(Check::Tcp.passes(&address));
        drop(listener);
        assert!(!Check::Tcp.passes(&address));
    }

    #[test]
    fn commands_pass_by_their_exit_code() {
        for (command, passes) in
            [("exec:exit 0", true), ("exec:exit 3", false), ("exec:[\"/no/such\"]", false)]
        {
            assert_eq!(command.parse::<Check>().unwrap().passes(""), passes, "{command}");
        }
    }
}
