//! The registries, each of them alone in its world, and a consumer that is not ours.

pub(crate) mod etcd;
pub(crate) mod file;
pub(crate) mod zookeeper;

use gracefully_registry::Registry;
use gracefully_servers::{Missing, Proxy};

pub(crate) type Started = Result<Box<dyn World>, Missing>;

/// A registry that only one test uses.
pub(crate) trait World {
    /// Its address: with the shortest time to live, and through the proxy if there is one.
    fn url(&self) -> String;

    /// How errors call it.
    fn name(&self) -> String {
        self.url().split('?').next().unwrap_or_default().to_owned()
    }

    /// What goes wrong on the way to the server, if there is one.
    fn proxy(&self) -> Option<&Proxy> {
        None
    }

    /// Are errors those of HTTP?
    fn speaks_http(&self) -> bool {
        true
    }

    /// The addresses at which a consumer that is not ours finds this service, in order.
    fn finds(&self, service: &str) -> Vec<String>;

    /// As if all registrations had not been kept alive for longer than they live.
    fn expire(&self);

    /// As if the process that has registered something had been killed.
    fn abandon(&self, registry: Box<dyn Registry>) {
        drop(registry);
    }
}
