//! HAProxy, by its runtime API (management.txt, 9.3): lines over a socket, one connection for each.
//!
//! A server has an operational state, which is HAProxy's own judgement, and an administrative one, which is ours to set: a set of bits,
//! of which one is `drain` (no new sessions but those that stick to it; checks go on) and others are maintenance, which is the affair of
//! whoever has set it. `set server … state ready` ends all of them, so it is said only where there was none before.
//!
//! The socket needs `level admin` (`stats socket … level admin`). A reload of HAProxy forgets states, unless it is told to load them
//! (`load-server-state-from-file`).

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::gateway::{Gateway, Serving};
use crate::timely::Timely;
use crate::url::Url;
use crate::{Deadline, Error, Result};

/// HAProxy refuses longer answers to nobody, but these are short: a table of servers.
const ANSWER_AT_MOST: u64 = 4 << 20;

const HINT: &str = "give its stats socket `level admin`";

/// Bits of the administrative state (`show servers state`, `srv_admin_state`).
mod admin {
    /// Maintenance: it was told so, itself or with another that it tracks, or its name has no address. (Another bit, 0x04, only says what
    /// the configuration had.)
    pub(super) const MAINTENANCE: u32 = 0x01 | 0x02 | 0x20;
    /// It was told to drain, itself or with another server that it tracks.
    pub(super) const DRAIN: u32 = 0x08 | 0x10;
}

/// Some servers of HAProxy, which are one instance of ours.
#[derive(Debug)]
pub struct Haproxy {
    name: String,
    at: Address,
    servers: Vec<Server>,
    /// If it is draining already, that is our affair.
    resumes: bool,
}

#[derive(Debug)]
enum Address {
    Path(String),
    Host(String),
}

#[derive(Debug)]
struct Server {
    backend: String,
    name: String,
    /// It is we who have told it to drain.
    is_drained: bool,
}

