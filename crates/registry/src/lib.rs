//! Service registries as a stop needs them: register, keep alive, leave, and be sure of being gone.
//!
//! An instance that is stopped must be out of every gateway before it goes. So a stop leaves first, in this order, which is the same
//! for every registry ([`Membership::leave`]):
//!
//! 1. the heartbeat is stopped, and waited for: one that is still on its way would bring the instance back;
//! 2. the instance is taken out, with three tries; that it is gone already is success;
//! 3. it is looked for as a consumer does, until it is not found any more;
//! 4. the caller settles: it serves on for as long as consumers take to hear of it ([`Hints::settle`]).
//!
//! A registry is named by a URL:
//!
//! | URL | what |
//! |---|---|
//! | `file:///DIRECTORY?ttl=SECONDS&layout=plain\|envoy\|traefik` | a file for each instance in a directory: needs no server ([`mod@file`]) |
//! | `etcd://HOST:PORT/PREFIX?ttl=SECONDS&layout=plain\|traefik` | keys with a lease in etcd; `etcds://` with TLS (`etcd`, feature `http`) |
//! | `zookeeper://HOST:PORT/BASE?ttl=SECONDS` | ephemeral nodes in ZooKeeper, as Curator has them ([`mod@zookeeper`]) |
//! | `consul://HOST:PORT?ttl=SECONDS&settle=SECONDS` | a service of one of Consul's agents; `consuls://` with TLS (`consul`, feature `http`) |
//! | `eureka://HOST:PORT/PATH?ttl=…&eviction=…&settle=…` | an instance in Eureka; `eurekas://` with TLS (`eureka`, feature `http`) |
//! | `nacos://HOST:PORT/NAMESPACE?ttl=…&group=…&api=…&settle=…` | an instance in Nacos; `nacoss://` with TLS (`nacos`, the same) |
//! | `exec:///PROGRAM?ttl=SECONDS&settle=SECONDS` | a program of the user's that knows a registry ([`mod@exec`]) |
//!
//! Secrets are no part of it: they come from the environment or from a file, and are never shown. TLS needs the feature `tls`.
//!
//! Calls block, and end by their deadline whatever the server does.

#[cfg(feature = "http")]
pub mod consul;
pub mod control;
#[cfg(feature = "http")]
pub mod etcd;
#[cfg(feature = "http")]
pub mod eureka;
pub mod exec;
pub mod file;
pub mod gateway;
#[cfg(feature = "http")]
mod http;
mod membership;
#[cfg(feature = "http")]
pub mod nacos;
mod secret;
#[cfg(test)]
#[path = "../../../xtask/skip.rs"]
mod skip;
mod timely;
mod url;
pub mod zookeeper;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

pub use self::membership::{Gone, Leave, Membership, Settling};

/// One instance of a service, as others find it.
///
/// ```
/// let instance = gracefully_registry::Instance::new("orders", "10.0.0.7", 8080);
/// assert!(instance.id.starts_with("orders-"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its own, also after a restart: a registration that the process before has left is not ours.
    pub id: String,
    /// What it is an instance of.
    pub service: String,
    /// The host by which others reach it.
    pub address: String,
    /// The port by which others reach it.
    pub port: u16,
    /// Whatever else consumers want to know.
    pub metadata: BTreeMap<String, String>,
}

impl Instance {
    /// An instance with an id of its own.
    pub fn new(service: &str, address: &str, port: u16) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let id = format!("{service}-{address}-{port}-{:x}", now.as_micros());
        Self { id, service: service.into(), address: address.into(), port, metadata: BTreeMap::new() }
    }

    /// As it stands in a URL: an IPv6 address is in brackets.
    pub fn host_and_port(&self) -> String {
        let Self { address, port, .. } = self;
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    }

    /// What [`to_json`](Self::to_json) has written, whatever else stands there.
    fn from_json(json: &serde_json::Value) -> Option<Self> {
        let word = |name: &str| Some(json.get(name)?.as_str()?.to_owned());
        let pairs = json.get("metadata").and_then(serde_json::Value::as_object).into_iter().flatten();
        Some(Self {
            id: word("id")?,
            service: word("service")?,
            address: word("address")?,
            port: json.get("port")?.as_u64()?.try_into().ok()?,
            metadata: pairs
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
        })
    }

    /// Everything of it.
    fn to_json(&self) -> serde_json::Value {
        let Self { id, service, address, port, metadata } = self;
        serde_json::json!({ "id": id, "service": service, "address": address, "port": port, "metadata": metadata })
    }
}

