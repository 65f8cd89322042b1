//! Eureka's double, and a consumer that asks it in plain HTTP.

use std::time::Duration;

use gracefully_servers::Proxy;
use gracefully_servers::eureka::Eureka;

use super::{Started, World, ask};

struct Server {
    eureka: Eureka,
    proxy: Proxy,
}

#[expect(clippy::unnecessary_wraps, reason = "other registries may not be installed")]
pub(crate) fn start() -> Started {
    let eureka = Eureka::start_with_eviction(Duration::from_secs(1));
    let proxy = Proxy::before(eureka.at());
    Ok(Box::new(Server { eureka, proxy }))
}

impl World for Server {
    fn url(&self) -> String {
        format!("eureka://{}/eureka?ttl=2&eviction=1", self.proxy.at())
    }

    fn proxy(&self) -> Option<&Proxy> {
        Some(&self.proxy)
    }

    /// Tomcat takes no slash in a part of a path.
    fn takes(&self, name: &str) -> bool {
        !name.contains('/') && name != "."
    }

    fn finds(&self, service: &str) -> Vec<String> {
        let found = ask(self.eureka.at(), "/eureka/apps/", service, "");
        let found = found["application"]["instance"].as_array().cloned().unwrap_or_default();
        let found = found.iter().filter(|found| found["status"] == "UP");
        let mut found: Vec<String> = found
            .map(|found| format!("{}:{}", found["ipAddr"].as_str().unwrap(), found["port"]["$"]))
            .collect();
        found.sort();
        found
    }

    fn expire(&self) {
        self.eureka.expire_all();
    }
}
