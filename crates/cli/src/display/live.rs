//! One live line a target: the phase and the time that is left.

use std::time::{Duration, Instant};

use gracefully_core::diagnosis::printable;
use gracefully_core::event::Progress;
use gracefully_core::phase::Phase;
use gracefully_core::policy::Policy;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::time::seconds;

/// The live line of one target; it disappears when dropped. Without a terminal it does nothing.
#[derive(Debug)]
pub(crate) struct Line(Option<Shown>);

#[derive(Debug)]
struct Shown {
    bar: ProgressBar,
    signal: String,
    /// What was noticed so far; it stays visible behind the phase.
    noticed: String,
    phase: String,
}

impl Line {
    pub(super) fn new(live: Option<&MultiProgress>, name: &str) -> Self {
        Self(live.map(|live| {
            let bar = live.add(ProgressBar::new_spinner());
            bar.set_prefix(printable(name));
            bar.set_style(style(None));
            bar.enable_steady_tick(Duration::from_millis(100));
            Shown { bar, signal: String::new(), noticed: String::new(), phase: String::new() }
        }))
    }

    /// Shows what happened.
    pub(crate) fn show(&mut self, progress: &Progress) {
        let Some(shown) = &mut self.0 else { return };
        match progress {
            Progress::Planned(policy) => shown.planned(policy),
            Progress::Began(phase) => shown.phase = doing(*phase, &shown.signal),
            Progress::Traffic(traffic) => shown.phase = format!("draining, {} in flight", traffic.in_flight),
            Progress::Noticed(finding) => shown.noticed = format!("  {}", finding.message),
            Progress::Ended(_) => {}
        }
        shown.bar.set_message(format!("{}{}", shown.phase, shown.noticed));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(shown) = &self.0 {
            shown.bar.finish_and_clear();
        }
    }
}

impl Shown {
    fn planned(&mut self, policy: &Policy) {
        self.signal = policy.signal.value.to_string();
        let end = policy.timeout.value.limit().and_then(|limit| Instant::now().checked_add(limit));
        self.bar.set_style(style(end));
    }
}

fn style(end: Option<Instant>) -> ProgressStyle {
    let left = move |_: &ProgressState, to: &mut dyn std::fmt::Write| {
        let Some(end) = end else { return };
        let _ = write!(to, "  {} left", seconds(end.saturating_duration_since(Instant::now())));
    };
    ProgressStyle::with_template("{spinner} {prefix}{left}  {wide_msg}")
        .map_or_else(|_| ProgressStyle::default_spinner(), |style| style.with_key("left", left))
}

/// What is going on in a phase.
fn doing(phase: Phase, signal: &str) -> String {
    match phase {
        Phase::Deregister => "leaving service discovery".into(),
        Phase::Settle => "waiting until traffic stops coming".into(),
        Phase::Drain => "draining".into(),
        Phase::Terminate => format!("{signal} sent, waiting for the exit"),
        Phase::Flush => "flushing".into(),
        Phase::Kill => "killing".into(),
    }
}
