//! An instance that is registered, kept alive, and taken out in the right order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use crate::control::{Control, Order};
use crate::{Alive, Deadline, Error, Instance, Left, Registry, Result};

/// A registry that does not answer for so long is not going to.
const REGISTERED_WITHIN: Duration = Duration::from_secs(5);

/// A heartbeat takes so long at most: whoever leaves waits for one that is on its way.
const HEARTBEAT_WITHIN: Duration = Duration::from_millis(500);

/// How often taking it out is tried, how long each time, and how long in all.
const TRIES: u32 = 3;
const TRY_WITHIN: Duration = Duration::from_millis(700);
const LEFT_WITHIN: Duration = Duration::from_secs(2);

/// Then it is looked for as long as this, this often.
const GONE_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// An instance that is registered, as long as this lives or until it [leaves](Self::leave).
///
/// Whoever drops it leaves it to the registry to find out: the heartbeat ends, and the entry with its time to live.
///
/// Meanwhile somebody outside may have it leave, to stop its program, and come back ([`control`](crate::control)).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let url = format!("file://{}", directory.path().display());
/// use std::time::Duration;
/// use gracefully_registry::{Deadline, Instance, Membership, file, open};
///
/// let instance = Instance::new("orders", "127.0.0.1", 8080);
/// let member = Membership::join(open(&url)?, instance.clone(), |news| eprintln!("{news}"))?;
/// assert_eq!(file::instances(directory.path(), "orders"), [instance]);
/// let leave = member.leave(Deadline::within(Duration::from_secs(3)));
/// assert!(leave.is_gone());
/// assert_eq!(file::instances(directory.path(), "orders"), []);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Membership {
    settling: Settling,
    /// Dropping it stops the heartbeat.
    orders: Arc<Sender<Order>>,
    heart: JoinHandle<Box<dyn Registry>>,
    /// `None`: nobody outside can have it leave.
    _control: Option<Control>,
}

/// How long a membership has to settle after it has left. Outlives it.
#[derive(Clone, Debug)]
pub struct Settling {
    hint: Duration,
    is_out: Arc<AtomicBool>,
}

impl Settling {
    /// As long as its registry says; not at all, if somebody outside has had it leave: they settle before they signal.
    pub fn time(&self) -> Duration {
        if self.is_out() { Duration::ZERO } else { self.hint }
    }

    /// Has somebody outside had it leave?
    pub fn is_out(&self) -> bool {
        self.is_out.load(Ordering::Relaxed)
    }
}

/// How an instance has left.
#[derive(Debug)]
pub struct Leave {
    /// What the registry has said in the end.
    pub left: Result<Left>,
    /// What consumers find.
    pub gone: Gone,
    /// All of it.
    pub took: Duration,
}

impl Leave {
    /// No consumer finds it any more.
    pub fn is_gone(&self) -> bool {
        matches!(self.gone, Gone::Yes)
    }

    /// Why it may still be found, unless it is out.
    pub fn outcome(self) -> Result<()> {
        match (self.left, self.gone) {
            (Ok(_), Gone::Yes) => Ok(()),
            (Err(error), _) | (Ok(_), Gone::Unknown(error)) => Err(error),
            (Ok(_), Gone::No) => Err(Error::StillFound),
        }
    }
}

/// Does a consumer still find the instance that has left?
#[derive(Debug)]
pub enum Gone {
    /// No.
    Yes,
    /// Yes, as long as there was time to look.
    No,
    /// Nobody could be asked.
    Unknown(Error),
}

