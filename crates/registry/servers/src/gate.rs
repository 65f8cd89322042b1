//! The proof: a registry, a gateway that repeats nothing, two instances of a service behind it, clients, and one of the instances ends.
//!
//! Sixteen clients keep their connections and ask as fast as they are answered; six requests that take two seconds are under way when the
//! end begins. Whatever a client does not get is counted.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_load::{Client, Load, Outcome, Tally};
use gracefully_registry::Deadline;

use crate::bridge::Bridge;
use crate::envoy::Envoy;
use crate::etcd::Etcd;
use crate::haproxy::Haproxy;
use crate::service::{Instance, SERVICE, Service};
use crate::traefik::Traefik;
use crate::zookeeper::ZooKeeper;
use crate::{Missing, eventually};

/// What sends requests to whoever it was told of.
pub trait Gateway: Debug + Send + Sync {
    /// Where clients reach it.
    fn at(&self) -> SocketAddr;

    /// Does it send new requests to this instance?
    fn sends_to(&self, instance: SocketAddr) -> bool;

    /// How many requests it has sent there, if it tells.
    fn requests(&self, instance: SocketAddr) -> Option<u64>;
}

/// A registry, and a gateway that hears of it.
#[derive(Debug)]
pub struct Gate {
    /// What the gateway is.
    pub gateway: Box<dyn Gateway>,
    /// Where instances register.
    pub url: String,
    /// It runs as long as this lives.
    _registry: Box<dyn Running>,
}

/// Whatever ends when it is dropped.
trait Running: Debug + Send {}

impl<T: Debug + Send> Running for T {}

/// Who hears of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// A bridge watches etcd and tells HAProxy over its runtime API.
    EtcdHaproxy,
    /// The same with ZooKeeper.
    ZookeeperHaproxy,
    /// Traefik reads etcd.
    EtcdTraefik,
    /// Envoy reads a file.
    FileEnvoy,
}

impl Pair {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::EtcdHaproxy, Self::ZookeeperHaproxy, Self::EtcdTraefik, Self::FileEnvoy];

    /// For a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::EtcdHaproxy => "etcd, HAProxy",
            Self::ZookeeperHaproxy => "ZooKeeper, HAProxy",
            Self::EtcdTraefik => "etcd, Traefik",
            Self::FileEnvoy => "file, Envoy",
        }
    }
}

impl Gate {
    /// Starts both. What stands between them is so much late.
    ///
    /// # Errors
    /// If one of them is not installed.
    ///
    /// # Panics
    /// If one of them does not start.
    pub fn open(pair: Pair, delay: Duration) -> Result<Self, Missing> {
        match pair {
            Pair::EtcdHaproxy => {
                let etcd = Etcd::start()?;
                let bridge = Bridge::new(Haproxy::start()?, delay);
                etcd.watch("services/", bridge.carry_out());
                Ok(Self::new(bridge, format!("etcd://{}", etcd.at()), etcd))
            }
            Pair::ZookeeperHaproxy => {
                let zookeeper = ZooKeeper::start()?;
                let bridge = Bridge::new(Haproxy::start()?, delay);
                zookeeper.watch(&format!("/services/{SERVICE}"), bridge.carry_out());
                Ok(Self::new(bridge, format!("zookeeper://{}", zookeeper.at()), zookeeper))
            }
            Pair::EtcdTraefik => {
                let etcd = Etcd::start()?;
                let traefik = Traefik::start(&etcd)?;
                Ok(Self::new(traefik, format!("etcd://{}?layout=traefik", etcd.at()), etcd))
            }
            Pair::FileEnvoy => {
                let envoy = Envoy::start()?;
                let url = format!("file://{}?layout=envoy", envoy.services().display());
                Ok(Self::new(envoy, url, ()))
            }
        }
    }

    fn new(gateway: impl Gateway + 'static, url: String, registry: impl Debug + Send + 'static) -> Self {
        Self { gateway: Box::new(gateway), url, _registry: Box::new(registry) }
    }

    /// Two instances, and the first one gets this signal while clients ask. Afterwards nobody is there.
    ///
    /// # Panics
    /// If something does not happen that has to happen.
    pub fn one_of_two_ends(&self, service: &Service, signal: Signal) -> Seen {
        let [mut one, mut two] = [service.start(), service.start()];
        for instance in [&one, &two] {
            self.knows(instance);
        }
        let seen = self.end(&mut one, signal);
        two.stop();
        eventually("both have left", || {
            let have_left = [&one, &two].iter().all(|instance| !self.gateway.sends_to(instance.at()));
            have_left.then_some(())
        });
        seen
    }

