//! The executor on an instance that only pretends, with paused time: every wait is exact and takes no time.

use std::sync::Mutex;

use async_trait::async_trait;
use gracefully_core::event::ExitStatus;
use gracefully_core::phase::Outcome;
use gracefully_core::plan::Work;
use gracefully_core::policy::{Policy, Request, Settings};
use gracefully_core::report::Reason;
use gracefully_core::signal::Signal;
use gracefully_engine::Result;
use tokio::sync::watch;

use super::*;

/// A program that does what its fields say.
#[derive(Debug)]
struct Pretended {
    /// How long after the stop signal it exits; `None`: it ignores the signal.
    exits_after: Option<Duration>,
    kills_by_itself: bool,
    /// What the engine answers to the order to terminate.
    refuses: Mutex<Option<Error>>,
    exit: watch::Sender<Option<ExitStatus>>,
    /// What was done to it, and when.
    calls: Mutex<Vec<(&'static str, Duration)>>,
    epoch: Instant,
}

impl Pretended {
    fn new(exits_after: Option<Duration>) -> Self {
        Self {
            exits_after,
            kills_by_itself: false,
            refuses: Mutex::new(None),
            exit: watch::Sender::new(None),
            calls: Mutex::new(Vec::new()),
            epoch: Instant::now(),
        }
    }

    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push((call, self.epoch.elapsed()));
    }

    fn calls(&self) -> Vec<(&'static str, u128)> {
        self.calls.lock().unwrap().iter().map(|(call, at)| (*call, at.as_millis())).collect()
    }
}

#[async_trait]
impl Instance for Pretended {
    fn main_pid(&self) -> Option<u32> {
        None
    }

    fn kills_by_itself(&self) -> bool {
        self.kills_by_itself
    }

    async fn terminate(&self, order: &Terminate) -> Result<()> {
        self.note("terminate");
        if let Some(error) = self.refuses.lock().unwrap().take() {
            return Err(error);
        }
        match (self.exits_after, order.kill_after) {
            (Some(after), limit) if limit.is_none_or(|limit| after <= limit) => {
                sleep(after).await;
                self.exit.send_replace(Some(ExitStatus::Code(0)));
            }
            (_, Some(limit)) if self.kills_by_itself => {
                sleep(limit).await;
                self.note("killed by the engine");
                self.exit.send_replace(Some(ExitStatus::Signal(Signal::KILL)));
            }
            _ => {}
        }
        Ok(())
    }

    async fn exited(&self) -> Result<ExitStatus> {
        let mut exit = self.exit.subscribe();
        let status = exit.wait_for(Option::is_some).await.expect("the sender lives in self");
        Ok(status.expect("waited for"))
    }

    async fn kill(&self) -> Result<()> {
        self.note("kill");
        self.exit.send_replace(Some(ExitStatus::Signal(Signal::KILL)));
        Ok(())
    }

    async fn start(&self) -> Result<()> {
        self.note("start");
        Ok(())
    }

    async fn running(&self) -> Result<Option<Running>> {
        Ok(Some(Running::default()))
    }
}

fn stop(timeout: i64, then: Then) -> Stop {
    let request = Request { timeout: Some(Timeout::from_seconds(timeout)), then, ..Request::default() };
    let work = Work { ready: Duration::from_secs(30), ..Work::default() };
    Stop {
        target: Target { engine: "pretended".into(), id: "1".into(), name: "web".into() },
        plan: Plan::new(Policy::resolve(&request, &Settings::default()), work),
        requested: Requested::now(),
        discovery: None,
    }
}

/// Walks without further orders.
async fn walk_alone(instance: &Pretended, stop: Stop) -> Report {
    let (_sender, mut orders) = mpsc::unbounded_channel();
    walk(instance, stop, &mut orders, &mut |_| {}).await
}

