//! Nacos's double, asked by a client that is not ours; what Nacos has in common with other registries is in `conformance`.

mod python;
#[path = "../../../xtask/skip.rs"]
mod skip;

use std::time::Duration;

use gracefully_registry::{Alive, Deadline, Instance, Left, open};
use gracefully_servers::nacos::Nacos;

/// It speaks API 1, as ours does with a server that has no other.
#[test]
fn nacos_sdk_python_and_the_double_understand_each_other() {
    let nacos = Nacos::start_v1_with_user("me", "secret");
    let test = "nacos::nacos_sdk_python_and_the_double_understand_each_other";
    // It writes a log into the home directory unless it is told where.
    let logs = tempfile::tempdir().unwrap();
    let client = format!(
        "
import nacos
def client(**more):
    return nacos.NacosClient('127.0.0.1:{}', namespace='dev', logDir={:?}, **more)
",
        nacos.at().port(),
        logs.path(),
    );
    let script = "
c = client(username='me', password='secret')
# Else it says that the cluster is \"None\".
at = ('web', '127.0.0.1', 8080, 'DEFAULT')
find = lambda: c.list_naming_instance('web', healthy_only=True)['hosts']
assert c.send_heartbeat(*at)['code'] == 10200, 'its heartbeat has the instance in it, and registers it'
assert c.remove_naming_instance(*at) and find() == []
assert c.add_naming_instance(*at, metadata={'zone': 'a'})
[one] = find()
assert (one['ip'], one['port'], one['healthy'], one['metadata']) == ('127.0.0.1', 8080, True, {'zone': 'a'}), one
assert one['instanceId'] == '127.0.0.1#8080#DEFAULT#DEFAULT_GROUP@@web', one
assert c.modify_naming_instance(*at, enable=False) and find() == []
assert c.send_heartbeat(*at)['clientBeatInterval'] == 5000 and find() == []
assert c.modify_naming_instance(*at, enable=True) and len(find()) == 1
assert c.remove_naming_instance(*at) and find() == []
assert c.remove_naming_instance(*at), 'removing nothing is ok'
try: client().list_naming_instance('web')
except Exception as e: assert 'privilege' in str(e) or '403' in str(e), e
else: raise AssertionError('it lets everybody in')
";
    if let Err(missing) = python::run("nacos", "nacos-sdk-python==1.0.0", &format!("{client}{script}")) {
        skip::skip(test, &missing);
    }
}

/// So it is in Nacos itself: who has left must not be asked to live.
#[test]
fn a_heartbeat_with_an_instance_in_it_would_bring_it_back_and_ours_does_not() {
    for nacos in [Nacos::start(), Nacos::start_v1()] {
        let soon = || Deadline::within(Duration::from_secs(5));
        let mut registry = open(&format!("nacos://{}?api=v1", nacos.at())).unwrap();
        registry.register(&Instance::new("web", "127.0.0.1", 8080), soon()).unwrap();
        assert_eq!(registry.deregister(soon()).unwrap(), Left::Now);
        assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Lost);
        assert!(!registry.is_visible(soon()).unwrap());
        let beat = "{\"ip\":\"127.0.0.1\",\"port\":8080,\"cluster\":\"DEFAULT\"}";
        let url = format!("http://{}/nacos/v1/ns/instance/beat", nacos.at());
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "-G", "-X", "PUT", &url, "--data-urlencode", &format!("beat={beat}")]);
        assert!(curl.args(["-d", "serviceName=web"]).output().unwrap().status.success());
        assert!(registry.is_visible(soon()).unwrap());
    }
}
