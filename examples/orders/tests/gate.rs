//! Two instances behind a real gateway, which finds them in a real registry: one of them ends, and no client notices.

#[path = "../../../xtask/skip.rs"]
mod skip;

use std::path::Path;
use std::time::Duration;

use gracefully_servers::gate::{End, Gate, Pair};
use gracefully_servers::service::Service;

const ORDERS: &str = env!("CARGO_BIN_EXE_orders");

/// Makes each of these a test for each pair.
macro_rules! pairs {
    ($($name:ident $pair:expr;)*) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn whoever_leaves_first_loses_nobody() {
                    open_or_skip($pair, Duration::ZERO, super::whoever_leaves_first_loses_nobody);
                }

                #[test]
                fn both_are_restarted_one_after_the_other() {
                    open_or_skip($pair, Duration::ZERO, super::both_are_restarted_one_after_the_other);
                }
            }
        )*
    };
}

pairs! {
    etcd_haproxy Pair::EtcdHaproxy;
    zookeeper_haproxy Pair::ZookeeperHaproxy;
    etcd_traefik Pair::EtcdTraefik;
    file_envoy Pair::FileEnvoy;
}

fn open_or_skip(pair: Pair, delay: Duration, test: impl Fn(&Gate)) {
    match Gate::open(pair, delay) {
        Ok(gate) => test(&gate),
        Err(missing) => skip::skip(std::thread::current().name().unwrap_or_default(), &missing.to_string()),
    }
}

fn whoever_leaves_first_loses_nobody(gate: &Gate) {
    for _ in 0..2 {
        let seen = End::Gracefully.show(gate, Path::new(ORDERS));
        assert!(seen.failed() == 0 && seen.quick.answered > 500, "{seen:?}");
        // The slow ones take two seconds, most of which were left.
        assert!(seen.ended < Duration::from_secs(4), "{seen:?}");
    }
}

fn both_are_restarted_one_after_the_other(gate: &Gate) {
    let tally = gate.both_are_restarted(&Service::registered(Path::new(ORDERS), &gate.url));
    assert!(tally.failed() + tally.raced == 0 && tally.answered > 1_000, "{tally}");
}

#[test]
fn the_gate_sees_whoever_does_not_leave() {
    open_or_skip(Pair::EtcdHaproxy, Duration::ZERO, |gate| {
        let killed = End::Killed.show(gate, Path::new(ORDERS));
        assert!(killed.quick.failed() > 10 && killed.slow_lost > 0, "{killed:?}");
        let closed = End::Closed.show(gate, Path::new(ORDERS));
        assert!(closed.failed() > 10 && closed.slow_lost == 0, "{closed:?}");
    });
}

#[test]
fn the_gate_sees_whoever_does_not_settle() {
    open_or_skip(Pair::EtcdHaproxy, End::Unsettled.delay(), |gate| {
        let unsettled = End::Unsettled.show(gate, Path::new(ORDERS));
        assert!(unsettled.failed() > 0, "{unsettled:?}");
        // The gateway is as late as before.
        let settled = End::Gracefully.show(gate, Path::new(ORDERS));
        assert_eq!(settled.failed(), 0, "{settled:?}");
    });
}
