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
use futures_util::future::join_all;
use gracefully_registry::control::{Registration, registrations};
use gracefully_registry::gateway::{self, Gateway, Serving};
use gracefully_registry::{Deadline, Error, Leave, Membership};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// All the places where others find one program.
#[async_trait]
pub(crate) trait Discovery: Debug + Send + Sync {
    /// Takes the program out everywhere, by then whatever happens. The error says where it may still be found.
    async fn leave(&self, within: Duration) -> Result<(), String>;

    /// Waits until the program that was started in its place has put itself in, as the one before had. This is its main process.
    async fn found_again(&self, main: u32) {
        let _ = main;
    }

    /// Others are to find it again: the same, or the one that was started in its place.
    async fn rejoin(&self, who: Serving) -> Result<(), String>;

    /// It has ended, and nobody is there in its place.
    async fn forget(&self) -> Result<(), String> {
        Ok(())
    }

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

    async fn rejoin(&self, _: Serving) -> Result<(), String> {
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
        at_once(Arc::clone(&self.0), move |gateway| ask(gateway.as_mut()).map_err(|error| error.to_string()))
            .await
    }
}

/// Asks all of them at once, off the runtime. The error names those that did not do it.
async fn at_once<T: Send + 'static>(
    asked: Arc<Mutex<Vec<T>>>,
    ask: impl Fn(&mut T) -> Result<(), String> + Send + Sync + 'static,
) -> Result<(), String> {
    let asking = spawn_blocking(move || {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = &ask;
        let wrong: Vec<String> = std::thread::scope(|scope| {
            // All of them before the first is waited for.
            let asking: Vec<_> = asked.iter_mut().map(|one| scope.spawn(move || ask(one))).collect();
            asking.into_iter().filter_map(|asking| asking.join().ok()?.err()).collect()
        });
        all_well(&wrong)
    });
    asking.await.map_err(|error| error.to_string())?
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

    async fn rejoin(&self, who: Serving) -> Result<(), String> {
        self.each(move |gateway| gateway.undrain(who, Deadline::within(ASKED_WITHIN))).await
    }

    async fn forget(&self) -> Result<(), String> {
        self.each(|gateway| gateway.forget(Deadline::within(ASKED_WITHIN))).await
    }

    fn settle(&self) -> Duration {
        let gateways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.iter().map(|gateway| gateway.settle()).max().unwrap_or_default()
    }
}

/// Registrations that the program holds itself, or a sidecar of it, by `gracefully register` or the library. At the stop signal they would leave
/// too late: by then new connections are refused.
#[derive(Debug)]
struct Insiders {
    held: Arc<Mutex<Vec<Registration>>>,
    settle: Duration,
}

/// How often a restarted program is looked at, whether it is registered again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Insiders {
    /// Those in a container, or of a plain process, by its main process; `None`, if there are none.
    async fn of(main: u32) -> Option<Self> {
        let held = spawn_blocking(move || registrations(main)).await.unwrap_or_default();
        let settle = held.iter().map(Registration::settle).max()?;
        Some(Self { held: Arc::new(Mutex::new(held)), settle })
    }
}

#[async_trait]
impl Discovery for Insiders {
    async fn leave(&self, within: Duration) -> Result<(), String> {
        let deadline = Deadline::within(within);
        at_once(Arc::clone(&self.held), move |registration| registration.leave(deadline)).await
    }

    async fn found_again(&self, main: u32) {
        let before = self.held.lock().unwrap_or_else(PoisonError::into_inner).len();
        let found = async || spawn_blocking(move || registrations(main).len()).await;
        while found().await.is_ok_and(|now| now < before) {
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn rejoin(&self, who: Serving) -> Result<(), String> {
        match who {
            Serving::TheSame => {
                let deadline = Deadline::within(ASKED_WITHIN);
                at_once(Arc::clone(&self.held), move |registration| registration.rejoin(deadline)).await
            }
            // It has done so itself.
            Serving::ANewOne => Ok(()),
        }
    }

    fn settle(&self) -> Duration {
        self.settle
    }
}

/// Several kinds of places.
#[derive(Debug)]
struct Everywhere(Vec<Arc<dyn Discovery>>);

/// Gateways, and what is registered in the program with this main process; `None`, if there are none.
pub(crate) async fn everywhere(
    gateways: Option<Arc<dyn Discovery>>,
    main: Option<u32>,
) -> Option<Arc<dyn Discovery>> {
    let insiders = match main {
        Some(main) => Insiders::of(main).await.map(|insiders| Arc::new(insiders) as Arc<dyn Discovery>),
        None => None,
    };
    match (gateways, insiders) {
        (Some(gateways), Some(insiders)) => Some(Arc::new(Everywhere(vec![gateways, insiders]))),
        (gateways, insiders) => gateways.or(insiders),
    }
}

#[async_trait]
impl Discovery for Everywhere {
    async fn leave(&self, within: Duration) -> Result<(), String> {
        all(self.0.iter().map(|place| place.leave(within))).await
    }

    async fn found_again(&self, main: u32) {
        join_all(self.0.iter().map(|place| place.found_again(main))).await;
    }

    async fn rejoin(&self, who: Serving) -> Result<(), String> {
        all(self.0.iter().map(|place| place.rejoin(who))).await
    }

    async fn forget(&self) -> Result<(), String> {
        all(self.0.iter().map(|place| place.forget())).await
    }

    fn settle(&self) -> Duration {
        self.0.iter().map(|place| place.settle()).max().unwrap_or_default()
    }
}

/// All of them at once.
async fn all(asked: impl Iterator<Item = impl Future<Output = Result<(), String>>>) -> Result<(), String> {
    let wrong: Vec<String> = join_all(asked).await.into_iter().filter_map(Result::err).collect();
    all_well(&wrong)
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
    async fn rejoin(&self, _: Serving) -> Result<(), String> {
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
    /// Has somebody outside had it leave?
    pub(crate) fn is_out(&self) -> bool {
        match self {
            Self::Made(member) => member.settling().is_out(),
            Self::Begun(_) => false,
        }
    }

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
    leave.outcome().err().map(|error| match error {
        Error::StillFound => format!("{name}: {error}"),
        // The others name their registry.
        error => error.to_string(),
    })
}
