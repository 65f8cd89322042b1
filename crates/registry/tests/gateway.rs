//! Gateways that are told from outside, on the real ones.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../../xtask/skip.rs"]
mod skip;

use std::process::Command;
use std::time::{Duration, Instant};

use gracefully_registry::gateway::{Gateway, Serving, open};
use gracefully_registry::{Deadline, Instance};
use gracefully_servers::consul::Consul;
use gracefully_servers::etcd::Etcd;
use gracefully_servers::eureka::Eureka;
use gracefully_servers::haproxy::Haproxy;
use gracefully_servers::nacos::Nacos;
use gracefully_servers::zookeeper::ZooKeeper;
use gracefully_servers::{Fault, Missing, Proxy, free};
use serde_json::{Value, json};

/// HAProxy's bits.
const MAINTENANCE: u32 = 1;
const DRAIN: u32 = 8;

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(5))
}

fn or_skip<T>(server: Result<T, Missing>, test: impl FnOnce(&T)) {
    match server {
        Ok(server) => test(&server),
        Err(missing) => skip::skip(std::thread::current().name().unwrap_or_default(), &missing.to_string()),
    }
}

fn haproxy(test: impl FnOnce(&Haproxy)) {
    or_skip(Haproxy::start(), test);
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
        gateway.undrain(Serving::TheSame, soon()).unwrap();
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
            gateway.undrain(Serving::TheSame, soon()).unwrap();
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
        gateway.undrain(Serving::TheSame, soon()).unwrap();
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
    let nacos = [Nacos::start(), Nacos::start_v1()];
    let urls = [format!("consul://{}", consul.at()), format!("eureka://{}", eureka.at())];
    for url in urls.into_iter().chain(nacos.iter().map(|nacos| format!("nacos://{}", nacos.at()))) {
        let mut theirs = gracefully_registry::open(&url).unwrap();
        let instance = Instance { id: "127.0.0.1:8080".into(), ..Instance::new("web", "127.0.0.1", 8080) };
        theirs.register(&instance, soon()).unwrap();
        for back in [Serving::TheSame, Serving::ANewOne] {
            let mut gateway = open(&format!("{url}?service=web&id={}", instance.id)).unwrap();
            gateway.check(soon()).unwrap();
            gateway.drain("a stop", soon()).unwrap();
            theirs.keep_alive(soon()).unwrap();
            assert!(gateway.is_idle(soon()).unwrap() && !theirs.is_visible(soon()).unwrap(), "{url}");
            gateway.undrain(back, soon()).unwrap();
            assert!(theirs.is_visible(soon()).unwrap(), "{url}");
        }
        // It has died, and whoever comes after it is found.
        let mut gateway = open(&format!("{url}?service=web&id={}", instance.id)).unwrap();
        gateway.drain("a stop", soon()).unwrap();
        gateway.forget(soon()).unwrap();
        assert!(!theirs.is_visible(soon()).unwrap(), "{url}");
        theirs.register(&instance, soon()).unwrap();
        theirs.keep_alive(soon()).unwrap();
        assert!(theirs.is_visible(soon()).unwrap(), "{url}");
    }
}

#[test]
fn what_an_instance_has_said_of_itself_stays_when_nacos_hides_it() {
    for nacos in [Nacos::start(), Nacos::start_v1()] {
        let curl = |path: &str| {
            let url = format!("http://{}/nacos/v1/ns/instance{path}", nacos.at());
            let method = if path.starts_with("/list") { "GET" } else { "POST" };
            let said = Command::new("curl").args(["-sS", "-X", method, &url]).output().unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        let metadata = "%7B%22zone%22%3A%22a%22%7D";
        curl(&format!("?serviceName=web&ip=127.0.0.1&port=8080&weight=3&metadata={metadata}"));
        let shown = || {
            let list: Value = serde_json::from_str(&curl("/list?serviceName=web")).unwrap();
            let [host] = list["hosts"].as_array().unwrap().as_slice() else { return None };
            Some((host["weight"].as_f64().unwrap(), host["metadata"].clone()))
        };
        let before = Some((3.0, json!({ "zone": "a" })));
        assert_eq!(shown(), before);
        let mut gateway = open(&format!("nacos://{}?service=web&id=127.0.0.1:8080", nacos.at())).unwrap();
        gateway.drain("a stop", soon()).unwrap();
        assert_eq!(shown(), None);
        gateway.undrain(Serving::TheSame, soon()).unwrap();
        assert_eq!(shown(), before);
    }
}

#[test]
fn a_program_of_the_users_hides_it_or_says_that_it_does_not() {
    for (answer, hides) in [("touch", true), ("exit 3; :", false)] {
        let directory = tempfile::tempdir().unwrap();
        let (program, hidden) = (directory.path().join("registry"), directory.path().join("hidden"));
        let hidden = hidden.display();
        let script = format!(
            "printf '#!/bin/sh\n
case $1 in visible) [ -e {hidden} ] && exit 3; exit 0 ;; drain) {answer} {hidden} ;; undrain) rm {hidden} ;; esac
' > {program} && chmod +x {program}",
            program = program.display()
        );
        // Written by another process: one that forks while we had it open for writing would keep it so (ETXTBSY).
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let mut gateway = open(&format!("exec://{}?service=web&id=a", program.display())).unwrap();
        gateway.check(soon()).unwrap();
        let drained = gateway.drain("a stop", soon());
        assert_eq!(drained.is_ok(), hides, "{drained:?}");
        assert_eq!(gateway.is_idle(soon()).unwrap(), hides);
        gateway.undrain(Serving::TheSame, soon()).unwrap();
        assert!(!gateway.is_idle(soon()).unwrap());
    }
}