/// Until when a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// In so long, from now on.
    pub fn within(time: Duration) -> Self {
        let now = Instant::now();
        // Whoever has more time than the clock has a year.
        Self(now.checked_add(time).unwrap_or(now + Duration::from_secs(31_536_000)))
    }

    /// What is left of it.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Waits until then.
    pub fn wait(self) {
        // It may return earlier.
        while !self.left().is_zero() {
            park_timeout(self.left());
        }
    }

    /// This one, or earlier.
    #[must_use]
    pub fn at_most(self, time: Duration) -> Self {
        Self(self.0.min(Self::within(time).0))
    }
}

/// What a heartbeat has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alive {
    /// It is registered.
    Yes,
    /// It is not, or not by us: it has to register again.
    Lost,
}

/// What there was to be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It was registered.
    Now,
    /// It was not registered any more.
    Before,
}

/// What a registry knows about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hints {
    /// A heartbeat is due this often.
    pub beat: Duration,
    /// Consumers that watch have heard of a change within this time.
    pub settle: Duration,
    /// An instance whose process has died is gone after this time.
    pub crash_after: Duration,
}

/// Why a registry could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names no registry, or no instance.
    #[error("{url:?} is not understood: {why}")]
    Url {
        /// As it was given, without a secret.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry does not let us.
    #[error("{registry} refuses: {why}; {hint}")]
    Refused {
        /// Which one.
        registry: String,
        /// In its own words.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// It cannot be reached, does not answer in time, or answers what cannot be understood.
    #[error("{registry}: {why}")]
    Failed {
        /// Which one.
        registry: String,
        /// What happened.
        why: String,
    },
    /// A secret, a certificate or a key cannot be had.
    #[error("{what}: {why}")]
    Secret {
        /// The variable or the file.
        what: String,
        /// Why not.
        why: String,
    },
    /// Nothing was registered yet.
    #[error("nothing is registered")]
    NotRegistered,
    /// It was taken out, as the registry says.
    #[error("consumers find it still")]
    StillFound,
}

/// The result of a call to a registry.
pub type Result<T> = std::result::Result<T, Error>;

/// A registry, as far as one instance needs it. Every call ends by its deadline.
pub trait Registry: Debug + Send {
    /// Puts an instance in. Again with the same one changes nothing.
    fn register(&mut self, instance: &Instance, deadline: Deadline) -> Result<()>;

    /// Says that it lives. Never puts it in again: that is for the caller to decide, who may be about to leave.
    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive>;

    /// Takes it out. That it is gone already is success.
    fn deregister(&mut self, deadline: Deadline) -> Result<Left>;

    /// Does a consumer find it?
    fn is_visible(&mut self, deadline: Deadline) -> Result<bool>;

    /// From here on this is about an instance that has registered itself, to [hide](Self::drain) it. Nothing is asked yet. The error says
    /// why it could not be hidden.
    fn adopt(&mut self, instance: &Instance) -> std::result::Result<(), &'static str> {
        let _ = instance;
        Err("it cannot hide what others have registered")
    }

    /// Hides it from consumers while it stays registered, whoever keeps it alive: what a program has registered itself comes back with its
    /// next heartbeat if it is taken out. `false`: this registry knows no such thing.
    fn drain(&mut self, reason: &str, deadline: Deadline) -> Result<bool> {
        let _ = (reason, deadline);
        Ok(false)
    }

    /// Ends [`drain`](Self::drain). `false`: this registry knows no such thing.
    fn undrain(&mut self, deadline: Deadline) -> Result<bool> {
        let _ = deadline;
        Ok(false)
    }

    /// What it knows about time.
    fn hints(&self) -> Hints;
}

