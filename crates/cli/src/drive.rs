//! The one executor of a stop: walks a sequence with an engine.

use std::time::SystemTime;

use gracefully_core::event::Progress;
use gracefully_core::plan::Plan;
use gracefully_core::policy::{Then, Timeout};
use gracefully_core::report::{Conclusion, Reason, Report, Target, Verdict};
use gracefully_engine::Instance;
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
    _: &dyn Instance,
    stop: Stop,
    _: &mut mpsc::UnboundedReceiver<Order>,
    _: &mut (dyn FnMut(Progress) + Send),
) -> Report {
    let conclusion = Conclusion {
        verdict: Verdict::Failed,
        reason: Reason::EngineLost("placeholder".into()),
        exit: None,
        took: std::time::Duration::ZERO,
        steps: vec![],
    };
    let now = format!("{:?}", SystemTime::now());
    Report::new(stop.target, now, &stop.plan.policy, conclusion, vec![])
}
