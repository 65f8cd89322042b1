//! The registries of one instance.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use gracefully_registry::{Hints, Instance, Membership, open, servers};

use super::agent::News;
use super::check::Pause;
use crate::discovery::Held;
use crate::display::Console;

/// All of them, entered or not.
#[derive(Debug)]
pub(super) struct Places {
    instance: Instance,
    all: Vec<Place>,
    hints: Hints,
    pause: Arc<Pause>,
}

#[derive(Debug)]
struct Place {
    url: String,
    seat: Seat,
    /// What went wrong last, so that it is said once.
    wrong: Option<String>,
}

#[derive(Debug)]
enum Seat {
    /// It is not there; this is when to try.
    Empty(Instant),
    Held(Held),
}

/// How often a registry that could not be reached is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Place {
    /// As it is called in messages.
    fn name(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}

impl Places {
    /// Fails if a URL names none, or a secret is not there. Nobody is asked yet.
    pub(super) fn new(urls: &[String], instance: Instance) -> gracefully_registry::Result<Self> {
        let mut slowest: Option<Hints> = None;
        for url in urls {
            let hints = open(url)?.hints();
            let before = slowest.unwrap_or(hints);
            slowest = Some(Hints {
                beat: before.beat.min(hints.beat),
                settle: before.settle.max(hints.settle),
                crash_after: before.crash_after.max(hints.crash_after),
            });
        }
        let hints = slowest.expect("the command line has at least one");
        let all = urls
            .iter()
            .map(|url| Place { url: url.clone(), seat: Seat::Empty(Instant::now()), wrong: None })
            .collect();
        Ok(Self { instance, all, hints, pause: Arc::default() })
    }

    /// What is registered.
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// While it is stopped.
    pub(super) fn pause(&self) -> Arc<Pause> {
        Arc::clone(&self.pause)
    }

    /// The instance's id.
    pub(super) fn id(&self) -> &str {
        &self.instance.id
    }

    /// What the slowest of them knows about time.
    pub(super) fn hints(&self) -> Hints {
        self.hints
    }

    /// Begins to register it where it is due. Each registry has a thread of its own, which tells when it is done.
    pub(super) fn enter(&mut self, tell: &Sender<News>) {
        let now = Instant::now();
        for (at, place) in self.all.iter_mut().enumerate() {
            if matches!(place.seat, Seat::Empty(due) if due <= now) {
                let (url, name, tell) = (place.url.clone(), place.name().to_owned(), tell.clone());
                let instance = self.instance.clone();
                // The heartbeat's thread has no console, and what it says is rare.
                let say = move |news: &str| drop(writeln!(io::stderr(), "{name}: {news}"));
                let register = move || {
                    let joined = open(&url).and_then(|registry| Membership::join(registry, instance, say));
                    let _ = tell.send(News::Entered(at));
                    joined
                };
                place.seat = Seat::Held(Held::Begun(std::thread::spawn(register)));
            }
        }
    }

    /// When to try the next one.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.all.iter().filter_map(|place| match place.seat {
            Seat::Empty(due) => Some(due),
            Seat::Held(_) => None,
        });
        due.min()
    }

    /// The thread of this one is done: says what came of it.
    pub(super) fn entered(&mut self, at: usize, console: &Console) {
        let place = &mut self.all[at];
        let again = Seat::Empty(Instant::now() + TRY_AGAIN);
        let registers = match std::mem::replace(&mut place.seat, again) {
            Seat::Held(Held::Begun(registers)) => registers,
            // It has been left meanwhile.
            other => {
                place.seat = other;
                return;
            }
        };
        let name = place.name().to_owned();
        let why = match registers.join() {
            Ok(Ok(member)) => {
                let at = self.instance.host_and_port();
                console.note(&format!("{name}: registered {} at {at}", self.instance.id));
                self.pause.while_out(member.settling().clone());
                (place.seat, place.wrong) = (Seat::Held(Held::Made(member)), None);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("{name}: it has panicked"),
        };
        if place.wrong.as_ref() != Some(&why) {
            console.error(&format!("{why} (it is tried again)"));
        }
        place.wrong = Some(why);
    }

    /// Those where it is, or is about to be, for whoever is to leave them. Where somebody outside has had it leave it is not any more.
    pub(super) fn take_members(&mut self) -> Vec<(String, Held)> {
        let mut members = Vec::new();
        self.pause.left();
        for place in &mut self.all {
            if let Seat::Held(held) = std::mem::replace(&mut place.seat, Seat::Empty(Instant::now()))
                && !held.is_out()
            {
                members.push((place.name().to_owned(), held));
            }
        }
        members
    }
}

/// The address by which the first registry on another machine is reached, for its consumers reach us by that, too; else the loopback
/// interface's.
pub(super) fn our_address(urls: &[String]) -> String {
    let address = urls.iter().flat_map(|url| servers(url)).find_map(|server| {
        // Any port does: connecting a datagram socket sends nothing (udp(7)).
        let socket = UdpSocket::bind("0.0.0.0:0").and_then(|v4| v4.connect(&server).map(|()| v4));
        let socket =
            socket.or_else(|_| UdpSocket::bind("[::]:0").and_then(|v6| v6.connect(&server).map(|()| v6)));
        Some(socket.ok()?.local_addr().ok()?.ip())
    });
    address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string()
}
