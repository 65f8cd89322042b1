//! What only ZooKeeper does; what it has in common with others is in `conformance`.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../../xtask/skip.rs"]
mod skip;

use std::sync::mpsc::channel;
use std::time::Duration;

use gracefully_registry::{Alive, Deadline, Instance, Left, Membership, Registry, open};
use gracefully_servers::zookeeper::ZooKeeper;
use gracefully_servers::{Fault, Proxy};

/// With a ZooKeeper, if there is one.
fn with(test: &str, run: impl FnOnce(&ZooKeeper)) {
    match ZooKeeper::start() {
        Ok(zookeeper) => run(&zookeeper),
        Err(missing) => skip::skip(test, &missing.to_string()),
    }
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(5))
}

/// Longer than a test takes.
fn opened(at: &str) -> Box<dyn Registry> {
    open(&format!("zookeeper://{at}/apps?ttl=10")).unwrap()
}

fn instance(port: u16) -> Instance {
    let mut instance = Instance::new("web", "127.0.0.1", port);
    instance.id = "a".into();
    instance
}

#[test]
fn what_it_writes_is_curators() {
    with("what_it_writes_is_curators", |zookeeper| {
        let mut registry = opened(&zookeeper.at().to_string());
        registry.register(&instance(8080), soon()).unwrap();
        let data = zookeeper.ctl(&["get /apps/web/a"]).join("");
        assert!(
            data.starts_with("{\"name\":\"web\",\"id\":\"a\",\"address\":\"127.0.0.1\",\"port\":8080,"),
            "{data}"
        );
        assert!(data.ends_with("\"serviceType\":\"DYNAMIC\",\"uriSpec\":null,\"enabled\":true}"), "{data}");
        // The same again is not even a change, and another is one.
        registry.register(&instance(8080), soon()).unwrap();
        assert_eq!(zookeeper.ctl(&["get /apps/web/a"]).join(""), data);
        registry.register(&instance(8081), soon()).unwrap();
        let stat = zookeeper.ctl(&["stat /apps/web/a"]).join("\n");
        assert!(stat.contains("dataVersion = 1"), "{stat}");
    });
}

#[test]
fn a_node_that_somebody_removes_is_lost() {
    with("a_node_that_somebody_removes_is_lost", |zookeeper| {
        let mut registry = opened(&zookeeper.at().to_string());
        registry.register(&instance(8080), soon()).unwrap();
        zookeeper.ctl(&["delete /apps/web/a"]);
        assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Lost);
        assert_eq!(zookeeper.nodes("/apps/web"), ["/apps/web"]);
        registry.register(&instance(8080), soon()).unwrap();
        assert_eq!(zookeeper.nodes("/apps/web"), ["/apps/web", "/apps/web/a"]);
    });
}

#[test]
fn whoever_registers_last_has_the_name_and_the_other_does_not_take_it_out() {
    with("whoever_registers_last_has_the_name_and_the_other_does_not_take_it_out", |zookeeper| {
        let (mut old, mut new) = (opened(&zookeeper.at().to_string()), opened(&zookeeper.at().to_string()));
        old.register(&instance(8080), soon()).unwrap();
        new.register(&instance(8081), soon()).unwrap();
        assert_eq!(old.keep_alive(soon()).unwrap(), Alive::Lost);
        assert_eq!(old.deregister(soon()).unwrap(), Left::Before);
        assert!(!old.is_visible(soon()).unwrap());
        assert_eq!(new.keep_alive(soon()).unwrap(), Alive::Yes);
        assert_eq!(new.deregister(soon()).unwrap(), Left::Now);
        assert_eq!(zookeeper.nodes("/apps/web"), ["/apps/web"]);
    });
}

#[test]
fn it_needs_no_rights_above_what_it_makes() {
    with("it_needs_no_rights_above_what_it_makes", |zookeeper| {
        zookeeper.ctl(&[
            "create /theirs",
            "create /theirs/ours",
            "setAcl /theirs world:anyone:r",
            "setAcl / world:anyone:r",
        ]);
        let open_at = |base: &str| open(&format!("zookeeper://{}{base}?ttl=10", zookeeper.at())).unwrap();
        open_at("/theirs/ours/more").register(&instance(8080), soon()).unwrap();
        let made = ["/theirs/ours/more", "/theirs/ours/more/web", "/theirs/ours/more/web/a"];
        assert_eq!(zookeeper.nodes("/theirs/ours/more"), made);
        let why = open_at("/theirs/no").register(&instance(8080), soon()).unwrap_err().to_string();
        assert!(why.contains(" refuses: not authorized; set ZOOKEEPER_AUTH"), "{why}");
    });
}

#[test]
fn heartbeats_are_all_that_a_session_needs() {
    with("heartbeats_are_all_that_a_session_needs", |zookeeper| {
        let registry = open(&format!("zookeeper://{}/apps?ttl=3", zookeeper.at())).unwrap();
        let (tell, told) = channel();
        let news = move |news: &str| tell.send(news.to_owned()).unwrap();
        let member = Membership::join(registry, instance(8080), news).unwrap();
        // Nothing happens for longer than a session lasts of which nothing is heard.
        assert!(told.recv_timeout(Duration::from_secs(5)).is_err(), "it was registered once");
        let leave = member.leave(soon());
        assert!(matches!(leave.left, Ok(Left::Now)) && leave.is_gone(), "{leave:?}");
    });
}

#[test]
fn whoever_has_left_has_no_session() {
    with("whoever_has_left_has_no_session", |zookeeper| {
        let before = zookeeper.sessions();
        let mut registry = opened(&zookeeper.at().to_string());
        registry.register(&instance(8080), soon()).unwrap();
        assert_eq!(zookeeper.sessions(), before + 1);
        registry.deregister(soon()).unwrap();
        assert_eq!(zookeeper.sessions(), before);
        assert!(!registry.is_visible(soon()).unwrap());
        assert_eq!(registry.deregister(soon()).unwrap(), Left::Before);
        assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Lost);
        assert_eq!(zookeeper.sessions(), before);
    });
}

#[test]
fn it_goes_on_with_its_session_at_another_server() {
    with("it_goes_on_with_its_session_at_another_server", |zookeeper| {
        let (one, two) = (Proxy::before(zookeeper.at()), Proxy::before(zookeeper.at()));
        let mut registry = opened(&format!("{},{}", one.at(), two.at()));
        registry.register(&instance(8080), soon()).unwrap();
        let sessions = zookeeper.sessions();
        for (fails, fault) in [(&one, Fault::Closed), (&two, Fault::Silent), (&one, Fault::Garbage)] {
            fails.set(fault);
            let alive = registry.keep_alive(Deadline::within(Duration::from_secs(4))).unwrap();
            assert_eq!(alive, Alive::Yes, "{fault:?}");
            fails.set(Fault::None);
        }
        assert_eq!(zookeeper.sessions(), sessions);
        one.set(Fault::Silent);
        assert_eq!(registry.deregister(soon()).unwrap(), Left::Now);
    });
}
