//! The connections of the program during a walk: begun when the sequence first asks for them, ended with the report.

use std::net::IpAddr;
use std::time::Duration;

use gracefully_core::diagnosis::{Code, Finding};
use gracefully_core::traffic::{Connections, Traffic as Seen};
use gracefully_drain::{Drain, Limit, Notice, Published, Target};
use gracefully_engine::{Network, Running};
use gracefully_linux::connections;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long letting everything go may take at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(15);

/// What looks after the connections, if it can.
#[derive(Debug)]
pub(super) struct Traffic {
    state: State,
    /// Somebody waits until nobody comes any more, and wants to hear of it again and again.
    settles: bool,
    notices: mpsc::UnboundedReceiver<Notice>,
    told: mpsc::UnboundedSender<Notice>,
}

#[derive(Debug)]
enum State {
    /// Nobody has asked yet.
    Idle,
    Active(Drain),
    /// There is not one TCP socket where it runs: nobody to wait for, and nothing to do about.
    None,
    /// It cannot be done.
    Hidden,
}

impl Traffic {
    pub(super) fn new(settles: bool) -> Self {
        let (told, notices) = mpsc::unbounded_channel();
        Self { state: State::Idle, settles, notices, told }
    }

    /// Begins to look after the connections of this program, if that has not begun. `None`: it has none, which one
    /// [notice](Self::notice) says.
    ///
    /// Fails once with the reason why it cannot be done, and then with `None`.
    pub(super) fn begin(
        &mut self,
        main: Option<u32>,
        network: Network,
    ) -> Result<Option<&Drain>, Option<Limit>> {
        if let State::Idle = self.state {
            let Some(main) = main else {
                self.state = State::Hidden;
                let message =
                    "Its connections cannot be looked at from here, so nothing waits for them.".to_owned();
                return Err(Some(Limit { message, hint: None }));
            };
            if !self.settles && connections::none_around(main) == Some(true) {
                // A thread, and two walks through all sockets of the machine, for nothing.
                self.state = State::None;
                let _ = self.told.send(Notice::Looked(Seen::default()));
                return Ok(None);
            }
            let told = self.told.clone();
            // Whoever does not listen any more does not hear it.
            match Drain::begin(target(main, network), move |notice| drop(told.send(notice))) {
                Ok(drain) => self.state = State::Active(drain),
                Err(limit) => {
                    self.state = State::Hidden;
                    return Err(Some(limit));
                }
            }
        }
        match &self.state {
            State::Active(drain) => Ok(Some(drain)),
            State::None => Ok(None),
            State::Idle | State::Hidden => Err(None),
        }
    }

    /// They cannot be looked at.
    pub(super) fn hide(&mut self) {
        self.state = State::Hidden;
    }

    /// What looks after the connections, if that has begun.
    pub(super) fn active(&self) -> Option<&Drain> {
        match &self.state {
            State::Active(drain) => Some(drain),
            State::Idle | State::None | State::Hidden => None,
        }
    }

    /// The next thing that was seen.
    pub(super) async fn notice(&mut self) -> Notice {
        match self.notices.recv().await {
            Some(notice) => notice,
            // We hold a sender.
            None => std::future::pending().await,
        }
    }

    /// Lets everything go, and says what became of the connections; `None` if nobody looked.
    pub(super) async fn finish(mut self) -> Option<Connections> {
        if let State::None = self.state {
            return Some(Connections { looks: 1, ..Connections::default() });
        }
        self.active()?.finish();
        let finished = async {
            loop {
                if let Notice::Finished(connections) = self.notice().await {
                    return connections;
                }
            }
        };
        timeout(FINISH_WITHIN, finished).await.ok()
    }
}

/// A program that was started again, as those see it who wait until it listens; `None` if it runs on another host.
pub(super) fn successor(running: &Running) -> Option<Target> {
    Some(target(running.main?, running.network.clone()))
}

/// How the addresses of a program have changed by a restart, if they have: whoever has remembered the old ones does not find it.
pub(super) fn moved(before: &Network, after: &Network) -> Option<Finding> {
    let gone: Vec<&IpAddr> = before.addresses.iter().filter(|ip| !after.addresses.contains(ip)).collect();
    let list = |ips: &[&IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    (!gone.is_empty()).then(|| {
        let now = list(&after.addresses.iter().collect::<Vec<_>>());
        Finding::new(
            Code::Traffic,
            format!(
                "Its address has changed from {} to {now}: connections that waited for the old one fail.",
                list(&gone)
            ),
        )
        .hint("Give the container a fixed address, or let its clients look up its name.")
    })
}

/// A limit as a finding.
pub(super) fn finding(limit: Limit) -> Finding {
    Finding { code: Code::Traffic, message: limit.message, hint: limit.hint }
}

/// A program as those see it who look after its connections.
pub(super) fn target(main: u32, network: Network) -> Target {
    let published = network.published.into_iter();
    Target {
        main,
        published: published.map(|port| Published { outside: port.outside, inside: port.inside }).collect(),
        addresses: network.addresses,
    }
}
