//! What only Consul does; what it has in common with others is in `conformance`. And the double, asked by a client that is not ours.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod python;
#[path = "../../../xtask/skip.rs"]
mod skip;

use std::time::Duration;

use gracefully_registry::{Alive, Deadline, Instance, Left, Registry, open};
use gracefully_servers::consul::Consul;

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(5))
}

fn registered(consul: &Consul) -> (Box<dyn Registry>, Instance) {
    let mut registry = open(&format!("consul://{}?ttl=60", consul.at())).unwrap();
    let instance = Instance::new("web", "127.0.0.1", 8080);
    registry.register(&instance, soon()).unwrap();
    (registry, instance)
}

/// Its heartbeats may have been held up; it is still registered, so that this is no matter of registering again.
#[test]
fn what_is_critical_is_found_again_after_a_heartbeat() {
    let consul = Consul::start();
    let (mut registry, _) = registered(&consul);
    consul.run_out();
    assert!(!registry.is_visible(soon()).unwrap());
    assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Yes);
    assert!(registry.is_visible(soon()).unwrap());
    consul.run_out();
    assert_eq!(registry.deregister(soon()).unwrap(), Left::Now);
    assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Lost);
}

/// Consul keeps the status of the check, whatever the registration says.
#[test]
fn what_is_critical_is_found_again_after_registering() {
    let consul = Consul::start();
    let (mut registry, instance) = registered(&consul);
    consul.run_out();
    registry.register(&instance, soon()).unwrap();
    assert!(registry.is_visible(soon()).unwrap());
    registry.drain("test", soon()).unwrap();
    registry.register(&instance, soon()).unwrap();
    assert!(registry.is_visible(soon()).unwrap(), "registering ends maintenance");
}

/// Also while one waits for a change, and in both directions: what ours has registered, and what ours is to find.
#[test]
fn py_consul_and_the_double_understand_each_other() {
    let consul = Consul::start();
    let test = "consul::py_consul_and_the_double_understand_each_other";
    let script = "
import threading
from consul import Check, Consul
c = Consul(host='127.0.0.1', port=PORT)
assert c.status.leader()
assert c.agent.service.register('web', service_id='a/b', address='127.0.0.1', port=8080, tags=['blue'], meta={'zone': 'a'},
                                check=Check.ttl('60s'))
find = lambda **more: c.health.service('web', passing=True, **more)
index, found = find()
assert found == [], 'a check without a status is critical'
assert c.agent.check.ttl_pass('service:a/b', 'well')
index, found = find(index=index, wait='5s')
[one] = found
assert (one['Service']['ID'], one['Service']['Port'], one['Service']['Tags']) == ('a/b', 8080, ['blue']), one
assert one['Service']['Meta'] == {'zone': 'a'}, one
assert {check['Status'] for check in one['Checks']} == {'passing'}, one
assert c.catalog.services()[1] == {'consul': [], 'web': ['blue']}
assert c.catalog.service('web')[1][0]['ServiceID'] == 'a/b'
assert list(c.agent.services()) == ['a/b'] and list(c.agent.checks()) == ['service:a/b']
def changes(do):
    got = []
    waiting = threading.Thread(target=lambda: got.append(find(index=index, wait='60s')), daemon=True)
    waiting.start()
    assert do()
    waiting.join(20)
    return got[0]
index, found = changes(lambda: c.agent.service.maintenance('a/b', True, 'a reason'))
assert found == []
assert [check['Notes'] for check in c.health.service('web')[1][0]['Checks'] if check['Status'] == 'critical'] == ['a reason']
index, found = changes(lambda: c.agent.service.maintenance('a/b', False))
assert len(found) == 1
index, found = changes(lambda: c.agent.check.ttl_fail('service:a/b', 'ill'))
assert found == [] and c.health.state('critical')[1][0]['Output'] == 'ill'
index, found = changes(lambda: c.agent.check.ttl_warn('service:a/b'))
assert found == []
index, found = changes(lambda: c.agent.check.ttl_pass('service:a/b'))
assert len(found) == 1
index, found = changes(lambda: c.agent.service.deregister('a/b'))
assert found == []
assert not c.agent.service.deregister('a/b') and not c.agent.check.ttl_pass('service:a/b'), 'they are unknown'
index, found = find()
assert find(index=index, wait='1s')[1] == [], 'nothing changes'
";
    let script = script.replace("PORT", &consul.at().port().to_string());
    if let Err(missing) = python::run("consul", "py-consul", &script) {
        skip::skip(test, &missing);
        return;
    }
    let (_registry, instance) = registered(&consul);
    let script = format!(
        "
from consul import Consul
[one] = Consul(host='127.0.0.1', port={}).health.service('web', passing=True)[1]
assert (one['Service']['ID'], one['Service']['Address'], one['Service']['Port']) == ({:?}, '127.0.0.1', 8080), one
",
        consul.at().port(),
        instance.id,
    );
    python::run("consul", "py-consul", &script).unwrap();
}
