//! ZooKeeper, and its command line client as the consumer.

use std::time::{Duration, Instant};

use gracefully_servers::zookeeper::ZooKeeper;
use gracefully_servers::{Fault, Proxy};

use super::{Started, World};

struct Cluster {
    zookeeper: ZooKeeper,
    proxy: Proxy,
}

pub(crate) fn start() -> Started {
    let zookeeper = ZooKeeper::start()?;
    let proxy = Proxy::before(zookeeper.at());
    Ok(Box::new(Cluster { zookeeper, proxy }))
}

impl Cluster {
    /// What all nodes of instances say.
    fn instances(&self) -> Vec<serde_json::Value> {
        let nodes = self.zookeeper.nodes("/apps");
        let get: Vec<String> = nodes.iter().map(|node| format!("get {node}")).collect();
        let said = self.zookeeper.ctl(&get.iter().map(String::as_str).collect::<Vec<_>>());
        // Nodes with others below have no data.
        let instances = said.iter().filter(|line| line.starts_with('{'));
        instances.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl World for Cluster {
    fn url(&self) -> String {
        format!("zookeeper://{}/apps?ttl=2", self.proxy.at())
    }

    fn proxy(&self) -> Option<&Proxy> {
        Some(&self.proxy)
    }

    fn speaks_http(&self) -> bool {
        false
    }

    fn finds(&self, service: &str) -> Vec<String> {
        let instances = self.instances().into_iter().filter(|instance| instance["name"] == service);
        let mut found: Vec<String> = instances
            .map(|instance| format!("{}:{}", instance["address"].as_str().unwrap(), instance["port"]))
            .collect();
        found.sort();
        found
    }

    /// Nobody but its owner ends a session: it is kept from the server until that has given it up.
    fn expire(&self) {
        self.proxy.set(Fault::Closed);
        let began = Instant::now();
        while !self.instances().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "a session does not run out");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.proxy.set(Fault::None);
    }
}