impl Haproxy {
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        let mut settings = url.settings()?;
        let servers = settings.text("server", "BACKEND/SERVER").map(str::to_owned);
        settings.end()?;
        let servers = servers.ok_or_else(|| url.error("server=BACKEND/SERVER says which server it is"))?;
        let named = |text: &str| {
            let (backend, server) = text.split_once('/')?;
            // Whatever else would be a second command, or a second word.
            let is_name = |name: &str| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
            };
            let is_server = is_name(backend) && is_name(server);
            is_server.then(|| Server { backend: backend.into(), name: server.into(), is_drained: false })
        };
        let servers: Option<Vec<Server>> = servers.split(',').map(named).collect();
        let servers = servers
            .ok_or_else(|| url.error("server= is followed by BACKEND/SERVER, or several with commas"))?;
        let at = match (url.authority, url.path) {
            ("", path) if path.len() > 1 => Address::Path(path.into()),
            (host, "" | "/")
                if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) =>
            {
                Address::Host(host.into())
            }
            _ => {
                return Err(
                    url.error("it has the form haproxy:///SOCKET?server=… or haproxy://HOST:PORT?server=…")
                );
            }
        };
        Ok(Self { name: url.name(), at, servers, resumes: false })
    }

    /// What it answers to one line.
    fn ask(&self, line: &str, deadline: Deadline) -> Result<String> {
        let failed = |why: String| Error::Failed { registry: self.name.clone(), why };
        let answer = match &self.at {
            Address::Path(path) => {
                UnixStream::connect(path).and_then(|socket| talk(Timely { socket, until: deadline }, line))
            }
            Address::Host(host) => host.to_socket_addrs().and_then(|mut addresses| {
                let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
                let socket = TcpStream::connect_timeout(&address, deadline.left().max(SHORTEST))?;
                talk(Timely { socket, until: deadline }, line)
            }),
        };
        match answer {
            Ok(answer) if answer.contains("Permission denied") => {
                let why = answer.trim().replace('\n', " ");
                Err(Error::Refused { registry: self.name.clone(), why, hint: HINT })
            }
            Ok(answer) => Ok(answer),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Err(failed("it does not answer in time".into()))
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The bits of the administrative state.
    fn state(&self, Server { backend, name, .. }: &Server, deadline: Deadline) -> Result<u32> {
        let answer = self.ask(&format!("show servers state {backend}"), deadline)?;
        let column = |wanted: &str| {
            let header = answer.lines().find_map(|line| line.strip_prefix("# "))?;
            header.split(' ').position(|column| column == wanted)
        };
        let state = || {
            let (names, state) = (column("srv_name")?, column("srv_admin_state")?);
            let rows = answer.lines().filter(|line| !line.starts_with('#'));
            let mut rows = rows.map(|line| line.split(' ').collect::<Vec<_>>());
            rows.find(|row| row.get(names) == Some(&name.as_str()))?.get(state)?.parse().ok()
        };
        state().ok_or_else(|| {
            let why = match answer.trim().lines().next() {
                Some(words) if !words.starts_with('1') => words.to_owned(),
                _ => format!("there is no server {name:?} in the backend {backend:?}"),
            };
            Error::Failed { registry: self.name.clone(), why }
        })
    }

    /// Sessions of one server, those that are under way and those that wait for it.
    fn sessions(&self, Server { backend, name, .. }: &Server, deadline: Deadline) -> Result<u64> {
        let answer = self.ask("show stat", deadline)?;
        let mut rows = answer.trim_start_matches("# ").lines().map(|row| row.split(',').collect::<Vec<_>>());
        let header = rows.next().unwrap_or_default();
        let column = |wanted: &str| header.iter().position(|column| *column == wanted);
        let mut sessions = || {
            let (current, queued) = (column("scur")?, column("qcur")?);
            let row = rows
                .find(|row| row.first() == Some(&backend.as_str()) && row.get(1) == Some(&name.as_str()))?;
            let number = |at: usize| row.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            Some(number(current) + number(queued))
        };
        let why = format!("there is no server {name:?} in the backend {backend:?}");
        sessions().ok_or_else(|| Error::Failed { registry: self.name.clone(), why })
    }

    fn set(&self, Server { backend, name, .. }: &Server, state: &str, deadline: Deadline) -> Result<()> {
        let answer = self.ask(&format!("set server {backend}/{name} state {state}"), deadline)?;
        match answer.trim() {
            "" => Ok(()),
            why => Err(Error::Failed { registry: self.name.clone(), why: why.to_owned() }),
        }
    }
}

/// Connecting takes no time-out of nothing.
const SHORTEST: Duration = Duration::from_millis(1);

fn talk(mut stream: impl Read + Write, line: &str) -> std::io::Result<String> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_AT_MOST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

impl Gateway for Haproxy {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn check(&mut self, deadline: Deadline) -> Result<()> {
        self.servers.iter().try_for_each(|server| self.state(server, deadline).map(drop))
    }

    fn resume(&mut self) {
        self.resumes = true;
    }

    fn drain(&mut self, _: &str, deadline: Deadline) -> Result<()> {
        for at in 0..self.servers.len() {
            let server = &self.servers[at];
            let others = if self.resumes { admin::MAINTENANCE } else { admin::MAINTENANCE | admin::DRAIN };
            // Somebody else has taken it out, and will put it in again.
            if self.state(server, deadline)? & others == 0 {
                self.set(server, "drain", deadline)?;
                self.servers[at].is_drained = true;
            }
        }
        Ok(())
    }

    fn is_idle(&mut self, deadline: Deadline) -> Result<bool> {
        let mut sessions = 0;
        for server in &self.servers {
            sessions += self.sessions(server, deadline)?;
        }
        Ok(sessions == 0)
    }

    fn undrain(&mut self, _: Serving, deadline: Deadline) -> Result<()> {
        for at in 0..self.servers.len() {
            let server = &self.servers[at];
            if server.is_drained && self.state(server, deadline)? & admin::MAINTENANCE == 0 {
                self.set(server, "ready", deadline)?;
            }
            self.servers[at].is_drained = false;
        }
        Ok(())
    }

    /// It obeys at once.
    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_named() {
        let open = |text: &str| Haproxy::open(&Url::parse(text).unwrap());
        let haproxy = open("haproxy:///run/haproxy.sock?server=web/s1,api/s-1").unwrap();
        assert_eq!(haproxy.servers.len(), 2);
        assert_eq!(haproxy.name(), "haproxy:///run/haproxy.sock");
        assert!(matches!(open("haproxy://[::1]:9999?server=web/s1").unwrap().at, Address::Host(_)));
        for (text, named) in [
            ("haproxy:///run/haproxy.sock", "says which server"),
            ("haproxy:///run/haproxy.sock?server=web", "BACKEND/SERVER"),
            ("haproxy:///run/haproxy.sock?server=web/s1;shutdown", "BACKEND/SERVER"),
            ("haproxy:///run/haproxy.sock?server=web/s 1", "BACKEND/SERVER"),
            ("haproxy://?server=web/s1", "it has the form"),
            ("haproxy://host?server=web/s1", "it has the form"),
            ("haproxy:///run/haproxy.sock?server=web/s1&weight=0", "\"weight\""),
        ] {
            let why = open(text).unwrap_err().to_string();
            assert!(why.contains(named), "{text}: {why}");
        }
    }
}
