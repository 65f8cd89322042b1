//! What only a directory does; what it has in common with others is in `conformance`.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use gracefully_registry::{Alive, Deadline, Instance, Left, Registry, file, open};

/// A registry that only this test uses.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Box<dyn Registry> {
        open(&format!("file://{}?ttl=2", self.directory.path().display())).unwrap()
    }

    fn consumer_finds(&self, service: &str) -> Vec<Instance> {
        file::instances(self.directory.path(), service)
    }

    /// As if all registrations had not been kept alive for longer than they live.
    fn expire(&self, service: &str) {
        let entries = self.directory.path().join(service).read_dir().unwrap();
        for entry in entries.map(|entry| entry.unwrap().path()) {
            let old = SystemTime::now() - Duration::from_secs(60);
            File::options().write(true).open(entry).unwrap().set_modified(old).unwrap();
        }
    }
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(2))
}

fn instance(id: &str) -> Instance {
    let mut instance = Instance::new("web", "127.0.0.1", 8080);
    instance.id = id.into();
    instance
}

/// The process that has registered it was killed.
#[test]
fn what_a_dead_process_has_left_is_cleared_away() {
    let world = World::new();
    let (mut dead, mut other) = (world.open(), world.open());
    dead.register(&instance("dead"), soon()).unwrap();
    world.expire("web");
    assert_eq!(world.consumer_finds("web"), []);
    assert!(!dead.is_visible(soon()).unwrap());
    // And somebody else's heartbeat clears it away.
    other.register(&instance("other"), soon()).unwrap();
    other.keep_alive(soon()).unwrap();
    assert_eq!(dead.keep_alive(soon()).unwrap(), Alive::Lost);
    assert_eq!(dead.deregister(soon()).unwrap(), Left::Before);
}

#[test]
fn a_name_leads_nowhere_else() {
    let world = World::new();
    let mut registry = world.open();
    let instance = Instance { service: "../up".into(), ..instance("../up") };
    registry.register(&instance, soon()).unwrap();
    assert_eq!(world.consumer_finds("../up"), [instance]);
    assert_eq!(world.directory.path().read_dir().unwrap().count(), 1);
    assert!(world.directory.path().parent().unwrap().join("up").metadata().is_err());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let mut registry = open("file:///proc/gracefully").unwrap();
    let error = registry.register(&instance("a"), soon()).unwrap_err().to_string();
    assert!(
        error.starts_with("file:///proc/gracefully") && error.contains("/proc/gracefully/web: "),
        "{error}"
    );
    assert!(registry.keep_alive(soon()).is_err());
}

/// Consumers may look at any moment: they find an entry that is whole, or none.
#[test]
fn nobody_ever_finds_half_an_entry() {
    let world = World::new();
    let done = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut registry = world.open();
            for _ in 0..500 {
                registry.register(&instance("a"), soon()).unwrap();
            }
        });
        let entry = world.directory.path().join("web").join("a.json");
        let mut looked = 0;
        while !writer.is_finished() {
            if let Ok(text) = std::fs::read_to_string(Path::new(&entry)) {
                assert!(text.ends_with("}\n"), "{text:?}");
                looked += 1;
            }
        }
        looked
    });
    assert!(done > 0);
}

#[test]
fn what_is_no_entry_is_left_out_and_keeps_nobody() {
    let world = World::new();
    let mut registry = world.open();
    registry.register(&instance("a"), soon()).unwrap();
    let directory = world.directory.path().join("web");
    std::fs::write(directory.join("torn.json"), "{\"id\":").unwrap();
    std::fs::create_dir(directory.join("directory.json")).unwrap();
    // Of somebody who was killed before the entry was there.
    std::fs::copy(directory.join("a.json"), directory.join(".b.new")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(directory.join("fifo.json")).status().unwrap();
    assert!(fifo.success());
    assert_eq!(world.consumer_finds("web"), [instance("a")]);
    assert_eq!(registry.keep_alive(soon()).unwrap(), Alive::Yes);
    assert_eq!(registry.deregister(soon()).unwrap(), Left::Now);
    assert_eq!(world.consumer_finds("web"), []);
}

/// Whoever comes, goes, or is found dead changes the file that a gateway reads, and nobody's change is lost.
#[test]
fn a_gateway_reads_everybody_in_one_file() {
    let world = World::new();
    let url = format!("file://{}?ttl=2&layout=envoy", world.directory.path().display());
    let all = world.directory.path().join("web.eds.json");
    let ports = || {
        let text = std::fs::read_to_string(&all).unwrap();
        (8080..8090).filter(|port| text.contains(&format!("\"port_value\":{port}}}"))).collect::<Vec<u16>>()
    };
    let mut members: Vec<_> = std::thread::scope(|scope| {
        let join = |port: u16| {
            let mut registry = open(&url).unwrap();
            registry.register(&Instance { port, ..instance(&port.to_string()) }, soon()).unwrap();
            registry
        };
        let joining: Vec<_> = (8080..8090).map(|port| scope.spawn(move || join(port))).collect();
        joining.into_iter().map(|joining| joining.join().unwrap()).collect()
    });
    assert_eq!(ports(), (8080..8090).collect::<Vec<u16>>());
    assert_eq!(members.remove(0).deregister(soon()).unwrap(), Left::Now);
    assert_eq!(ports(), (8081..8090).collect::<Vec<u16>>());
    // Of the others only one lives.
    world.expire("web");
    let mut last = members.remove(0);
    assert_eq!(last.keep_alive(soon()).unwrap(), Alive::Lost);
    last.register(&Instance { port: 8081, ..instance("8081") }, soon()).unwrap();
    assert_eq!(ports(), [8081]);
    assert_eq!(world.consumer_finds("web").len(), 1);
}
