//! What a drain would find, without touching anything.

use std::net::SocketAddr;

use gracefully_core::traffic::Method;
use gracefully_linux::connection::Activity;

use crate::clock::now;
use crate::hold;
use crate::limits::Limit;
use crate::target::Target;
use crate::watch::Watch;

/// The connections of a program at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The ports at which it listens.
    pub ports: Vec<u16>,
    /// Its connections: the other end, and what is going on.
    pub connections: Vec<(SocketAddr, Activity)>,
    /// How new connections would be kept waiting, or why they would not.
    pub hold: Result<Method, Limit>,
    /// Whether new connections could be refused.
    pub refuse: Result<(), Limit>,
}

impl Survey {
    /// Looks at the connections of `target` once.
    pub fn of(target: &Target) -> Result<Self, Limit> {
        let mut watch = Watch::begin(target, now()).map_err(Limit::watch)?;
        watch.look(now()).map_err(Limit::watch)?;
        let mut connections = watch.inside.activities();
        connections.sort_unstable_by_key(|(peer, _)| *peer);
        Ok(Self {
            ports: watch.inside.ports().to_vec(),
            connections,
            hold: hold::method(target, &watch).map_err(|tried| Limit::hold(&tried)),
            refuse: hold::may_refuse(target, &watch).map_err(Limit::refuse),
        })
    }
}
