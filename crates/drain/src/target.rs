//! Whose connections are meant, and by which ways clients reach it.

use std::net::{IpAddr, SocketAddr};

/// A running program, as the engine that runs it describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Its main process, as this host numbers it.
    pub main: u32,
    /// Ports of this host that lead to it.
    pub published: Vec<Published>,
    /// Its own addresses, by which other containers and programs of this host may reach it. Empty if it shares this
    /// host's network.
    pub addresses: Vec<IpAddr>,
}

/// One port of this host that leads to a port of the program, as `docker run --publish` makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Published {
    /// Address and port of this host; an unspecified address (`0.0.0.0`, `::`) means all of that family.
    pub outside: SocketAddr,
    /// The port at which the program listens.
    pub inside: u16,
}
