//! What every engine can say about a container.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use gracefully_core::policy::Settings;
use serde::{Deserialize, Serialize};

/// A container as it was when the engine was asked.
#[derive(Clone, Debug)]
pub struct Container {
    /// 64 hexadecimal digits; for a process its PID.
    pub id: String,
    /// The name without a leading slash.
    pub name: String,
    /// The image; for the local engine the root directory, for a process its executable.
    pub image: String,
    /// What runs as PID 1.
    pub command: Vec<String>,
    /// What it is doing.
    pub state: State,
    /// `healthy`, `unhealthy` or `starting`, if it has a health check and runs.
    pub health: Option<String>,
    /// When it was created.
    pub created: Option<SystemTime>,
    /// When it was last started.
    pub started: Option<SystemTime>,
    /// When it last ended.
    pub finished: Option<SystemTime>,
    /// Its last exit code; `None` if it never ended, or if it is a process and nobody knows. Of a container of which nobody
    /// knows it is 255, as docker's.
    pub exit_code: Option<i64>,
    /// The main process as its host numbers it, while it runs.
    pub pid: Option<u32>,
    /// Published ports, as `docker ps` shows them.
    pub ports: String,
    /// By which ways clients reach it.
    pub network: Network,
    /// Stop signal and stop timeout, as configured.
    pub settings: Settings,
    /// Its labels, if its engine has such.
    pub labels: BTreeMap<String, String>,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// Something to tell the user: "monitor lost", for instance.
    pub note: Option<String>,
}

/// By which ways clients reach a container over TCP. Empty if it shares its host's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Ports of its host that lead to it.
    pub published: Vec<Published>,
    /// Its own addresses on the networks that it is connected to.
    pub addresses: Vec<IpAddr>,
}

/// One published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Address and port of the host; an unspecified address means all of that family.
    pub outside: SocketAddr,
    /// The port inside.
    pub inside: u16,
}

/// What a container is doing, in docker's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Never started.
    Created,
    /// Running.
    Running,
    /// Frozen by `docker pause`.
    Paused,
    /// Ended, and waiting to be started again by the restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Could not be removed.
    Dead,
}

impl State {
    /// Is there something to stop: a process, or a restart that is due?
    pub fn is_up(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting => true,
            Self::Created | Self::Removing | Self::Exited | Self::Dead => false,
        }
    }

    /// As in `docker inspect`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}
