//! Consul's double, and a consumer that asks it in plain HTTP.

use gracefully_servers::Proxy;
use gracefully_servers::consul::Consul;

use super::{Started, World, ask};

struct Agent {
    consul: Consul,
    proxy: Proxy,
}

#[expect(clippy::unnecessary_wraps, reason = "other registries may not be installed")]
pub(crate) fn start() -> Started {
    let consul = Consul::start();
    let proxy = Proxy::before(consul.at());
    Ok(Box::new(Agent { consul, proxy }))
}

impl World for Agent {
    fn url(&self) -> String {
        format!("consul://{}?ttl=2", self.proxy.at())
    }

    fn proxy(&self) -> Option<&Proxy> {
        Some(&self.proxy)
    }

    /// Its server redirects what is not clean in a path.
    fn takes(&self, name: &str) -> bool {
        !["../up", "."].contains(&name)
    }

    fn finds(&self, service: &str) -> Vec<String> {
        let found = ask(self.consul.at(), "/v1/health/service/", service, "?passing");
        let found = found.as_array().unwrap().iter().map(|found| &found["Service"]);
        let mut found: Vec<String> =
            found.map(|found| format!("{}:{}", found["Address"].as_str().unwrap(), found["Port"])).collect();
        found.sort();
        found
    }

    fn expire(&self) {
        self.consul.expire_all();
    }
}