#[test]
fn a_key_that_somebody_else_has_put_into_etcd_is_removed_and_put_back_with_its_lease() {
    or_skip(Etcd::start(), |etcd| {
        // As gRPC's resolver has them: only the lease is kept alive.
        let lease = etcd.ctl(&["lease", "grant", "60"]);
        let lease = lease.split_whitespace().nth(1).unwrap();
        let put = || etcd.ctl(&["put", "apps/web/127.0.0.1:8080", "{\"Addr\":1}", "--lease", lease]);
        let get = || etcd.ctl(&["get", "apps/web/127.0.0.1:8080", "-w", "fields"]);
        put();
        let open = || open(&format!("etcd://{}/apps?service=web&id=127.0.0.1:8080", etcd.at())).unwrap();
        let mut gateway = open();
        gateway.check(soon()).unwrap();
        let before = etcd.keys("apps/web/");
        assert_eq!(before.len(), 1);
        let value = |fields: &str| -> Vec<String> {
            let wanted = ["\"Value\"", "\"Lease\""];
            let lines = fields.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
            lines.map(str::to_owned).collect()
        };
        let stood = value(&get());
        assert_eq!(stood.len(), 2, "{}", get());
        gateway.drain("a stop", soon()).unwrap();
        assert!(gateway.is_idle(soon()).unwrap() && etcd.keys("apps/web/").is_empty());
        gateway.undrain(Serving::TheSame, soon()).unwrap();
        assert_eq!((etcd.keys("apps/web/"), value(&get())), (before, stood));

        // A new program puts its own.
        gateway.drain("a stop", soon()).unwrap();
        gateway.undrain(Serving::ANewOne, soon()).unwrap();
        assert!(etcd.keys("apps/web/").is_empty());
        let error = gateway.drain("a stop", soon()).unwrap_err().to_string();
        assert!(error.contains("apps/web/127.0.0.1:8080 is not there"), "{error}");

        // One that puts it again with each heartbeat cannot be removed so.
        put();
        gateway.drain("a stop", soon()).unwrap();
        put();
        let error = gateway.is_idle(soon()).unwrap_err().to_string();
        assert!(error.contains("apps/web/127.0.0.1:8080 was made again by its program"), "{error}");
        // And what is there is not replaced.
        etcd.ctl(&["put", "apps/web/127.0.0.1:8080", "other"]);
        gateway.undrain(Serving::TheSame, soon()).unwrap();
        assert!(get().contains("\"Value\" : \"other\""), "{}", get());

        // Whoever goes on for one of ours that was lost does not know what stood there.
        etcd.ctl(&["del", "apps/web/127.0.0.1:8080"]);
        let mut gateway = open();
        gateway.resume();
        gateway.drain("a stop", soon()).unwrap();
        let error = gateway.undrain(Serving::TheSame, soon()).unwrap_err().to_string();
        assert!(error.contains("what stood at apps/web/127.0.0.1:8080 is not known any more"), "{error}");
    });
}

#[test]
fn a_node_that_somebody_else_has_made_in_zookeeper_is_removed() {
    or_skip(ZooKeeper::start(), |zookeeper| {
        let url = format!("zookeeper://{}", zookeeper.at());
        let mut theirs = gracefully_registry::open(&url).unwrap();
        let instance = Instance { id: "a".into(), ..Instance::new("web", "127.0.0.1", 8080) };
        theirs.register(&instance, soon()).unwrap();
        let sessions = zookeeper.sessions();
        let mut gateway = open(&format!("{url}?service=web&id=a")).unwrap();
        gateway.check(soon()).unwrap();
        gateway.drain("a stop", soon()).unwrap();
        assert!(gateway.is_idle(soon()).unwrap() && !theirs.is_visible(soon()).unwrap());
        gateway.undrain(Serving::ANewOne, soon()).unwrap();
        let error = gateway.drain("a stop", soon()).unwrap_err().to_string();
        assert!(error.contains("/services/web/a is not there"), "{error}");
        // Theirs comes back.
        theirs.register(&instance, soon()).unwrap();
        gateway.drain("a stop", soon()).unwrap();
        let error = gateway.undrain(Serving::TheSame, soon()).unwrap_err().to_string();
        assert!(error.contains("only the program itself can make /services/web/a again"), "{error}");
        assert_eq!(zookeeper.sessions(), sessions, "ours are closed");
    });
}

#[test]
fn a_url_that_names_no_instance_is_refused() {
    for (url, why) in [
        ("consul://localhost?id=a", "service=NAME and id=ID say which"),
        ("eureka://localhost?service=a", "service=NAME and id=ID say which"),
        ("etcd://localhost?service=a", "service=NAME and id=ID say which"),
        ("nacos://localhost?service=a&id=b", "its id is the address at which it is registered, ADDRESS:PORT"),
        (
            "file:///tmp?service=a&id=b",
            "the known ones are haproxy, consul, eureka, nacos, etcd, zookeeper, exec",
        ),
    ] {
        assert!(open(url).unwrap_err().to_string().contains(why), "{url}: {:?}", open(url));
    }
}
