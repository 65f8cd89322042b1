//! Real registries and gateways, started for tests and benchmarks: each on free ports of the loopback interface, with its data in a
//! directory of its own, and ended with whoever has started it.
//!
//! A server that is not installed is no error but a [`Missing`], which says what to install.
//!
//! Servers that cannot be installed have a **double** here, which speaks their protocol as their sources do, as far as registries and
//! consumers need it; its module says what it was made from and where it is simpler. Clients that are not ours keep it honest.

pub mod bridge;
pub mod consul;
pub mod envoy;
pub mod etcd;
pub mod eureka;
pub mod gate;
pub mod haproxy;
mod http;
pub mod nacos;
mod proxy;
mod server;
pub mod service;
pub mod traefik;
mod wait;
pub mod zookeeper;

pub use self::proxy::{Fault, Proxy};
pub use self::server::{Missing, Server, find, find_tool, free};
pub use self::wait::eventually;
