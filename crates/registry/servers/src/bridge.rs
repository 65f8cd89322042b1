//! What stands between a registry and a gateway that does not know it: whoever is registered is put in, and whoever is not is taken out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use crate::gate::Gateway;

/// What a watcher of a registry tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This entry is there, at this address.
    Put(String, SocketAddr),
    /// This entry is gone.
    Gone(String),
}

/// The entries of a registry in the places of a gateway.
#[derive(Debug)]
pub struct Bridge<G> {
    gateway: Arc<G>,
    /// It hears of every change so much later.
    delay: Duration,
    /// Who has which place, and at which address.
    entries: Arc<Mutex<BTreeMap<String, (usize, SocketAddr)>>>,
}

/// Another handle of the same one.
impl<G> Clone for Bridge<G> {
    fn clone(&self) -> Self {
        let Self { gateway, delay, entries } = self;
        Self { gateway: Arc::clone(gateway), delay: *delay, entries: Arc::clone(entries) }
    }
}

impl<G: Gateway> Bridge<G> {
    /// A bridge to this gateway, with no entries.
    pub fn new(gateway: Arc<G>, delay: Duration) -> Self {
        Self { gateway, delay, entries: Arc::default() }
    }

    /// Carries out a change.
    ///
    /// # Panics
    /// If there is no place left.
    pub fn apply(&self, change: Change) {
        let end = Instant::now() + self.delay;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            park_timeout(left);
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Put(id, at) => {
                let is_free = |place: &usize| entries.values().all(|(taken, _)| taken != place);
                let place = entries.get(&id).map(|(place, _)| *place);
                let place =
                    place.or_else(|| (1..=self.gateway.places()).find(is_free)).expect("a free place");
                self.gateway.put(place, at);
                entries.insert(id, (place, at));
            }
            Change::Gone(id) => {
                if let Some((place, _)) = entries.remove(&id) {
                    self.gateway.take(place);
                }
            }
        }
    }

    /// Is nobody there?
    pub fn is_empty(&self) -> bool {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The place of whoever is at this address.
    pub fn place(&self, at: SocketAddr) -> Option<usize> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().find(|(_, there)| *there == at).map(|(place, _)| *place)
    }
}
