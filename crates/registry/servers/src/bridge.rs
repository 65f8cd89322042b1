//! What stands between a registry and HAProxy, which does not know it: whoever is registered is put in, and whoever is not is taken out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gracefully_registry::Deadline;

use crate::gate::Gateway;
use crate::haproxy::{Haproxy, PLACES};

/// What a watcher of a registry tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This entry is there, at this address.
    Put(String, SocketAddr),
    /// This entry is gone.
    Gone(String),
}

/// The entries of a registry in the places of HAProxy.
#[derive(Debug)]
pub struct Bridge(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    gateway: Haproxy,
    /// It hears of every change so much later.
    delay: Duration,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// Who has which place, and at which address.
    places: BTreeMap<String, (usize, SocketAddr)>,
    /// Who had which place last: it is still counted there.
    last: BTreeMap<SocketAddr, usize>,
}

impl Bridge {
    /// A bridge to this gateway, with no entries.
    pub fn new(gateway: Haproxy, delay: Duration) -> Self {
        Self(Arc::new(Ends { gateway, delay, entries: Mutex::default() }))
    }

    /// Whoever watches a registry tells this of every change. It keeps no gateway: the watching may end later, or never.
    ///
    /// # Panics
    /// What comes out panics if there is no place left.
    pub fn carry_out(&self) -> impl FnMut(Change) + Send + 'static {
        let ends = Arc::downgrade(&self.0);
        move |change| {
            if let Some(ends) = ends.upgrade() {
                ends.apply(change);
            }
        }
    }
}

impl Ends {
    fn apply(&self, change: Change) {
        Deadline::within(self.delay).wait();
        let mut entries = self.entries();
        match change {
            Change::Put(id, at) => {
                let is_free = |place: &usize| entries.places.values().all(|(taken, _)| taken != place);
                let place = entries.places.get(&id).map(|(place, _)| *place);
                let place = place.or_else(|| (1..=PLACES).find(is_free)).expect("a free place");
                self.gateway.put(place, at);
                entries.last.insert(at, place);
                entries.places.insert(id, (place, at));
            }
            Change::Gone(id) => {
                if let Some((place, _)) = entries.places.remove(&id) {
                    self.gateway.take(place);
                }
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway for Bridge {
    fn at(&self) -> SocketAddr {
        self.0.gateway.at()
    }

    fn sends_to(&self, instance: SocketAddr) -> bool {
        self.0.entries().places.values().any(|(_, at)| *at == instance)
    }

    fn requests(&self, instance: SocketAddr) -> Option<u64> {
        let place = *self.0.entries().last.get(&instance)?;
        Some(self.0.gateway.requests(place))
    }
}
