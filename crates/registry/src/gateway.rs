//! Whoever sends requests to an instance, and is told from outside to send none: by who stops it, not by the instance itself.
//!
//! That is for programs that know of no registry, behind a load balancer that has a fixed list; and for programs that have registered
//! themselves, whose own heartbeat would bring back what somebody else takes out. What is done is undone when the instance serves again.
//!
//! | URL | what |
//! |---|---|
//! | `haproxy:///SOCKET?server=BACKEND/SERVER,…` | servers of HAProxy, over its runtime API ([`haproxy`]); `haproxy://HOST:PORT?…` over TCP |
//! | `consul://HOST:PORT?service=NAME&id=ID` | maintenance of a service that has registered itself |
//! | `eureka://HOST:PORT/PATH?service=NAME&id=ID` | its status `OUT_OF_SERVICE` |
//! | `nacos://HOST:PORT/NAMESPACE?service=NAME&id=ADDRESS:PORT` | it is disabled |
//! | `exec:///PROGRAM?service=NAME&id=ID` | the program's `drain` and `undrain` |
//! | `etcd://HOST:PORT/PREFIX?service=NAME&id=ID` | the key `PREFIX/NAME/ID` is removed, and put back with its lease |
//! | `zookeeper://HOST:PORT/BASE?service=NAME&id=ID` | the node `BASE/NAME/ID` is removed; only its program can put it back |
//!
//! In the last two nothing can be hidden. A program whose heartbeats keep alive a lease or a session, as those of gRPC's resolver, Curator and
//! Dubbo do, does not put the entry in again; one that writes it with each heartbeat does.

pub mod haproxy;
mod registered;
pub(crate) mod removed;

use std::fmt::Debug;
use std::time::Duration;

use self::haproxy::Haproxy;
use self::registered::Registered;
use self::removed::Removed;
#[cfg(feature = "http")]
use crate::etcd;
use crate::url::Url;
use crate::{Deadline, Result, zookeeper};

/// Whoever sends requests to one instance. Every call ends by its deadline.
pub trait Gateway: Debug + Send {
    /// How it is called in messages.
    fn name(&self) -> String;

    /// Fails if it does not know the instance, or does not let us. Changes nothing.
    fn check(&mut self, deadline: Deadline) -> Result<()>;

    /// Somebody has begun this for us, and is lost: what it was told already is our affair.
    fn resume(&mut self);

    /// No new requests from here on; what is under way goes on. Whoever has been told so already by somebody else stays so.
    fn drain(&mut self, reason: &str, deadline: Deadline) -> Result<()>;

    /// Is nothing under way any more, as far as it knows?
    fn is_idle(&mut self, deadline: Deadline) -> Result<bool>;

    /// New requests again, unless it was somebody else who had told it to send none.
    fn undrain(&mut self, who: Serving, deadline: Deadline) -> Result<()>;

    /// The program has ended, and nobody serves in its place. What it has left behind is taken out, and whoever comes after it is not
    /// hidden by what was told about it.
    fn forget(&mut self, deadline: Deadline) -> Result<()> {
        let _ = deadline;
        Ok(())
    }

    /// From [`drain`](Self::drain) on, requests may come for so long.
    fn settle(&self) -> Duration;
}

/// Who serves again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// The program that was to be stopped.
    TheSame,
    /// One that was started in its place, and registers itself where that one had.
    ANewOne,
}

/// The gateway that a URL names. Nothing is asked yet.
///
/// ```
/// use gracefully_registry::gateway;
///
/// assert!(gateway::open("haproxy:///run/haproxy.sock?server=web/s1").is_ok());
/// assert!(gateway::open("haproxy:///run/haproxy.sock").is_err());
/// assert!(gateway::open("file:///run/services").unwrap_err().to_string().contains("the known ones are haproxy"));
/// ```
pub fn open(url: &str) -> Result<Box<dyn Gateway>> {
    let parsed = Url::parse(url)?;
    match parsed.scheme {
        "haproxy" => Ok(Box::new(Haproxy::open(&parsed)?)),
        "zookeeper" => Ok(Box::new(Removed::open(&parsed, zookeeper::Node::open)?)),
        #[cfg(feature = "http")]
        "etcd" | "etcds" => Ok(Box::new(Removed::open(&parsed, etcd::Key::open)?)),
        "exec" => Ok(Box::new(Registered::open(&parsed)?)),
        #[cfg(feature = "http")]
        "consul" | "consuls" | "eureka" | "eurekas" | "nacos" | "nacoss" => {
            Ok(Box::new(Registered::open(&parsed)?))
        }
        _ => Err(parsed.error(&format!("as a gateway the known ones are {KNOWN}"))),
    }
}

/// What this program was built with.
const KNOWN: &str = if cfg!(feature = "http") {
    "haproxy, consul, eureka, nacos, etcd, zookeeper, exec"
} else {
    "haproxy, zookeeper, exec"
};