/// The registry that a URL names. Nothing is asked yet.
///
/// ```
/// assert!(gracefully_registry::open("file:///run/services?ttl=10").is_ok());
/// let error = gracefully_registry::open("zoo://somewhere").unwrap_err();
/// assert!(error.to_string().starts_with("\"zoo://somewhere\" is not understood: the known ones are file"));
/// ```
pub fn open(url: &str) -> Result<Box<dyn Registry>> {
    let parsed = url::Url::parse(url)?;
    match parsed.scheme {
        "file" => Ok(Box::new(file::Directory::open(&parsed)?)),
        "exec" => Ok(Box::new(exec::Exec::open(&parsed)?)),
        #[cfg(feature = "http")]
        "etcd" | "etcds" => Ok(Box::new(etcd::Etcd::open(&parsed)?)),
        "zookeeper" => Ok(Box::new(zookeeper::ZooKeeper::open(&parsed)?)),
        #[cfg(feature = "http")]
        "consul" | "consuls" => Ok(Box::new(consul::Consul::open(&parsed)?)),
        #[cfg(feature = "http")]
        "eureka" | "eurekas" => Ok(Box::new(eureka::Eureka::open(&parsed)?)),
        #[cfg(feature = "http")]
        "nacos" | "nacoss" => Ok(Box::new(nacos::Nacos::open(&parsed)?)),
        _ => Err(parsed.error(&format!("the known ones are {}", KNOWN.join(", ")))),
    }
}

/// The servers that a URL names, each as `HOST:PORT`, with the discard port where none is named. Of a URL that names none, or is none,
/// there are none.
///
/// ```
/// assert_eq!(gracefully_registry::servers("etcd://a,b:1/services"), ["a:9", "b:1"]);
/// assert!(gracefully_registry::servers("file:///run/services").is_empty());
/// ```
pub fn servers(url: &str) -> Vec<String> {
    const DISCARD: u16 = 9;
    url::Url::parse(url).and_then(|url| url.servers(DISCARD)).unwrap_or_default()
}

/// The instances of a service, as whoever sends requests finds them. Only a directory and etcd, in the layout `plain`, are read here: others
/// have consumers of their own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let url = format!("file://{}", directory.path().display());
/// use std::time::Duration;
/// use gracefully_registry::{Deadline, Instance, find, open};
///
/// let soon = Deadline::within(Duration::from_secs(1));
/// let instance = Instance::new("orders", "127.0.0.1", 8080);
/// open(&url)?.register(&instance, soon)?;
/// assert_eq!(find(&url, "orders", soon)?, [instance]);
/// # Ok(()) }
/// ```
pub fn find(url: &str, service: &str, deadline: Deadline) -> Result<Vec<Instance>> {
    let parsed = url::Url::parse(url)?;
    match parsed.scheme {
        "file" => file::Directory::open(&parsed)?.find(service),
        #[cfg(feature = "http")]
        "etcd" | "etcds" => etcd::Etcd::open(&parsed)?.find(service, deadline),
        _ => {
            let _ = deadline;
            Err(parsed.error("only file and etcd are read"))
        }
    }
}

/// What this program was built with.
const KNOWN: &[&str] = &[
    "file",
    "exec",
    #[cfg(feature = "http")]
    "etcd",
    #[cfg(feature = "http")]
    "etcds",
    "zookeeper",
    #[cfg(feature = "http")]
    "consul",
    #[cfg(feature = "http")]
    "consuls",
    #[cfg(feature = "http")]
    "eureka",
    #[cfg(feature = "http")]
    "eurekas",
    #[cfg(feature = "http")]
    "nacos",
    #[cfg(feature = "http")]
    "nacoss",
];
