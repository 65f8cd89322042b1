//! What every registry keeps, on the real one or its double: one test for each case and registry.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../../../xtask/skip.rs"]
mod skip;
mod world;

use std::time::{Duration, Instant};

use gracefully_registry::{Alive, Deadline, Gone, Instance, Left, Membership, Registry, open};
use gracefully_servers::{Fault, eventually};

use self::world::World;

/// Makes each case a test for each registry.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        cases!(@ file world::file::start, $($case)*);
        cases!(@ exec world::exec::start, $($case)*);
        cases!(@ etcd world::etcd::start, $($case)*);
        cases!(@ zookeeper world::zookeeper::start, $($case)*);
        cases!(@ consul world::consul::start, $($case)*);
        cases!(@ eureka world::eureka::start, $($case)*);
        cases!(@ nacos world::nacos::start, $($case)*);
        cases!(@ nacos_v1 world::nacos::start_v1, $($case)*);
    };
    (@ $registry:ident $start:expr, $($case:ident)*) => {
        mod $registry {
            use super::*;
            $(
                #[test]
                fn $case() {
                    let name = concat!(stringify!($registry), "::", stringify!($case));
                    match $start() {
                        Ok(world) => super::$case(world.as_ref()),
                        Err(missing) => skip::skip(name, &missing.to_string()),
                    }
                }
            )*
        }
    };
}

cases!(
    registered_it_is_found_once_and_out_it_is_not,
    out_again_is_success,
    a_late_heartbeat_brings_nobody_back,
    two_instances_do_not_know_of_each_other,
    what_has_expired_is_lost_and_comes_back_only_by_registering,
    names_may_be_anything_or_are_refused,
    drained_no_consumer_finds_it_whatever_heartbeats_say,
    nobody_is_registered_before,
    whoever_leaves_is_not_kept_by_a_server_that_fails,
    whoever_cannot_register_hears_why,
    it_lives_by_its_heartbeat_and_without_it_is_gone_in_time,
    a_member_is_registered_again_by_itself,
);

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(5))
}

fn instance(id: &str) -> Instance {
    let mut instance = Instance::new("web", "127.0.0.1", 8080);
    instance.id = id.into();
    instance.metadata.insert("zone".into(), "a".into());
    instance
}

fn opened(world: &dyn World) -> Box<dyn Registry> {
    open(&world.url()).unwrap()
}

fn registered_it_is_found_once_and_out_it_is_not(world: &dyn World) {
    let mut registry = opened(world);
    registry.register(&instance("a"), soon()).unwrap();
    registry.register(&instance("a"), soon()).unwrap();
    assert_eq!(world.finds("web"), ["127.0.0.1:8080"]);
    assert!(registry.is_visible(soon()).unwrap());
    assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Yes);
    assert_eq!(registry.deregister(soon()).unwrap(), Left::Now);
    assert!(!registry.is_visible(soon()).unwrap());
    assert!(world.finds("web").is_empty());
}

fn out_again_is_success(world: &dyn World) {
    let mut registry = opened(world);
    registry.register(&instance("a"), soon()).unwrap();
    assert_eq!(registry.deregister(soon()).unwrap(), Left::Now);
    assert_eq!(registry.deregister(soon()).unwrap(), Left::Before);
}

fn a_late_heartbeat_brings_nobody_back(world: &dyn World) {
    let mut registry = opened(world);
    registry.register(&instance("a"), soon()).unwrap();
    registry.deregister(soon()).unwrap();
    assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Lost);
    assert!(world.finds("web").is_empty());
}

fn two_instances_do_not_know_of_each_other(world: &dyn World) {
    let (mut one, mut two) = (opened(world), opened(world));
    one.register(&instance("one"), soon()).unwrap();
    two.register(&Instance { port: 8081, ..instance("two") }, soon()).unwrap();
    assert_eq!(world.finds("web"), ["127.0.0.1:8080", "127.0.0.1:8081"]);
    one.deregister(soon()).unwrap();
    assert_eq!(world.finds("web"), ["127.0.0.1:8081"]);
    assert!(world.finds("we").is_empty());
}

fn what_has_expired_is_lost_and_comes_back_only_by_registering(world: &dyn World) {
    let mut registry = opened(world);
    registry.register(&instance("a"), soon()).unwrap();
    world.expire();
    assert!(world.finds("web").is_empty());
    assert!(!registry.is_visible(soon()).unwrap());
    assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Lost);
    assert!(world.finds("web").is_empty());
    registry.register(&instance("a"), soon()).unwrap();
    assert_eq!(world.finds("web"), ["127.0.0.1:8080"]);
    world.expire();
    assert_eq!(registry.deregister(soon()).unwrap(), Left::Before);
}

fn names_may_be_anything_or_are_refused(world: &dyn World) {
    for name in ["a/b", "../up", "a:b@c", "ä ö", "%2f", "x'\"`;$(y)", "."] {
        let mut registry = opened(world);
        let mut instance = instance(name);
        instance.service = name.into();
        if !world.takes(name) {
            let why = registry.register(&instance, soon()).unwrap_err().to_string();
            assert!(why.contains(&format!("{name:?}")), "{why}");
            continue;
        }
        registry.register(&instance, soon()).unwrap();
        assert_eq!(world.finds(name), ["127.0.0.1:8080"], "{name}");
        assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Yes, "{name}");
        assert_eq!(registry.deregister(soon()).unwrap(), Left::Now, "{name}");
        assert!(world.finds(name).is_empty(), "{name}");
    }
}

