//! The files that gateways read: all instances of a service in one.
//!
//! Whoever changes an entry writes it anew from the entries that there are, one at a time: the last one has seen everything.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::Duration;

use serde_json::{Value, json};

use super::{escaped, instances, replace};
use crate::{Deadline, Instance};

/// What there is besides the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Plain,
    Envoy,
    Traefik,
}

/// How often it is looked whether somebody else has written.
const LOOK: Duration = Duration::from_millis(1);

impl Layout {
    pub(super) const ALL: &[(&str, Self)] =
        &[("plain", Self::Plain), ("envoy", Self::Envoy), ("traefik", Self::Traefik)];

    /// Writes the file of this service. The error comes with what it is about.
    pub(super) fn render(
        self,
        directory: &Path,
        service: &str,
        deadline: Deadline,
    ) -> Result<(), (PathBuf, io::Error)> {
        let Some(path) = self.path(directory, service) else { return Ok(()) };
        let lock = directory.join(format!(".{}.lock", escaped(service)));
        let _alone = only_one(&lock, deadline).map_err(|error| (lock, error))?;
        let mut found = instances(directory, service);
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let text = format!("{}\n", self.value(service, &found));
        // Gateways read it anew whenever it is replaced.
        if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        replace(&path, text.as_bytes()).map_err(|error| (path, error))
    }

    fn path(self, directory: &Path, service: &str) -> Option<PathBuf> {
        let service = escaped(service);
        match self {
            Self::Plain => None,
            Self::Envoy => Some(directory.join(format!("{service}.eds.json"))),
            // It reads no other names.
            Self::Traefik => Some(directory.join(format!("{service}.yml"))),
        }
    }

    fn value(self, service: &str, instances: &[Instance]) -> Value {
        match self {
            Self::Plain => Value::Null,
            Self::Envoy => {
                let endpoint = |instance: &Instance| {
                    let socket = json!({ "address": instance.address, "port_value": instance.port });
                    json!({ "endpoint": { "address": { "socket_address": socket } } })
                };
                let endpoints: Vec<Value> = instances.iter().map(endpoint).collect();
                json!({ "resources": [{
                    "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                    "cluster_name": service,
                    "endpoints": [{ "lb_endpoints": endpoints }],
                }] })
            }
            // Every JSON is YAML.
            Self::Traefik => {
                let server =
                    |instance: &Instance| json!({ "url": format!("http://{}", instance.host_and_port()) });
                let servers: Vec<Value> = instances.iter().map(server).collect();
                json!({ "http": { "services": { service: { "loadBalancer": { "servers": servers } } } } })
            }
        }
    }
}

/// Waits until nobody else holds this file (flock(2)), which the kernel lets go of with whoever dies.
fn only_one(path: &Path, deadline: Deadline) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if deadline.left().is_zero() => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "somebody else does not let go of it"));
            }
            Err(TryLockError::WouldBlock) => park_timeout(LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_gateways() {
        let instances = [Instance::new("web", "::1", 80), Instance::new("web", "10.0.0.1", 81)];
        let envoy = Layout::Envoy.value("web", &instances);
        let endpoints = &envoy["resources"][0]["endpoints"][0]["lb_endpoints"];
        let address = &endpoints[0]["endpoint"]["address"]["socket_address"];
        assert_eq!(address, &json!({ "address": "::1", "port_value": 80 }));
        assert_eq!(endpoints.as_array().map(Vec::len), Some(2));
        let traefik = Layout::Traefik.value("web", &instances);
        let servers = &traefik["http"]["services"]["web"]["loadBalancer"]["servers"];
        assert_eq!(servers, &json!([{ "url": "http://[::1]:80" }, { "url": "http://10.0.0.1:81" }]));
    }

    #[test]
    fn one_writes_at_a_time_and_nobody_waits_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("lock");
        let held = only_one(&lock, Deadline::within(Duration::ZERO)).unwrap();
        let error = only_one(&lock, Deadline::within(Duration::from_millis(20))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(held);
        only_one(&lock, Deadline::within(Duration::ZERO)).unwrap();
    }
}