    /// Two instances are restarted, one after the other, while clients ask.
    ///
    /// # Panics
    /// If something does not happen that has to happen.
    pub fn both_are_restarted(&self, service: &Service) -> Tally {
        let mut instances = [service.start(), service.start()];
        for instance in &instances {
            self.knows(instance);
        }
        let clients = self.load();
        for instance in &mut instances {
            Deadline::within(BEFORE).wait();
            instance.stop();
            *instance = service.start_at(instance.at());
            self.knows(instance);
        }
        Deadline::within(AFTER).wait();
        let tally = clients.stop();
        for instance in &mut instances {
            instance.stop();
        }
        tally
    }

    /// Waits until the gateway sends requests to it.
    fn knows(&self, instance: &Instance) {
        eventually("the gateway knows it", || self.gateway.sends_to(instance.at()).then_some(()));
    }

    /// Sixteen clients that keep their connections.
    fn load(&self) -> gracefully_load::Running {
        Load { keep_alive: true, ..Load::new(self.gateway.at(), 16) }.start()
    }

    fn end(&self, instance: &mut Instance, signal: Signal) -> Seen {
        let clients = self.load();
        Deadline::within(BEFORE).wait();
        let slow = ask_slowly(self.gateway.at());
        Deadline::within(SLOW_BEFORE).wait();
        let began = Instant::now();
        instance.signal(signal);
        let mut requests = self.gateway.requests(instance.at());
        let mut last_request = requests.map(|_| Duration::ZERO);
        while !instance.has_ended() {
            let now = self.gateway.requests(instance.at());
            if now.is_some() && now != requests {
                (requests, last_request) = (now, Some(began.elapsed()));
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
            park_timeout(Duration::from_millis(1));
        }
        let ended = began.elapsed();
        let slow_lost =
            slow.into_iter().map(|asked| asked.join().expect("no panic")).filter(|ok| !ok).count();
        Deadline::within(AFTER).wait();
        let quick = clients.stop();
        Seen { quick, slow: SLOW, slow_lost: slow_lost as u64, last_request, ended }
    }
}

/// The ways in which an instance may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As the library does it.
    Gracefully,
    /// It is killed, and nobody takes its registration out.
    Killed,
    /// It finishes what is under way, and nobody takes its registration out.
    Closed,
    /// It leaves, and closes without waiting until the gateway has heard of it, which is 300 ms late.
    Unsettled,
}

impl End {
    /// How late what stands before the gateway is.
    pub fn delay(self) -> Duration {
        Duration::from_millis(if self == Self::Unsettled { 300 } else { 0 })
    }

    /// One of two instances of this program ends so.
    ///
    /// # Panics
    /// If something does not happen that has to happen.
    pub fn show(self, gate: &Gate, orders: &Path) -> Seen {
        let service = Service::registered(orders, &gate.url);
        let unsettled = || service.clone().set("GRACEFULLY_SETTLE", "0");
        match self {
            Self::Gracefully => gate.one_of_two_ends(&service, Signal::TERM),
            Self::Unsettled => gate.one_of_two_ends(&unsettled(), Signal::TERM),
            Self::Killed => gate.one_of_two_ends(&service, Signal::KILL),
            Self::Closed => gate.one_of_two_ends(&unsettled().held_by_another(), Signal::TERM),
        }
    }
}

/// What clients have seen of one end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// What happened to quick requests.
    pub quick: Tally,
    /// Slow requests that were asked.
    pub slow: u64,
    /// Of these, how many were lost.
    pub slow_lost: u64,
    /// From the signal until the last new request was sent to the instance, if the gateway tells.
    pub last_request: Option<Duration>,
    /// From the signal until it had ended.
    pub ended: Duration,
}

impl Seen {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.quick.requests() + self.slow
    }

    /// Those that were not answered, also such as a client may ask again.
    pub fn failed(&self) -> u64 {
        self.quick.failed() + self.quick.raced + self.slow_lost
    }
}

/// How long clients ask before the end begins, and after it is over.
const BEFORE: Duration = Duration::from_millis(400);
const AFTER: Duration = Duration::from_millis(300);

/// Slow requests are under way so long before the end begins.
const SLOW_BEFORE: Duration = Duration::from_millis(200);
const SLOW: u64 = 6;

fn ask_slowly(gateway: SocketAddr) -> Vec<JoinHandle<bool>> {
    let ask = move || Client::new(gateway, false).ask("/slow/2000").0 == Outcome::Answered;
    (0..SLOW).map(|_| thread::spawn(ask)).collect()
}