impl Membership {
    /// Registers an instance and keeps it alive. What goes wrong later, and is repaired, is told in words.
    ///
    /// Fails as [`Registry::register`] does; then nothing is registered: if it may be, because the answer was lost, it is taken out.
    pub fn join(
        mut registry: Box<dyn Registry>,
        instance: Instance,
        tell: impl Fn(&str) + Send + 'static,
    ) -> Result<Self> {
        let hints = registry.hints();
        let settling = Settling { hint: hints.settle, is_out: Arc::default() };
        let (orders, ordered) = channel();
        let orders = Arc::new(orders);
        let control = match Control::open(&instance.id, hints, Arc::downgrade(&orders)) {
            Ok(control) => Some(control),
            Err(error) => {
                tell(&format!("a stop from outside cannot have it leave first: {error}"));
                None
            }
        };
        // Whoever wants it out while it is on its way in has not come too early.
        if let Err(error) = registry.register(&instance, Deadline::within(REGISTERED_WITHIN)) {
            let _ = registry.deregister(Deadline::within(TRY_WITHIN));
            return Err(error);
        }
        let is_out = Arc::clone(&settling.is_out);
        let beat = move || {
            let mut heart = Heart { registry, instance, tell, is_out, away: 0, wrong: None };
            heart.beat(&ordered);
            heart.registry
        };
        let heart = Builder::new().name("heartbeat".into()).spawn(beat).map_err(|error| Error::Failed {
            registry: "heartbeat".into(),
            why: format!("there is no thread for it: {error}"),
        })?;
        Ok(Self { settling, orders, heart, _control: control })
    }

    /// How long it has to settle after it has left.
    pub fn settling(&self) -> &Settling {
        &self.settling
    }

    /// Takes it out: see [the order](crate). Whatever happens it returns by the deadline, but for half a second that a heartbeat on
    /// its way may take.
    pub fn leave(self, deadline: Deadline) -> Leave {
        let began = Instant::now();
        drop(self.orders);
        let Ok(mut registry) = self.heart.join() else {
            let panicked =
                || Error::Failed { registry: "heartbeat".into(), why: "its heartbeat has panicked".into() };
            return Leave { left: Err(panicked()), gone: Gone::Unknown(panicked()), took: began.elapsed() };
        };
        if self.settling.is_out() {
            return Leave { left: Ok(Left::Before), gone: Gone::Yes, took: began.elapsed() };
        }
        let leave = leave(registry.as_mut(), deadline);
        Leave { took: began.elapsed(), ..leave }
    }
}

/// Out, and looked for.
fn leave(registry: &mut dyn Registry, deadline: Deadline) -> Leave {
    let began = Instant::now();
    let left = take_out(registry, deadline.at_most(LEFT_WITHIN));
    let gone = look(registry, deadline.at_most(GONE_WITHIN));
    Leave { left, gone, took: began.elapsed() }
}

/// Keeps it alive on a thread of its own.
struct Heart<T> {
    registry: Box<dyn Registry>,
    instance: Instance,
    tell: T,
    /// It was taken out, and no consumer finds it, because somebody outside wants that.
    is_out: Arc<AtomicBool>,
    /// How many want that.
    away: u32,
    /// What is wrong, said once for each time that it is.
    wrong: Option<String>,
}

