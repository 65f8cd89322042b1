//! A small gateway: passes each connection on to one of the instances that are registered.
//!
//! It looks there twenty times a second, so that it learns of a change late, as every gateway does. It tries nothing again: what goes
//! wrong between it and an instance its client sees.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, park_timeout};
use std::time::Duration;

use gracefully_registry::{Deadline, find};

const LOOK: Duration = Duration::from_millis(50);

/// As long as a registry may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// A gateway at work, until it is dropped.
pub(super) struct Gateway {
    pub(super) at: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    registry: String,
    service: &'static str,
    instances: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
    over: AtomicBool,
}

impl Gateway {
    pub(super) fn start(registry: &str, service: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        let shared = Arc::new(Shared {
            registry: registry.to_owned(),
            service,
            instances: Mutex::default(),
            next: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        shared.look();
        let (looks, accepts) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || {
                while !looks.over.load(Ordering::Relaxed) {
                    park_timeout(LOOK);
                    looks.look();
                }
            }),
            std::thread::spawn(move || {
                for client in listener.incoming() {
                    if accepts.over.load(Ordering::Relaxed) {
                        return;
                    }
                    let (Ok(client), shared) = (client, Arc::clone(&accepts)) else { continue };
                    // What is wrong with one connection is its client's to see.
                    std::thread::spawn(move || drop(shared.pass_on(&client)));
                }
            }),
        ];
        Ok(Self { at, shared, threads })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // So that it looks whether it is over.
        let _ = TcpStream::connect(self.at);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn look(&self) {
        // A registry that does not answer changes nothing.
        let Ok(found) = find(&self.registry, self.service, Deadline::within(ANSWERED_WITHIN)) else { return };
        let mut found: Vec<SocketAddr> = found
            .into_iter()
            .filter_map(|instance| Some(SocketAddr::new(instance.address.parse().ok()?, instance.port)))
            .collect();
        found.sort_unstable();
        *self.instances.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The instance whose turn it is.
    fn choose(&self) -> Option<SocketAddr> {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        instances.get(turn.checked_rem(instances.len())?).copied()
    }

    fn pass_on(&self, mut client: &TcpStream) -> io::Result<()> {
        let instance = self
            .choose()
            .ok_or(io::ErrorKind::NotFound)
            .and_then(|to| TcpStream::connect(to).map_err(|error| error.kind()));
        let Ok(instance) = instance else {
            return client
                .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let (from, mut to) = (client.try_clone()?, instance.try_clone()?);
        let asks = std::thread::spawn(move || drop(io::copy(&mut &from, &mut to)));
        let answered = io::copy(&mut &instance, &mut client);
        // The client may wait for the end, and the other thread for the client.
        let _ = client.shutdown(Shutdown::Both);
        let _ = asks.join();
        answered.map(drop)
    }
}
