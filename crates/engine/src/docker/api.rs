//! The parts of the daemon's JSON that we read.
//!
//! Everything may be missing or null: old daemons, new daemons and Podman each leave out something else, and a word
//! that we do not know must not hide a container from its owner.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

/// `GET /containers/json`: only who is there, the rest is asked for one by one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Summary {
    pub(super) id: String,
}

/// `GET /containers/ID/json`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspect {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) created: Option<String>,
    pub(super) path: Option<String>,
    pub(super) args: Option<Vec<String>>,
    pub(super) state: Option<State>,
    pub(super) config: Option<Config>,
    pub(super) host_config: Option<HostConfig>,
    pub(super) network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct State {
    pub(super) status: Option<String>,
    pub(super) running: Option<bool>,
    pub(super) pid: Option<u32>,
    pub(super) exit_code: Option<i64>,
    pub(super) started_at: Option<String>,
    pub(super) finished_at: Option<String>,
    pub(super) health: Option<Health>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Health {
    pub(super) status: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    pub(super) image: Option<String>,
    pub(super) labels: Option<HashMap<String, String>>,
    pub(super) stop_signal: Option<StopSignal>,
    pub(super) stop_timeout: Option<i64>,
    pub(super) tty: Option<bool>,
}

/// A name as typed in docker, a number in Podman (and in its compatible API a number written as a text).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum StopSignal {
    Text(String),
    Number(i64),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    pub(super) auto_remove: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    /// `"80/tcp"` to where it is published; null if it is only exposed.
    pub(super) ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    /// By the names of the networks.
    pub(super) networks: Option<BTreeMap<String, Option<Endpoint>>>,
}

/// A container's place in one network. Without an address of a family, the text is empty.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Endpoint {
    #[serde(rename = "IPAddress")]
    pub(super) ip_address: Option<String>,
    #[serde(rename = "GlobalIPv6Address")]
    pub(super) global_ipv6_address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Binding {
    pub(super) host_ip: Option<String>,
    pub(super) host_port: Option<String>,
}

/// `POST /containers/ID/wait`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Waited {
    pub(super) status_code: i64,
    pub(super) error: Option<WaitError>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WaitError {
    pub(super) message: Option<String>,
}

/// `GET /services/ID`, down to what we need.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Service {
    pub(super) spec: ServiceSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ServiceSpec {
    pub(super) task_template: TaskTemplate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct TaskTemplate {
    pub(super) container_spec: ContainerSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ContainerSpec {
    /// Nanoseconds.
    pub(super) stop_grace_period: Option<u64>,
    pub(super) stop_signal: Option<String>,
}
