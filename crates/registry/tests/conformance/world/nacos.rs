//! Nacos's double, with the API of version 3 and without, and a consumer that asks it in plain HTTP.

use gracefully_servers::Proxy;
use gracefully_servers::nacos::Nacos;

use super::{Started, World, ask};

struct Server {
    nacos: Nacos,
    proxy: Proxy,
}

pub(crate) fn start() -> Started {
    start_on(Nacos::start())
}

pub(crate) fn start_v1() -> Started {
    start_on(Nacos::start_v1())
}

#[expect(clippy::unnecessary_wraps, reason = "other registries may not be installed")]
fn start_on(nacos: Nacos) -> Started {
    let proxy = Proxy::before(nacos.at());
    Ok(Box::new(Server { nacos, proxy }))
}

impl World for Server {
    fn url(&self) -> String {
        format!("nacos://{}/dev?ttl=2", self.proxy.at())
    }

    fn proxy(&self) -> Option<&Proxy> {
        Some(&self.proxy)
    }

    /// Nacos refuses white space.
    fn takes(&self, name: &str) -> bool {
        !name.contains(' ')
    }

    fn finds(&self, service: &str) -> Vec<String> {
        let path = "/nacos/v1/ns/instance/list?namespaceId=dev&healthyOnly=true&serviceName=";
        let found = ask(self.nacos.at(), path, service, "");
        let found = found["hosts"].as_array().unwrap().iter();
        let mut found: Vec<String> =
            found.map(|found| format!("{}:{}", found["ip"].as_str().unwrap(), found["port"])).collect();
        found.sort();
        found
    }

    fn expire(&self) {
        self.nacos.expire_all();
    }
}
