//! etcd, and etcdctl as the consumer.

use gracefully_servers::Proxy;
use gracefully_servers::etcd::Etcd;

use super::{Started, World};

struct Cluster {
    etcd: Etcd,
    proxy: Proxy,
}

pub(crate) fn start() -> Started {
    let etcd = Etcd::start()?;
    let proxy = Proxy::before(etcd.at());
    Ok(Box::new(Cluster { etcd, proxy }))
}

impl World for Cluster {
    fn url(&self) -> String {
        format!("etcd://{}/apps?ttl=2", self.proxy.at())
    }

    fn proxy(&self) -> Option<&Proxy> {
        Some(&self.proxy)
    }

    fn finds(&self, service: &str) -> Vec<String> {
        let values = self.etcd.ctl(&["get", "--prefix", "--print-value-only", "apps/"]);
        let values = values.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut found: Vec<String> = values
            .filter(|value: &serde_json::Value| value["service"] == service)
            .map(|value| value["Addr"].as_str().unwrap().to_owned())
            .collect();
        found.sort();
        found
    }

    fn expire(&self) {
        self.etcd.expire_all();
    }
}
