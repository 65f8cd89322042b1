//! The one executor of a stop: walks a sequence with an engine.

use std::time::Duration;

use gracefully_core::event::{ExitStatus, Progress};
use gracefully_core::phase::Phase;
use gracefully_core::plan::Plan;
use gracefully_core::policy::{Then, Timeout};
use gracefully_core::report::{Conclusion, Reason, Report, Target, Verdict};
use gracefully_core::signal::Signal;
use gracefully_engine::{Instance, Terminate};
use tokio::sync::mpsc;

/// One stop.
pub(crate) struct Stop {
    pub(crate) target: Target,
    pub(crate) plan: Plan,
}

/// A further order while a stop is going on.
#[expect(dead_code, reason = "placeholder")]
pub(crate) enum Order {
    Stop { budget: Option<Timeout>, then: Then },
    Abort,
}

/// Walks one stop on `instance` and returns its report.
pub(crate) async fn walk(
    instance: &dyn Instance,
    stop: Stop,
    _: &mut mpsc::UnboundedReceiver<Order>,
    onlooker: &mut (dyn FnMut(Progress) + Send),
) -> Report {
    onlooker(Progress::Began(Phase::Terminate));
    let policy = stop.plan.policy;
    let order = Terminate { policy, kill_after: policy.timeout.value.limit(), then: policy.then };
    let exit = match instance.terminate(&order).await {
        Ok(()) => instance.exited().await.ok(),
        Err(_) => None,
    };
    let (verdict, reason) = match exit {
        Some(ExitStatus::Signal(Signal::KILL)) => (Verdict::Forced, Reason::Killed),
        Some(_) => (Verdict::Graceful, Reason::Exited),
        None => (Verdict::Failed, Reason::EngineLost("placeholder".into())),
    };
    let conclusion = Conclusion { verdict, reason, exit, took: Duration::ZERO, steps: vec![] };
    Report::new(stop.target, String::new(), &policy, conclusion, vec![])
}
