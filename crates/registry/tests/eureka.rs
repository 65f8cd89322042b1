//! What only Eureka does; what it has in common with others is in `conformance`. And the double, asked by a client that is not ours.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod python;
#[path = "../../../xtask/skip.rs"]
mod skip;

use std::time::Duration;

use gracefully_registry::{Alive, Deadline, Instance, Left, Registry, open};
use gracefully_servers::eureka::Eureka;

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(5))
}

fn registered(eureka: &Eureka) -> (Box<dyn Registry>, Instance) {
    let mut registry = open(&format!("eureka://{}", eureka.at())).unwrap();
    let mut instance = Instance::new("web", "127.0.0.1", 8080);
    instance.metadata.insert("zone".into(), "a".into());
    registry.register(&instance, soon()).unwrap();
    (registry, instance)
}

/// Consumers find it for as long as the copy is kept: therefore we settle.
#[test]
fn an_old_list_is_not_taken_for_the_registry() {
    let eureka = Eureka::start_with_copies(Duration::from_secs(600));
    let (mut registry, _) = registered(&eureka);
    let list = || {
        let url = format!("http://{}/eureka/apps/WEB", eureka.at());
        let asked =
            std::process::Command::new("curl").args(["-sS", "-H", "Accept: application/json", &url]).output();
        String::from_utf8(asked.unwrap().stdout).unwrap()
    };
    assert!(list().contains("8080"));
    assert!(registry.is_visible(soon()).unwrap());
    assert_eq!(registry.deregister(soon()).unwrap(), Left::Now);
    assert!(!registry.is_visible(soon()).unwrap());
    assert!(list().contains("8080"), "this is what others see");
    assert_eq!(registry.hints().settle, Duration::from_secs(60));
}

/// An operator's override is not ended by a program that starts again, nor by its heartbeats.
#[test]
fn an_override_outlives_registering_again() {
    let eureka = Eureka::start();
    let (mut registry, instance) = registered(&eureka);
    registry.drain("test", soon()).unwrap();
    registry.register(&instance, soon()).unwrap();
    assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Yes);
    assert!(!registry.is_visible(soon()).unwrap());
    registry.undrain(soon()).unwrap();
    assert!(registry.is_visible(soon()).unwrap());
}

#[test]
fn py_eureka_client_and_the_double_understand_each_other() {
    let eureka = Eureka::start();
    let test = "eureka::py_eureka_client_and_the_double_understand_each_other";
    let script = "
import asyncio
from py_eureka_client import eureka_basic as e
from py_eureka_client.http_client import HTTPError
url = 'http://127.0.0.1:PORT/eureka'
async def main():
    one = e.Instance(instanceId='one:8080', hostName='localhost', app='WEB', ipAddr='127.0.0.1', status='UP', vipAddress='web',
                     port=e.PortWrapper(8080, True), leaseInfo=e.LeaseInfo(30, 90), lastDirtyTimestamp=5, metadata={'zone': 'a'})
    await e.register(url, one)
    app = await e.get_application(url, 'WEB')
    [found] = app.up_instances
    assert (found.instanceId, found.ipAddr, found.port.port, found.port.enabled) == ('one:8080', '127.0.0.1', 8080, True)
    assert (found.metadata, found.leaseInfo.durationInSecs) == ({'zone': 'a'}, 90)
    apps = await e.get_applications(url)
    assert [app.name for app in apps.applications] == ['WEB'] and apps.appsHashcode == 'UP_1_'
    await e.send_heartbeat(url, 'WEB', 'one:8080', 5)
    async def refused(status, call):
        try: await call
        except HTTPError as error: assert status in str(error), error
        else: raise AssertionError(status)
    # The server does not know this state.
    await refused('404', e.send_heartbeat(url, 'WEB', 'one:8080', 6))
    await e.status_update(url, 'WEB', 'one:8080', 5)
    assert (await e.get_application(url, 'WEB')).up_instances == []
    await e.send_heartbeat(url, 'WEB', 'one:8080', 5)
    assert (await e.get_app_instance(url, 'WEB', 'one:8080')).overriddenstatus == 'OUT_OF_SERVICE'
    await e.delete_status_override(url, 'WEB', 'one:8080', '5')
    # Nobody has said what it is now.
    await refused('404', e.send_heartbeat(url, 'WEB', 'one:8080', 5))
    await e.register(url, one)
    assert len((await e.get_application(url, 'WEB')).up_instances) == 1
    await e.cancel(url, 'WEB', 'one:8080')
    await refused('404', e.cancel(url, 'WEB', 'one:8080'))
    await refused('404', e.get_application(url, 'WEB'))
asyncio.run(main())
";
    let script = script.replace("PORT", &eureka.at().port().to_string());
    if let Err(missing) = python::run("py_eureka_client", "py_eureka_client", &script) {
        skip::skip(test, &missing);
        return;
    }
    let (_registry, instance) = registered(&eureka);
    let script = format!(
        "
import asyncio
from py_eureka_client import eureka_basic as e
[one] = asyncio.run(e.get_application('http://127.0.0.1:{}/eureka', 'WEB')).up_instances
assert (one.instanceId, one.ipAddr, one.port.port, one.vipAddress) == ({:?}, '127.0.0.1', 8080, 'web')
assert (one.metadata, one.leaseInfo.renewalIntervalInSecs) == ({{'zone': 'a'}}, 30)
",
        eureka.at().port(),
        instance.id,
    );
    python::run("py_eureka_client", "py_eureka_client", &script).unwrap();
}
