//! Gateways that are told from outside, on the real ones.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../../xtask/skip.rs"]
mod skip;

use std::time::{Duration, Instant};

use gracefully_registry::gateway::{Gateway, open};
use gracefully_registry::{Deadline, Instance};
use gracefully_servers::consul::Consul;
use gracefully_servers::eureka::Eureka;
use gracefully_servers::haproxy::Haproxy;
use gracefully_servers::{Fault, Proxy, free};

/// HAProxy's bits.
const MAINTENANCE: u32 = 1;
const DRAIN: u32 = 8;

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(5))
}

fn haproxy(test: impl FnOnce(&Haproxy)) {
    match Haproxy::start() {
        Ok(haproxy) => test(&haproxy),
        Err(missing) => skip::skip(std::thread::current().name().unwrap_or_default(), &missing.to_string()),
    }
}

fn server(haproxy: &Haproxy, server: &str) -> Box<dyn Gateway> {
    open(&format!("haproxy://{}?server={server}", haproxy.socket().display())).unwrap()
}

#[test]
fn haproxy_sends_no_more_and_then_again() {
    haproxy(|haproxy| {
        haproxy.put(1, free());
        let mut gateway = server(haproxy, "web/s1");
        gateway.check(soon()).unwrap();
        gateway.drain("test", soon()).unwrap();
        assert_eq!(haproxy.state(1), DRAIN);
        assert!(gateway.is_idle(soon()).unwrap());
        gateway.undrain(soon()).unwrap();
        assert_eq!(haproxy.state(1), 0);
    });
}

#[test]
fn what_others_have_told_haproxy_stays() {
    haproxy(|haproxy| {
        for (state, shown) in [("drain", DRAIN), ("maint", MAINTENANCE)] {
            haproxy.put(1, free());
            haproxy.ask(&format!("set server web/s1 state {state}"));
            let mut gateway = server(haproxy, "web/s1");
            gateway.drain("test", soon()).unwrap();
            gateway.undrain(soon()).unwrap();
            assert_eq!(haproxy.state(1), shown);
        }
    });
}

#[test]
fn what_a_lost_one_of_ours_has_told_haproxy_is_undone() {
    haproxy(|haproxy| {
        haproxy.put(1, free());
        server(haproxy, "web/s1").drain("test", soon()).unwrap();
        let mut gateway = server(haproxy, "web/s1");
        gateway.resume();
        gateway.drain("test", soon()).unwrap();
        gateway.undrain(soon()).unwrap();
        assert_eq!(haproxy.state(1), 0);
    });
}

#[test]
fn what_haproxy_does_not_know_is_named() {
    haproxy(|haproxy| {
        for (name, why) in [("web/s99", "there is no server \"s99\""), ("api/s1", "Can't find backend")] {
            let error = server(haproxy, name).check(soon()).unwrap_err().to_string();
            assert!(error.starts_with("haproxy:///") && error.contains(why), "{error}");
        }
    });
    let error =
        open("haproxy:///no/such/socket?server=web/s1").unwrap().check(soon()).unwrap_err().to_string();
    assert_eq!(error, "haproxy:///no/such/socket: No such file or directory (os error 2)");
}

#[test]
fn a_gateway_that_does_not_answer_keeps_nobody() {
    let nobody = Proxy::before(free());
    nobody.set(Fault::Silent);
    let mut gateway = open(&format!("haproxy://{}?server=web/s1", nobody.at())).unwrap();
    let began = Instant::now();
    let error = gateway.drain("test", Deadline::within(Duration::from_millis(200))).unwrap_err().to_string();
    assert!(error.contains("does not answer in time") && began.elapsed() < Duration::from_secs(5), "{error}");
}

/// What has registered itself is hidden while its own heartbeats go on, and found again.
#[test]
fn who_has_registered_himself_is_hidden() {
    let (consul, eureka) = (Consul::start(), Eureka::start());
    for url in [format!("consul://{}", consul.at()), format!("eureka://{}", eureka.at())] {
        let mut theirs = gracefully_registry::open(&url).unwrap();
        let instance = Instance::new("web", "127.0.0.1", 8080);
        theirs.register(&instance, soon()).unwrap();
        let mut gateway = open(&format!("{url}?service=web&id={}", instance.id)).unwrap();
        gateway.check(soon()).unwrap();
        gateway.drain("a stop", soon()).unwrap();
        theirs.keep_alive(soon()).unwrap();
        assert!(gateway.is_idle(soon()).unwrap() && !theirs.is_visible(soon()).unwrap(), "{url}");
        gateway.undrain(soon()).unwrap();
        assert!(theirs.is_visible(soon()).unwrap(), "{url}");
    }
    for (url, why) in [
        ("consul://localhost?id=a", "service=NAME and id=ID say which"),
        ("eureka://localhost?service=a", "service=NAME and id=ID say which"),
        ("etcd://localhost?service=a&id=b", "the known ones are haproxy, consul, eureka"),
    ] {
        assert!(open(url).unwrap_err().to_string().contains(why), "{url}");
    }
}
