//! Two instances behind a real gateway, which finds them in a real registry: one of them ends, and no client notices.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../../xtask/skip.rs"]
mod skip;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gracefully_core::signal::Signal;
use gracefully_servers::Missing;
use gracefully_servers::bridge::{Bridge, Change};
use gracefully_servers::etcd::Etcd;
use gracefully_servers::gate::{self, Gateway as _, Instance, Seen, Service, wait_until};
use gracefully_servers::haproxy::Haproxy;

const ORDERS: &str = env!("CARGO_BIN_EXE_orders");

/// etcd and HAProxy, with a bridge in between that is so much late.
struct Gate {
    etcd: Etcd,
    gateway: Arc<Haproxy>,
    bridge: Bridge<Haproxy>,
}

impl Gate {
    fn open(delay: Duration) -> Result<Self, Missing> {
        let (etcd, gateway) = (Etcd::start()?, Arc::new(Haproxy::start()?));
        let bridge = Bridge::new(Arc::clone(&gateway), delay);
        let told = bridge.clone();
        etcd.watch("services/", move |change| told.apply(change));
        Ok(Self { etcd, gateway, bridge })
    }

    fn url(&self) -> String {
        format!("etcd://{}", self.etcd.at())
    }

    /// Its place, as soon as the gateway knows it.
    #[track_caller]
    fn place(&self, instance: &Instance) -> usize {
        wait_until("the gateway knows it", || self.bridge.place(instance.at()).is_some());
        self.bridge.place(instance.at()).unwrap()
    }

    /// Starts two instances; the first one ends. Afterwards nobody is there.
    #[track_caller]
    fn one_of_two_ends(&self, service: &Service, signal: Signal) -> Seen {
        let (mut one, mut two) = (service.start(), service.start());
        let put_in: Vec<String> = match service.registry {
            Some(_) => Vec::new(),
            // Somebody has put them in, and does not hear of an end.
            None => [&one, &two].map(|instance| instance.at().to_string()).into(),
        };
        for at in &put_in {
            self.bridge.apply(Change::Put(at.clone(), at.parse().unwrap()));
        }
        let place = self.place(&one);
        self.place(&two);
        let seen = gate::end(self.gateway.as_ref(), &mut one, place, signal);
        two.stop();
        for at in put_in {
            self.bridge.apply(Change::Gone(at));
        }
        wait_until("both have left", || self.bridge.is_empty());
        seen
    }
}

/// The gate, or the test is skipped.
macro_rules! or_skip {
    ($gate:expr) => {
        match $gate {
            Ok(gate) => gate,
            Err(missing) => {
                return skip::skip(std::thread::current().name().unwrap_or_default(), &missing.to_string())
            }
        }
    };
}

#[test]
fn whoever_leaves_first_loses_nobody() {
    let gate = or_skip!(Gate::open(Duration::ZERO));
    let service = Service::registered(Path::new(ORDERS), gate.url());
    for _ in 0..3 {
        let seen = gate.one_of_two_ends(&service, Signal::TERM);
        assert!(seen.failed() == 0 && seen.quick.answered > 500, "{seen:?}");
        // The slow ones take two seconds, most of which were left.
        assert!(seen.ended < Duration::from_secs(4), "{seen:?}");
    }
}

#[test]
fn the_gate_sees_whoever_does_not() {
    let gate = or_skip!(Gate::open(Duration::ZERO));
    let unknown = Service { registry: None, ..Service::registered(Path::new(ORDERS), String::new()) };
    let killed = gate.one_of_two_ends(&unknown, Signal::KILL);
    assert!(killed.quick.failed() > 10 && killed.slow_lost > 0, "{killed:?}");
    let without_settling = vec![("GRACEFULLY_SETTLE", "0".to_owned())];
    let closed =
        gate.one_of_two_ends(&Service { environment: without_settling.clone(), ..unknown }, Signal::TERM);
    assert!(closed.failed() > 10 && closed.slow_lost == 0, "{closed:?}");

    // It leaves, and does not wait until the gateway has heard of it.
    let late = or_skip!(Gate::open(Duration::from_millis(300)));
    let registered =
        Service { environment: without_settling, ..Service::registered(Path::new(ORDERS), late.url()) };
    let unsettled = late.one_of_two_ends(&registered, Signal::TERM);
    assert!(unsettled.failed() > 0, "{unsettled:?}");
    // And what settling is worth.
    let settled = late.one_of_two_ends(&Service { environment: Vec::new(), ..registered }, Signal::TERM);
    assert_eq!(settled.failed(), 0, "{settled:?}");
}

#[test]
fn both_are_restarted_one_after_the_other() {
    let gate = or_skip!(Gate::open(Duration::ZERO));
    let service = Service::registered(Path::new(ORDERS), gate.url());
    let mut instances = [service.start(), service.start()];
    for instance in &instances {
        gate.place(instance);
    }
    let clients = gate::load(gate.gateway.as_ref());
    for instance in &mut instances {
        let place = gate.place(instance);
        let before = gate.gateway.requests(place);
        wait_until("it is asked", || gate.gateway.requests(place) > before + 100);
        instance.stop();
        assert_eq!(gate.bridge.place(instance.at()), None);
        *instance = service.start_at(instance.at());
        gate.place(instance);
    }
    let tally = clients.stop();
    assert!(tally.failed() + tally.raced == 0 && tally.answered > 1_000, "{tally}");
}
