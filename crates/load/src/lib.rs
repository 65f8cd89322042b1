//! HTTP clients that notice everything that goes wrong: for the demo, the tests and the benchmarks.
//!
//! Every client is a thread that asks, waits for the whole answer, thinks, and asks again. What happens to a request is
//! exactly one [`Outcome`]; nothing is retried behind the caller's back, so nothing is hidden. A request on a kept
//! connection that is closed before a byte of the answer came was not answered, but the client may safely ask again
//! (RFC 9112, section 9.3.1): it does, and both are counted.

mod client;
mod tally;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::client::Client;
pub use self::tally::{Outcome, Tally};

/// How long a client waits for anything before it counts that as a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What clients do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the server is.
    pub to: SocketAddr,
    /// How many clients there are.
    pub clients: usize,
    /// What they ask for.
    pub path: String,
    /// Do they keep their connections?
    pub keep_alive: bool,
    /// How long each waits after an answer before it asks again.
    pub think: Duration,
}

impl Load {
    /// So many clients, each of which asks for `/` again and again, with a connection per request.
    pub fn new(to: SocketAddr, clients: usize) -> Self {
        Self { to, clients, path: "/".to_owned(), keep_alive: false, think: Duration::ZERO }
    }

    /// Starts the clients, in the network namespace of the calling thread.
    pub fn start(self) -> Running {
        let over = Arc::new(AtomicBool::new(false));
        let load = Arc::new(self);
        let clients = (0..load.clients)
            .map(|_| {
                let (load, over) = (Arc::clone(&load), Arc::clone(&over));
                std::thread::spawn(move || one_client(&load, &over))
            })
            .collect();
        Running { over, clients }
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Running {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Running {
    /// Every client ends with the answer that it is waiting for. Returns what happened to all.
    ///
    /// # Panics
    /// If a client has.
    pub fn stop(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let tallies = self.clients.into_iter().map(|client| client.join().expect("a client does not panic"));
        tallies.fold(Tally::default(), Tally::add)
    }
}

/// An address of this host that nobody listens on. Its port is below those that the kernel gives to clients, so that none of
/// them has it when a server is restarted there; two processes that look at the same time begin far from each other.
pub fn free_address() -> Option<SocketAddr> {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    // Processes that are started one after the other have numbers one after the other.
    let skip = std::process::id() as usize * 97 % PORTS.len();
    let mut addresses =
        PORTS.cycle().skip(skip).take(PORTS.len()).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.find(|address| TcpListener::bind(address).is_ok())
}

fn one_client(load: &Load, over: &AtomicBool) -> Tally {
    let mut client = Client::new(load.to, load.keep_alive);
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let (outcome, took) = client.ask(&load.path);
        tally.count(outcome, took);
        if outcome == Outcome::Refused {
            // As fast as a client can be refused, it could do nothing else.
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if !load.think.is_zero() {
            std::thread::park_timeout(load.think);
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_address_can_be_listened_at_and_is_not_free_then() {
        let address = free_address().unwrap();
        let _listener = TcpListener::bind(address).unwrap();
        assert_ne!(free_address().unwrap(), address);
    }
}