#[tokio::test(start_paused = true)]
async fn a_program_that_exits_is_signalled_once_and_never_killed() {
    let program = Pretended::new(Some(Duration::from_millis(96)));
    let report = walk_alone(&program, stop(10, Then::Stay)).await;
    assert_eq!((report.verdict, report.reason), (Verdict::Graceful, Reason::Exited));
    assert_eq!(report.took.as_millis(), 96);
    assert_eq!(report.exit, Some(ExitStatus::Code(0)));
    assert_eq!(program.calls(), [("terminate", 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_program_that_ignores_the_signal_is_killed_at_the_deadline_and_not_before() {
    let program = Pretended::new(None);
    let report = walk_alone(&program, stop(10, Then::Stay)).await;
    assert_eq!((report.verdict, report.reason), (Verdict::Forced, Reason::Killed));
    assert_eq!(program.calls(), [("terminate", 0), ("kill", 10_000)]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_the_engine_is_never_killed_by_us() {
    let program = Pretended { kills_by_itself: true, ..Pretended::new(None) };
    let report = walk_alone(&program, stop(3, Then::Start)).await;
    assert_eq!(report.verdict, Verdict::Forced);
    assert_eq!(program.calls(), [("terminate", 0), ("killed by the engine", 3_000), ("start", 3_000)]);
}

#[tokio::test(start_paused = true)]
async fn who_asks_a_third_time_kills_now() {
    let program = Pretended::new(None);
    let (sender, mut orders) = mpsc::unbounded_channel();
    for _ in 0..2 {
        sender.send(Order::Stop { budget: None, then: Then::Stay, again: true }).unwrap();
    }
    let report = walk(&program, stop(10, Then::Stay), &mut orders, &mut |_| {}).await;
    assert_eq!(report.verdict, Verdict::Forced);
    assert!(program.calls()[1].1 <= 100, "{:?}", program.calls());
}

#[tokio::test(start_paused = true)]
async fn a_stop_makes_a_stop_of_a_restart() {
    let (sender, mut orders) = mpsc::unbounded_channel();
    sender.send(Order::Stop { budget: None, then: Then::Stay, again: false }).unwrap();
    let program = Pretended::new(Some(Duration::from_millis(50)));
    let report = walk(&program, stop(10, Then::Start), &mut orders, &mut drop).await;
    assert_eq!((report.then, report.reason), (Then::Stay, Reason::Exited));
    assert_eq!(program.calls(), [("terminate", 0)]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_after_the_signal_comes_too_late() {
    let program = Pretended::new(Some(Duration::from_secs(1)));
    let (sender, mut orders) = mpsc::unbounded_channel();
    sender.send(Order::Abort).unwrap();
    let report = walk(&program, stop(10, Then::Stay), &mut orders, &mut |_| {}).await;
    assert_eq!(report.verdict, Verdict::Graceful);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_lost_ends_the_stop_with_a_report() {
    let program = Pretended::new(None);
    let lost = Error::Lost { address: "unix:///x".into(), why: "connection reset".into() };
    *program.refuses.lock().unwrap() = Some(lost);
    let report = walk_alone(&program, stop(10, Then::Stay)).await;
    assert_eq!(report.verdict, Verdict::Failed);
    let text = "lost the Docker daemon at unix:///x: connection reset";
    assert_eq!(report.reason, Reason::EngineLost(text.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_somebody_else_ended_is_not_an_error() {
    let program = Pretended::new(None);
    *program.refuses.lock().unwrap() = Some(Error::NotRunning { id: "1".into() });
    program.exit.send_replace(Some(ExitStatus::Code(0)));
    assert_eq!(walk_alone(&program, stop(10, Then::Stay)).await.verdict, Verdict::Graceful);
}

#[tokio::test(start_paused = true)]
async fn onlookers_see_the_phases_in_their_order() {
    let program = Pretended::new(Some(Duration::from_millis(5)));
    let (_sender, mut orders) = mpsc::unbounded_channel();
    let mut seen = Vec::new();
    walk(&program, stop(10, Then::Stay), &mut orders, &mut |progress| seen.push(progress)).await;
    let began: Vec<_> = seen
        .iter()
        .filter_map(|p| if let Progress::Began(phase) = p { Some(phase.name()) } else { None })
        .collect();
    assert_eq!(began, ["terminate", "flush"]);
    let ended = seen.iter().filter(|p| matches!(p, Progress::Ended(_))).count();
    assert_eq!(ended, 6, "every phase is accounted for: {seen:?}");
}

/// A registry that takes so long to leave, and says what was asked of it.
#[derive(Debug)]
struct Registry {
    takes: Duration,
    asked: Mutex<Vec<(&'static str, u128)>>,
    epoch: Instant,
}

impl Registry {
    fn new(takes: Duration) -> Arc<Self> {
        Arc::new(Self { takes, asked: Mutex::default(), epoch: Instant::now() })
    }

    fn asked(&self) -> Vec<(&'static str, u128)> {
        self.asked.lock().unwrap().clone()
    }

    fn note(&self, what: &'static str) {
        self.asked.lock().unwrap().push((what, self.epoch.elapsed().as_millis()));
    }
}

#[async_trait]
impl Discovery for Registry {
    async fn leave(&self, within: Duration) -> std::result::Result<(), String> {
        self.note("leave");
        sleep(self.takes.min(within)).await;
        if self.takes > within { Err("too slow".to_owned()) } else { Ok(()) }
    }

    async fn rejoin(&self, _: Serving) -> std::result::Result<(), String> {
        self.note("rejoin");
        Err("it is down".to_owned())
    }

    async fn forget(&self) -> std::result::Result<(), String> {
        self.note("forget");
        Ok(())
    }
}

/// As [`stop`], of what is registered there.
fn stop_registered(registry: &Arc<Registry>, then: Then) -> Stop {
    let stop = stop(10, then);
    let work = Work { deregister: true, ..stop.plan.work };
    Stop { plan: Plan::new(stop.plan.policy, work), discovery: Some(registry.clone()), ..stop }
}

#[tokio::test(start_paused = true)]
async fn discovery_is_left_before_the_signal() {
    let (program, registry) =
        (Pretended::new(Some(Duration::from_millis(96))), Registry::new(Duration::from_millis(12)));
    let report = walk_alone(&program, stop_registered(&registry, Then::Stay)).await;
    assert_eq!(report.verdict, Verdict::Graceful);
    assert_eq!(registry.asked(), [("leave", 0), ("forget", 108)]);
    assert_eq!(program.calls(), [("terminate", 12)]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_answer_stops_no_stop() {
    let program = Pretended::new(Some(Duration::ZERO));
    let registry = Registry::new(Duration::from_secs(60));
    let report = walk_alone(&program, stop_registered(&registry, Then::Stay)).await;
    assert_eq!(report.reason, Reason::Exited);
    assert_eq!(report.steps[0].outcome, Outcome::Failed("too slow".to_owned()));
    assert_eq!(program.calls(), [("terminate", 1_950)]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_program_is_found_again_or_the_report_says_so() {
    let (program, registry) = (Pretended::new(Some(Duration::ZERO)), Registry::new(Duration::ZERO));
    let report = walk_alone(&program, stop_registered(&registry, Then::Start)).await;
    assert_eq!(registry.asked(), [("leave", 0), ("rejoin", 0)]);
    assert_eq!(report.findings[0].message, "It could not be put in again: it is down");
}
