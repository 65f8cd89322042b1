//! The stop of a service, in paused time: every wait is exact and takes no time.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gracefully::{Builder, Cause, Phase, Rejected, Shutdown, Verdict};
use gracefully_core::phase::Outcome;
use gracefully_core::report::{Part, Reason, Report};
use tokio::time::{Instant, sleep};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn builder() -> Builder {
    Shutdown::builder().budget(ms(10_000)).settle(Duration::ZERO).reserve(ms(1_000)).without_signals()
}

/// What happened, in its order, and when.
#[derive(Clone, Debug)]
struct Log {
    began: Instant,
    lines: Arc<Mutex<Vec<(String, u128)>>>,
}

impl Log {
    fn new() -> Self {
        Self { began: Instant::now(), lines: Arc::default() }
    }

    fn say(&self, what: &str) {
        self.lines.lock().unwrap().push((what.to_owned(), self.began.elapsed().as_millis()));
    }

    fn lines(&self) -> Vec<(String, u128)> {
        self.lines.lock().unwrap().clone()
    }
}

fn outcomes(report: &Report) -> Vec<(&str, &Outcome)> {
    report.parts.iter().map(|part: &Part| (part.name.as_str(), &part.outcome)).collect()
}

#[tokio::test(start_paused = true)]
async fn phases_in_their_order_and_hooks_of_one_at_once() {
    let shutdown = builder().install().unwrap();
    let log = Log::new();
    for (phase, name, takes) in [
        (Phase::Flush, "flush", 10),
        (Phase::Deregister, "slow registry", 300),
        (Phase::Deregister, "registry", 200),
        (Phase::Drain, "queue", 100),
    ] {
        let log = log.clone();
        shutdown.on(phase, name, async move |_| {
            log.say(&format!("{name} begins"));
            sleep(ms(takes)).await;
            log.say(&format!("{name} ends"));
        });
    }
    let task = log.clone();
    shutdown
        .spawn("task", async move |token| {
            token.requested().await;
            task.say("task is told");
            sleep(ms(50)).await;
        })
        .unwrap();
    sleep(ms(1_000)).await;
    assert!(!shutdown.is_requested());
    shutdown.trigger("test");
    let ended = shutdown.wait().await;

    let mut lines = log.lines();
    // The two begin in the same moment.
    lines.sort_by_key(|(_, at)| *at);
    let order: Vec<(&str, u128)> = lines.iter().map(|(line, at)| (line.as_str(), at - 1_000)).collect();
    assert_eq!(order[2..6], [("registry ends", 200), ("slow registry ends", 300), order[4], order[5]]);
    assert!(
        order[4..6].contains(&("queue begins", 300)) && order[4..6].contains(&("task is told", 300)),
        "{order:?}"
    );
    assert_eq!(order[6..], [("queue ends", 400), ("flush begins", 400), ("flush ends", 410)]);
    assert_eq!((ended.report().verdict, ended.code()), (Verdict::Graceful, 0));
    assert_eq!(ended.report().took, ms(410));
    assert!(shutdown.is_requested());
}

#[tokio::test(start_paused = true)]
async fn nothing_to_do_takes_no_time() {
    let shutdown = builder().install().unwrap();
    shutdown.trigger("test");
    let ended = shutdown.wait().await;
    assert_eq!((ended.report().took, ended.code()), (Duration::ZERO, 0));
    assert_eq!(ended.to_string(), "graceful: stopped after 0.00 s of 10 s");
}

