//! HAProxy, with free places for servers that are put in over its runtime API (management.txt, 9.3).
//!
//! It repeats nothing: a request that was lost shows.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{find, free};
use crate::{Missing, Server};

/// How many servers there may be at once.
pub(crate) const PLACES: usize = 8;

/// A running HAProxy with the backend `web`, whose servers are `s1` to `s8`.
#[derive(Debug)]
pub struct Haproxy {
    server: Server,
    at: SocketAddr,
}

impl Haproxy {
    /// Starts one, with no server in its backend.
    ///
    /// # Errors
    /// If it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Result<Self, Missing> {
        let program = find("haproxy", "haproxy")?;
        let at = free();
        let arguments = |directory: &Path, command: &mut Command| {
            let path = directory.join("haproxy.cfg");
            fs::write(&path, configuration(at, &socket(directory))).expect("a file");
            command.arg("-db").arg("-f").arg(path);
        };
        let answers = |directory: &Path| ask(&socket(directory), "show info").is_ok();
        Ok(Self { server: Server::start(&program, arguments, answers), at })
    }

    /// The socket of its runtime API.
    pub fn socket(&self) -> PathBuf {
        socket(self.server.directory())
    }

    /// What it answers to a command of its runtime API.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn ask(&self, command: &str) -> String {
        ask(&self.socket(), command).expect("HAProxy answers")
    }

    /// Where clients reach it.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// This place is for this server now.
    pub fn put(&self, place: usize, at: SocketAddr) {
        self.ask(&format!("set server web/s{place} addr {} port {}", at.ip(), at.port()));
        self.ask(&format!("set server web/s{place} state ready"));
    }

    /// No new request to this place.
    pub fn take(&self, place: usize) {
        self.ask(&format!("set server web/s{place} state drain"));
    }

    /// The administrative state of the server at this place: 1 is maintenance, 8 that it was told to drain (management.txt, `show servers
    /// state`).
    ///
    /// # Panics
    /// If there is no such place.
    pub fn state(&self, place: usize) -> u32 {
        let servers = self.ask("show servers state web");
        let name = format!("s{place}");
        let mut rows = servers.lines().map(|row| row.split(' ').collect::<Vec<_>>());
        let row = rows.find(|row| row.get(3) == Some(&&*name)).expect("there is such a place");
        let state: u32 = row[6].parse().expect("a number");
        // What the configuration had is of no interest.
        state & !4
    }

    /// How many requests it has sent to this place.
    pub fn requests(&self, place: usize) -> u64 {
        self.text(place, "stot").parse().unwrap_or(0)
    }

    /// What `show stat` has of `s1` and so on in this column.
    fn text(&self, place: usize, column: &str) -> String {
        let stat = self.ask("show stat");
        let mut rows = stat.trim_start_matches("# ").lines().map(|row| row.split(',').collect::<Vec<_>>());
        let header = rows.next().unwrap_or_default();
        let at = header.iter().position(|name| *name == column).expect("there is such a column");
        let name = format!("s{place}");
        let mut found = rows.filter(|row| row.first() == Some(&"web") && row.get(1) == Some(&&*name));
        found.next().and_then(|row| row.get(at).copied()).unwrap_or_default().to_owned()
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("socket")
}

fn ask(socket: &Path, command: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn configuration(at: SocketAddr, socket: &Path) -> String {
    format!(
        "\
global
    stats socket {socket} mode 600 level admin
    maxconn 1000
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    retries 0
frontend in
    bind {at}
    default_backend web
backend web
    balance roundrobin
    http-reuse safe
    server-template s 1-{PLACES} 127.0.0.1:1 disabled
",
        socket = socket.display()
    )
}