fn drained_no_consumer_finds_it_whatever_heartbeats_say(world: &dyn World) {
    let mut registry = opened(world);
    registry.register(&instance("a"), soon()).unwrap();
    let other = Instance { port: 8081, ..instance("b") };
    opened(world).register(&other, soon()).unwrap();
    if !registry.drain("it's \"späť\" & so on", soon()).unwrap() {
        assert!(!registry.undrain(soon()).unwrap());
        assert_eq!(world.finds("web"), ["127.0.0.1:8080", "127.0.0.1:8081"], "it has done nothing");
        return;
    }
    for _ in 0..2 {
        assert_eq!(world.finds("web"), ["127.0.0.1:8081"]);
        assert!(!registry.is_visible(soon()).unwrap());
        assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Yes);
        // Once is enough, and twice the same.
        assert!(registry.drain("again", soon()).unwrap());
    }
    assert!(registry.undrain(soon()).unwrap());
    assert!(registry.is_visible(soon()).unwrap());
    assert_eq!(world.finds("web"), ["127.0.0.1:8080", "127.0.0.1:8081"]);
    assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Yes);
    assert!(registry.drain("at last", soon()).unwrap());
    assert_eq!(registry.deregister(soon()).unwrap(), Left::Now);
    // There are registries that remember it, and some that do not.
    registry.register(&instance("a"), soon()).unwrap();
    assert!(registry.undrain(soon()).unwrap());
    assert_eq!(world.finds("web"), ["127.0.0.1:8080", "127.0.0.1:8081"]);
    world.expire();
    assert!(registry.drain("gone", soon()).is_err());
}

fn nobody_is_registered_before(world: &dyn World) {
    let mut registry = opened(world);
    for error in [registry.keep_alive(soon()).map(drop), registry.deregister(soon()).map(drop)] {
        assert_eq!(error.unwrap_err().to_string(), "nothing is registered");
    }
}

fn whoever_leaves_is_not_kept_by_a_server_that_fails(world: &dyn World) {
    let Some(proxy) = world.proxy() else { return };
    for fault in [Fault::Silent, Fault::Garbage, Fault::Error, Fault::Closed] {
        proxy.set(Fault::None);
        let member = Membership::join(opened(world), instance("a"), |_| {}).unwrap();
        proxy.set(fault);
        let within = Duration::from_millis(1_500);
        let leave = member.leave(Deadline::within(within));
        assert!(leave.left.is_err() && matches!(leave.gone, Gone::Unknown(_)), "{fault:?}: {leave:?}");
        // Half a second that a heartbeat on its way may take, and what a busy machine does.
        assert!(leave.took < within + Duration::from_secs(1), "{fault:?}: {leave:?}");
        proxy.set(Fault::None);
        world.expire();
    }
}

fn whoever_cannot_register_hears_why(world: &dyn World) {
    let Some(proxy) = world.proxy() else { return };
    for (fault, named) in [
        (Fault::Silent, "does not answer within"),
        (Fault::Garbage, ""),
        (Fault::Error, "out of memory"),
        (Fault::Closed, ""),
    ] {
        proxy.set(fault);
        let began = Instant::now();
        let registered = opened(world).register(&instance("a"), Deadline::within(Duration::from_millis(500)));
        let why = registered.unwrap_err().to_string();
        let named = if world.speaks_http() { named } else { "" };
        assert!(why.starts_with(&world.name()) && why.contains(named), "{fault:?}: {why}");
        assert!(began.elapsed() < Duration::from_secs(2), "{fault:?}: {why}");
    }
    proxy.set(Fault::None);
    assert!(world.finds("web").is_empty());
}

fn it_lives_by_its_heartbeat_and_without_it_is_gone_in_time(world: &dyn World) {
    let mut registry = opened(world);
    let hints = registry.hints();
    registry.register(&instance("a"), soon()).unwrap();
    // Longer than it would live.
    let began = Instant::now();
    while began.elapsed() < hints.crash_after + Duration::from_secs(1) {
        assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Yes);
        std::thread::park_timeout(hints.beat.min(Duration::from_millis(500)));
    }
    let last = Instant::now();
    assert_eq!(world.finds("web"), ["127.0.0.1:8080"]);
    world.abandon(registry);
    eventually("it is gone", || world.finds("web").is_empty().then_some(()));
    // Asking takes its time, too.
    let gone = last.elapsed();
    assert!(gone < hints.crash_after + Duration::from_secs(2), "{gone:?}, not {:?}", hints.crash_after);
}

fn a_member_is_registered_again_by_itself(world: &dyn World) {
    let member = Membership::join(opened(world), instance("a"), |_| {}).unwrap();
    world.expire();
    eventually("it is back", || (world.finds("web") == ["127.0.0.1:8080"]).then_some(()));
    let leave = member.leave(soon());
    assert!(matches!(leave.left, Ok(Left::Now)) && leave.is_gone(), "{leave:?}");
    assert!(world.finds("web").is_empty());
}