#[tokio::test(start_paused = true)]
async fn whoever_hangs_is_named_and_flush_has_its_time() {
    let shutdown = builder().install().unwrap();
    let log = Log::new();
    shutdown.on(Phase::Deregister, "registry", async |_| sleep(ms(60_000)).await);
    shutdown.spawn("deaf", async |_| sleep(ms(60_000)).await).unwrap();
    let guard = shutdown.guard("leaked").unwrap();
    let flushed = log.clone();
    shutdown.on(Phase::Flush, "journal", async move |context| {
        assert_eq!(context.remaining(), ms(1_000));
        sleep(ms(500)).await;
        flushed.say("flushed");
    });
    shutdown.trigger("test");
    let ended = shutdown.wait().await;
    assert_eq!(log.lines(), [("flushed".to_owned(), 9_500)]);
    let report = ended.report();
    assert_eq!(
        outcomes(report),
        [
            ("registry", &Outcome::Late),
            ("deaf", &Outcome::Late),
            ("leaked", &Outcome::Late),
            ("journal", &Outcome::Done)
        ]
    );
    assert_eq!((report.verdict, &report.reason, ended.code()), (Verdict::Forced, &Reason::Cut(2), 1));
    assert!(ended.to_string().contains("leaked (drain): not finished after 9.0s"), "{ended}");
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_stop_nothing() {
    let shutdown = builder().install().unwrap();
    let log = Log::new();
    shutdown.on(Phase::Deregister, "registry", async |context: gracefully::Context| {
        assert!(context.remaining().is_zero(), "no such registry");
    });
    shutdown.on(Phase::Drain, "queue", async |_| Err::<(), _>("the queue is full"));
    shutdown
        .spawn("task", async |token| {
            token.requested().await;
            panic!("oh");
        })
        .unwrap();
    let flushed = log.clone();
    shutdown.on(Phase::Flush, "journal", async move |_| flushed.say("flushed"));
    shutdown.on(Phase::Flush, "cache", async |_| Err::<(), _>("disk full"));
    shutdown.trigger("test");
    let ended = shutdown.wait().await;
    assert_eq!(log.lines().len(), 1);
    let failed = |why: &str| Outcome::Failed(why.to_owned());
    let mut found = outcomes(ended.report());
    found.sort_by_key(|(name, _)| *name);
    assert_eq!(
        found,
        [
            ("cache", &failed("disk full")),
            ("journal", &Outcome::Done),
            ("queue", &failed("the queue is full")),
            ("registry", &failed("panicked: no such registry")),
            ("task", &failed("panicked: oh")),
        ]
    );
    assert_eq!(ended.code(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_new_once_drain_has_begun() {
    let shutdown = builder().settle(ms(3_000)).install().unwrap();
    let guard = shutdown.guard("old").unwrap();
    shutdown.trigger("test");
    sleep(ms(500)).await;
    assert!(shutdown.is_requested());
    let token = shutdown.token();
    assert!(!token.is_requested(), "it settles");
    shutdown.spawn("in time", async |_| ()).unwrap();
    // Quiet for a second from there on.
    token.requested().await;
    assert_eq!(shutdown.spawn("late", async |_| ()), Err(Rejected));
    assert_eq!(shutdown.guard("late").map(drop), Err(Rejected));
    drop(guard);
    let report = shutdown.wait().await.report().clone();
    assert!((1_450..1_700).contains(&report.took.as_millis()), "{:?}", report.took);
}

#[tokio::test(start_paused = true)]
async fn many_ask_and_one_stop_follows() {
    let shutdown = builder().install().unwrap();
    let guard = shutdown.guard("work").unwrap();
    for _ in 0..10 {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { shutdown.trigger("each") });
    }
    sleep(ms(2_000)).await;
    assert!(shutdown.token().is_requested());
    drop(guard);
    let ended = shutdown.wait().await;
    let report = ended.report();
    assert_eq!((report.took, report.verdict), (ms(2_000), Verdict::Graceful), "nobody was in a hurry");
    assert_eq!(ended.cause(), &Cause::Triggered("each".into()));
}

#[tokio::test(start_paused = true)]
async fn a_budget_without_room_is_refused() {
    let error = builder().budget(ms(2_000)).settle(ms(1_500)).install().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no room"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn dropping_it_stops_nothing() {
    let shutdown = builder().install().unwrap();
    let (token, clone) = (shutdown.token(), shutdown.clone());
    drop(shutdown);
    sleep(ms(60_000)).await;
    assert!(!token.is_requested() && !clone.is_requested());
    clone.trigger("test");
    assert_eq!(clone.wait().await.code(), 0);
}
