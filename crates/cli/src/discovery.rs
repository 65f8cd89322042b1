//! Where others find a program, as far as its stop has to do with it.
//!
//! A walk ([`drive`](crate::drive)) leaves every place before anything else, and comes back when the stop is taken back or the program
//! runs again. What a place is, a registry or a gateway, it does not know.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, park_timeout};
use std::time::Duration;

use async_trait::async_trait;
use gracefully_registry::gateway::{self, Gateway};
use gracefully_registry::{Deadline, Error, Gone, Leave, Membership};
use tokio::task::spawn_blocking;

/// All the places where others find one program.
#[async_trait]
pub(crate) trait Discovery: Debug + Send + Sync {
    /// Takes the program out everywhere, by then whatever happens. The error says where it may still be found.
    async fn leave(&self, within: Duration) -> Result<(), String>;

    /// Puts it in again.
    async fn rejoin(&self) -> Result<(), String>;

    /// Requests may come for so long after it has left.
    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}

/// Registrations that are ours. Whoever has left them does not come back: for that one registers again.
#[derive(Debug)]
pub(crate) struct Members(Mutex<Vec<(String, Held)>>);

impl Members {
    /// The registries by name, and what we are there.
    pub(crate) fn new(members: Vec<(String, Held)>) -> Self {
        Self(Mutex::new(members))
    }
}

#[async_trait]
impl Discovery for Members {
    async fn leave(&self, within: Duration) -> Result<(), String> {
        let members = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let left = spawn_blocking(move || leave(members, Deadline::within(within))).await;
        left.map_err(|error| error.to_string())?
    }

    async fn rejoin(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Gateways that are told from outside, for a program that somebody else has registered, or nobody.
#[derive(Debug)]
pub(crate) struct Gateways(Arc<Mutex<Vec<Box<dyn Gateway>>>>);

/// How long a gateway may take to say whether it knows the program, and to put it in again.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// How often a gateway is asked whether nothing is under way any more.
const LOOK: Duration = Duration::from_millis(10);

impl Gateways {
    /// Those that these URLs name; `None`, if there are none. With `is_resumed`, another of our processes has told them already, and was
    /// lost.
    pub(crate) fn open(urls: &[String], is_resumed: bool) -> Result<Option<Self>, Error> {
        let mut gateways = urls.iter().map(|url| gateway::open(url)).collect::<Result<Vec<_>, _>>()?;
        if is_resumed {
            for gateway in &mut gateways {
                gateway.resume();
            }
        }
        Ok((!gateways.is_empty()).then(|| Self(Arc::new(Mutex::new(gateways)))))
    }

    /// Fails if one of them does not know the program.
    pub(crate) async fn check(&self) -> Result<(), String> {
        self.each(|gateway| gateway.check(Deadline::within(ASKED_WITHIN))).await
    }

    /// Asks all of them at once. The error names those that did not do it.
    async fn each(
        &self,
        ask: impl Fn(&mut dyn Gateway) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<(), String> {
        let gateways = Arc::clone(&self.0);
        let asked = spawn_blocking(move || {
            let mut gateways = gateways.lock().unwrap_or_else(PoisonError::into_inner);
            let ask = &ask;
            let wrong: Vec<String> = std::thread::scope(|scope| {
                let asking = gateways.iter_mut().map(|gateway| scope.spawn(move || ask(gateway.as_mut())));
                // All of them before the first is waited for.
                let asking: Vec<_> = asking.collect();
                let answers = asking.into_iter().filter_map(|asking| asking.join().ok()?.err());
                answers.map(|error| error.to_string()).collect()
            });
            all_well(&wrong)
        });
        asked.await.map_err(|error| error.to_string())?
    }
}

#[async_trait]
impl Discovery for Gateways {
    async fn leave(&self, within: Duration) -> Result<(), String> {
        let deadline = Deadline::within(within);
        self.each(move |gateway| {
            gateway.drain("stopped by gracefully", deadline)?;
            // Whatever is under way then is seen again, and longer, when the program is drained.
            while !gateway.is_idle(deadline)? && deadline.left() > LOOK {
                park_timeout(LOOK);
            }
            Ok(())
        })
        .await
    }

    async fn rejoin(&self) -> Result<(), String> {
        self.each(|gateway| gateway.undrain(Deadline::within(ASKED_WITHIN))).await
    }

    fn settle(&self) -> Duration {
        let gateways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.iter().map(|gateway| gateway.settle()).max().unwrap_or_default()
    }
}

/// Places that cannot be left, because of this.
#[derive(Debug)]
pub(crate) struct Unreachable(pub(crate) String);

#[async_trait]
impl Discovery for Unreachable {
    async fn leave(&self, _: Duration) -> Result<(), String> {
        Err(self.0.clone())
    }

    /// It has never been left.
    async fn rejoin(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A registration of ours.
#[derive(Debug)]
pub(crate) enum Held {
    Made(Membership),
    /// It is on its way. A registry that does not answer must keep nobody, and one that answers late has us in it.
    Begun(JoinHandle<Result<Membership, Error>>),
}

impl Held {
    /// `None`: it was not made.
    fn made(self) -> Option<Membership> {
        match self {
            Self::Made(member) => Some(member),
            Self::Begun(registers) => registers.join().ok()?.ok(),
        }
    }
}

/// Leaves all of them at once. The error names those where it may still be found.
pub(crate) fn leave(members: Vec<(String, Held)>, deadline: Deadline) -> Result<(), String> {
    let (tell, told) = channel();
    let mut silent: BTreeMap<usize, String> = BTreeMap::new();
    for (at, (name, held)) in members.into_iter().enumerate() {
        silent.insert(at, name.clone());
        let tell = tell.clone();
        std::thread::spawn(move || {
            let why = held.made().and_then(|member| why_not_gone(&name, member.leave(deadline)));
            // Whoever did not want to wait so long does not hear it.
            let _ = tell.send((at, why));
        });
    }
    drop(tell);
    let mut wrong = Vec::new();
    while let Ok((at, why)) = told.recv_timeout(deadline.left() + HEARTBEAT_ENDS_WITHIN) {
        silent.remove(&at);
        wrong.extend(why);
    }
    wrong.extend(silent.into_values().map(|name| format!("{name}: it does not answer")));
    all_well(&wrong)
}

/// Unless something went wrong.
fn all_well(wrong: &[String]) -> Result<(), String> {
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// Leaving may take so much longer than its deadline: see [`Membership::leave`].
const HEARTBEAT_ENDS_WITHIN: Duration = Duration::from_millis(600);

/// `None`: it is out.
fn why_not_gone(name: &str, leave: Leave) -> Option<String> {
    match (leave.left, leave.gone) {
        (Ok(_), Gone::Yes) => None,
        // These errors name their registry.
        (Err(error), _) | (Ok(_), Gone::Unknown(error)) => Some(error.to_string()),
        (Ok(_), Gone::No) => Some(format!("{name}: consumers find it still")),
    }
}