impl<T: Fn(&str)> Heart<T> {
    /// Until nobody can give orders any more.
    fn beat(&mut self, ordered: &Receiver<Order>) {
        loop {
            // A registry may have been granted another time meanwhile.
            match ordered.recv_timeout(self.registry.hints().beat) {
                Err(RecvTimeoutError::Timeout) if self.away == 0 => self.keep_alive(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                // Whoever does not want to hear it any more has left.
                Ok(Order::Leave(deadline, told)) => drop(told.send(self.leave(deadline))),
                Ok(Order::Return(told)) => drop(told.send(self.come_back())),
            }
        }
    }

    fn keep_alive(&mut self) {
        let done =
            self.registry.keep_alive(Deadline::within(HEARTBEAT_WITHIN)).and_then(|alive| match alive {
                Alive::Yes => Ok(()),
                Alive::Lost => {
                    (self.tell)("the registration was lost, and is made again");
                    self.registry.register(&self.instance, Deadline::within(HEARTBEAT_WITHIN))
                }
            });
        self.say(done);
    }

    fn say(&mut self, done: Result<()>) {
        let now = done.err().map(|error| error.to_string());
        if let Some(why) = now.as_ref().filter(|_| now != self.wrong) {
            (self.tell)(why);
        }
        self.wrong = now;
    }

    fn leave(&mut self, deadline: Deadline) -> std::result::Result<(), String> {
        self.away += 1;
        if self.is_out.load(Ordering::Relaxed) {
            return Ok(());
        }
        leave(self.registry.as_mut(), deadline).outcome().map_err(|error| error.to_string())?;
        self.is_out.store(true, Ordering::Relaxed);
        (self.tell)("left, as a stop from outside has begun");
        Ok(())
    }

    /// A registration that fails now is made with the next heartbeat.
    fn come_back(&mut self) -> std::result::Result<(), String> {
        self.away -= 1;
        if self.away > 0 {
            return Ok(());
        }
        self.is_out.store(false, Ordering::Relaxed);
        let registered = self.registry.register(&self.instance, Deadline::within(TRY_WITHIN));
        if registered.is_ok() {
            (self.tell)("registered again, as the stop from outside was taken back");
        }
        self.say(registered);
        self.wrong.clone().map_or(Ok(()), Err)
    }
}

fn take_out(registry: &mut dyn Registry, deadline: Deadline) -> Result<Left> {
    let mut left = registry.deregister(deadline.at_most(TRY_WITHIN));
    for _ in 1..TRIES {
        if left.is_ok() || deadline.left().is_zero() {
            break;
        }
        park_timeout(deadline.left().min(LOOK));
        left = registry.deregister(deadline.at_most(TRY_WITHIN));
    }
    left
}

/// Looks at least once.
fn look(registry: &mut dyn Registry, deadline: Deadline) -> Gone {
    loop {
        let seen = match registry.is_visible(deadline) {
            Ok(false) => return Gone::Yes,
            Ok(true) => Gone::No,
            Err(error) => Gone::Unknown(error),
        };
        if deadline.left().is_zero() {
            return seen;
        }
        park_timeout(deadline.left().min(LOOK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{Mutex, MutexGuard};

    use crate::Hints;
    use crate::control::{Registration, registrations};

    /// A registry of which the test says how it answers, and sees what was asked.
    #[derive(Clone, Debug, Default)]
    struct Script {
        state: Arc<Mutex<State>>,
    }

    #[derive(Debug, Default)]
    struct State {
        asked: Vec<&'static str>,
        is_registered: bool,
        is_down: bool,
        /// How long each answer takes.
        slow: Duration,
        /// Consumers find it this many times more.
        found: u32,
    }

    impl Script {
        fn state(&self) -> MutexGuard<'_, State> {
            self.state.lock().unwrap()
        }

        fn answer<T>(
            &self,
            what: &'static str,
            deadline: Deadline,
            answer: impl FnOnce(&mut State) -> T,
        ) -> Result<T> {
            let slow = self.state().slow;
            let late = slow > deadline.left();
            deadline.at_most(slow).wait();
            let mut state = self.state();
            state.asked.push(what);
            if late || state.is_down {
                return Err(Error::Failed { registry: "script".into(), why: "no answer".into() });
            }
            Ok(answer(&mut state))
        }

        fn times_asked(&self, what: &str) -> usize {
            self.state().asked.iter().filter(|asked| **asked == what).count()
        }

        /// Waits until it was asked so often.
        fn is_asked(&self, what: &str, times: usize) {
            let began = Instant::now();
            while self.times_asked(what) < times {
                assert!(began.elapsed() < Duration::from_secs(10), "{:?}", self.state().asked);
                park_timeout(Duration::from_millis(1));
            }
        }
    }

    impl Registry for Script {
        fn register(&mut self, _: &Instance, deadline: Deadline) -> Result<()> {
            self.answer("register", deadline, |state| state.is_registered = true)
        }

        fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
            self.answer("beat", deadline, |state| if state.is_registered { Alive::Yes } else { Alive::Lost })
        }

        fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
            self.answer("leave", deadline, |state| {
                if std::mem::take(&mut state.is_registered) { Left::Now } else { Left::Before }
            })
        }

        fn is_visible(&mut self, deadline: Deadline) -> Result<bool> {
            self.answer("look", deadline, |state| {
                let found = state.found > 0;
                state.found = state.found.saturating_sub(1);
                found || state.is_registered
            })
        }

        fn hints(&self) -> Hints {
            let ms = Duration::from_millis;
            Hints { beat: ms(10), settle: ms(0), crash_after: ms(30) }
        }
    }

    fn joined(script: &Script) -> (Membership, Instance) {
        let instance = Instance::new("web", "127.0.0.1", 80);
        let member = Membership::join(Box::new(script.clone()), instance.clone(), |_| {}).unwrap();
        (member, instance)
    }

    fn join(script: &Script) -> Membership {
        joined(script).0
    }

    const SOON: Duration = Duration::from_secs(3);

    #[test]
    fn after_the_leave_no_heartbeat_comes() {
        let script = Script::default();
        let member = join(&script);
        script.is_asked("beat", 3);
        let leave = member.leave(Deadline::within(SOON));
        assert!(matches!(leave.left, Ok(Left::Now)) && leave.is_gone());
        let asked = script.state().asked.clone();
        let at = asked.iter().position(|asked| *asked == "leave").unwrap();
        assert_eq!(asked[at..], ["leave", "look"], "{asked:?}");
    }

    #[test]
    fn what_was_lost_is_registered_again_until_it_leaves() {
        let script = Script::default();
        let member = join(&script);
        script.state().is_registered = false;
        script.is_asked("register", 2);
        script.state().is_registered = false;
        let leave = member.leave(Deadline::within(SOON));
        assert!(leave.left.is_ok() && leave.is_gone());
        assert!(!script.state().is_registered, "nothing brings it back");
    }

    #[test]
    fn it_is_looked_for_until_no_consumer_finds_it() {
        let script = Script::default();
        let member = join(&script);
        script.state().found = 3;
        assert!(member.leave(Deadline::within(SOON)).is_gone());
        assert_eq!(script.times_asked("look"), 4);
    }

    #[test]
    fn a_registry_that_is_down_is_asked_three_times_and_keeps_nobody() {
        let script = Script::default();
        let member = join(&script);
        script.state().is_down = true;
        let leave = member.leave(Deadline::within(Duration::from_millis(600)));
        assert!(leave.left.is_err() && !leave.is_gone());
        assert_eq!(script.times_asked("leave"), 3);
        assert!(leave.took < Duration::from_secs(2), "{:?}", leave.took);
    }

    #[test]
    fn a_slow_registry_keeps_nobody_beyond_the_deadline() {
        let script = Script::default();
        let member = join(&script);
        script.state().slow = Duration::from_secs(60);
        let leave = member.leave(Deadline::within(Duration::from_millis(800)));
        assert!(leave.left.is_err() && !leave.is_gone());
        assert!(leave.took < Duration::from_secs(3), "{:?}", leave.took);
    }

    #[test]
    fn whoever_cannot_register_is_no_member() {
        let script = Script::default();
        script.state().is_down = true;
        let instance = Instance::new("web", "127.0.0.1", 80);
        let error = Membership::join(Box::new(script.clone()), instance, |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "script: no answer");
        assert_eq!(script.state().asked, ["register", "leave"], "the answer may have been lost");
    }

    /// As somebody outside finds it; other tests of this process have registrations, too.
    fn from_outside(id: &str) -> Registration {
        let mut all = registrations(std::process::id());
        all.retain(|registration| registration.id() == Some(id));
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn somebody_outside_has_it_leave_and_come_back() {
        let script = Script::default();
        let (member, instance) = joined(&script);
        let mut outside = from_outside(&instance.id);
        assert_eq!(outside.settle(), Duration::ZERO);
        assert_eq!(outside.leave(Deadline::within(SOON)), Ok(()));
        assert!(member.settling().is_out() && !script.state().is_registered);
        let asked = script.state().asked.len();
        park_timeout(Duration::from_millis(50));
        assert_eq!(script.state().asked.len(), asked, "its heart has stopped");

        assert_eq!(outside.rejoin(Deadline::within(SOON)), Ok(()));
        assert!(!member.settling().is_out() && script.state().is_registered);
        script.is_asked("beat", script.times_asked("beat") + 2);
    }

    #[test]
    fn it_is_out_as_long_as_somebody_wants_that() {
        let script = Script::default();
        let (member, instance) = joined(&script);
        let (mut one, mut other) = (from_outside(&instance.id), from_outside(&instance.id));
        assert_eq!(one.leave(Deadline::within(SOON)), Ok(()));
        assert_eq!(other.leave(Deadline::within(SOON)), Ok(()));
        assert_eq!(script.times_asked("leave"), 1);
        assert_eq!(one.rejoin(Deadline::within(SOON)), Ok(()));
        assert!(member.settling().is_out());
        // It is lost.
        drop(other);
        script.is_asked("register", 2);
        script.is_asked("beat", script.times_asked("beat") + 1);
        assert!(!member.settling().is_out());
    }

    #[test]
    fn whoever_is_lost_before_it_hears_the_answer_has_changed_nothing() {
        let script = Script::default();
        let (member, instance) = joined(&script);
        let outside = from_outside(&instance.id);
        script.state().slow = Duration::from_millis(100);
        outside.order_and_go("leave 5000");
        script.is_asked("leave", 1);
        script.state().slow = Duration::ZERO;
        script.is_asked("register", 2);
        script.is_asked("beat", script.times_asked("beat") + 1);
        assert!(!member.settling().is_out());
    }

    #[test]
    fn whoever_was_had_to_leave_need_not_leave_again() {
        let script = Script::default();
        let (member, instance) = joined(&script);
        let mut outside = from_outside(&instance.id);
        assert_eq!(outside.leave(Deadline::within(SOON)), Ok(()));
        let leave = member.leave(Deadline::within(SOON));
        assert!(matches!(leave.left, Ok(Left::Before)) && leave.is_gone());
        assert_eq!(script.times_asked("leave"), 1);
        drop(outside);
        assert_eq!(
            registrations(std::process::id()).iter().filter(|it| it.id() == Some(&instance.id)).count(),
            0
        );
        assert_eq!(script.times_asked("register"), 1, "nothing brings it back");
    }

    #[test]
    fn somebody_outside_hears_that_it_could_not_leave() {
        let script = Script::default();
        let (member, instance) = joined(&script);
        script.state().is_down = true;
        let mut outside = from_outside(&instance.id);
        let left = outside.leave(Deadline::within(Duration::from_millis(600)));
        assert_eq!(left, Err("script: no answer".into()));
        // Its heart has stopped all the same, and at the signal it tries again.
        script.state().is_down = false;
        let leave = member.leave(Deadline::within(SOON));
        assert!(leave.is_gone() && !script.state().is_registered);
    }

    #[test]
    fn nonsense_changes_nothing() {
        for words in ["", "leave", "leave soon", "return", "leave -1", "hello"] {
            let script = Script::default();
            let (member, instance) = joined(&script);
            let mut outside = from_outside(&instance.id);
            assert_eq!(outside.say(words), "", "{words:?}");
            assert!(!member.settling().is_out() && script.times_asked("leave") == 0, "{words:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_once() {
        let script = Script::default();
        let (says, said) = channel();
        let member =
            Membership::join(Box::new(script.clone()), Instance::new("web", "127.0.0.1", 80), move |news| {
                let _ = says.send(news.to_owned());
            })
            .unwrap();
        script.state().is_down = true;
        script.is_asked("beat", 5);
        script.state().is_down = false;
        script.is_asked("beat", 7);
        drop(member.leave(Deadline::within(SOON)));
        assert_eq!(said.iter().collect::<Vec<_>>(), ["script: no answer"]);
    }
}
