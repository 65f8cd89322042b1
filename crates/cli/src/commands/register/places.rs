//! The registries of one instance.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use gracefully_registry::{Hints, Instance, Membership, open};

use crate::display::Console;

/// All of them, entered or not.
#[derive(Debug)]
pub(super) struct Places {
    instance: Instance,
    all: Vec<Place>,
    hints: Hints,
}

#[derive(Debug)]
struct Place {
    url: String,
    member: Option<Membership>,
    /// What went wrong last, so that it is said once.
    wrong: Option<String>,
}

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
        let all = urls.iter().map(|url| Place { url: url.clone(), member: None, wrong: None }).collect();
        Ok(Self { instance, all, hints })
    }

    /// What is registered.
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The instance's id.
    pub(super) fn id(&self) -> &str {
        &self.instance.id
    }

    /// What the slowest of them knows about time.
    pub(super) fn hints(&self) -> Hints {
        self.hints
    }

    /// Is the instance in all of them?
    pub(super) fn is_everywhere(&self) -> bool {
        self.all.iter().all(|place| place.member.is_some())
    }

    /// Registers it where it is not, and says what comes of it.
    pub(super) fn enter(&mut self, console: &Console) {
        for place in self.all.iter_mut().filter(|place| place.member.is_none()) {
            let name = place.name().to_owned();
            let say = name.clone();
            // The heartbeat's thread has no console, and what it says is rare.
            let tell = move |news: &str| {
                use std::io::Write as _;
                let _ = writeln!(std::io::stderr(), "{say}: {news}");
            };
            let joined =
                open(&place.url).and_then(|registry| Membership::join(registry, self.instance.clone(), tell));
            match joined {
                Ok(member) => {
                    let at = self.instance.host_and_port();
                    console.note(&format!("{name}: registered {} at {at}", self.instance.id));
                    (place.member, place.wrong) = (Some(member), None);
                }
                Err(error) => {
                    let why = error.to_string();
                    if place.wrong.as_ref() != Some(&why) {
                        console.error(&format!("{why} (it is tried again)"));
                    }
                    place.wrong = Some(why);
                }
            }
        }
    }

    /// Those where it is, for whoever is to leave them.
    pub(super) fn take_members(&mut self) -> Vec<(String, Membership)> {
        let all = self.all.iter_mut();
        all.filter_map(|place| Some((place.name().to_owned(), place.member.take()?))).collect()
    }
}

/// The address by which the first registry on another machine is reached, for its consumers reach us by that, too; else the loopback
/// interface's.
pub(super) fn our_address(urls: &[String]) -> String {
    let address = urls.iter().find_map(|url| {
        let authority =
            url.split_once("://")?.1.split(['/', '?', ',']).next().filter(|host| !host.is_empty())?;
        let server = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            authority.to_owned()
        } else {
            // Any port does: connecting a datagram socket sends nothing (udp(7)).
            format!("{authority}:9")
        };
        let socket = UdpSocket::bind("0.0.0.0:0").and_then(|v4| v4.connect(&server).map(|()| v4));
        let socket =
            socket.or_else(|_| UdpSocket::bind("[::]:0").and_then(|v6| v6.connect(&server).map(|()| v6)));
        Some(socket.ok()?.local_addr().ok()?.ip())
    });
    address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string()
}
