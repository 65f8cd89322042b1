//! The arithmetic of one budget: when each phase of a stop must have ended.
//!
//! The budget `B` is the whole time from the request on. Two phases have a reserve that earlier ones cannot eat:
//!
//! ```text
//! 0            traffic            B-K-F-T         T       B-K-F    F    B-K  K   B
//! ├─ Deregister ─┼─ Settle ─┼─ Drain ─┼───── Terminate ─────┼─ Flush ─┼─ Kill ─┤
//! ```
//!
//! * `K = min(500 ms, B/10)` for killing, reaping and reporting, but only where we do that ourselves inside the
//!   budget (init). An engine kills by itself at `B`, so there `K` is zero.
//! * `F`: what the flush asks for, at most `B/5`; zero if there is nothing to flush.
//! * `T = max(min(2 s, B/2), 3B/10)` for Terminate.
//! * Deregister, Settle and Drain share the rest; Deregister gets at most a third of it and at most 2 s, unless more is
//!   asked for.
//!
//! A request may give Settle and Drain less (`--drain 5s`). What a phase does not use goes to the later ones.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::{Care, Policy, Then, Timeout, Within};

/// How long a flush or the reaping is attempted when the budget has no time left for it.
pub const AT_LEAST: Duration = Duration::from_millis(100);

/// How long the kernel gets to end a process after SIGKILL before we say that it does not, as dockerd does.
pub const GIVE_UP: Duration = Duration::from_secs(10);

/// Everything a [`Sequence`](crate::sequence::Sequence) needs to know. Pure data: it can be printed before it is
/// carried out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// Signal, budget and what comes after, each with its source.
    pub policy: Policy,
    /// What there is to do besides sending the signal.
    pub work: Work,
    /// When each phase must have ended.
    pub ends: Ends,
}

impl Plan {
    /// Lays `work` out over the budget of `policy`.
    pub fn new(policy: Policy, work: Work) -> Self {
        let ends = Ends::new(policy.timeout.value, &work);
        Self { policy, work, ends }
    }
}

/// What there is to do in a stop besides sending the signal. The default is docker's stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Work {
    /// Is the instance registered anywhere, or is there anything else to do first?
    pub deregister: bool,
    /// Deregister may take this long, if the budget allows it; `None`: as long as leaving a registry should take.
    pub deregister_within: Option<Duration>,
    /// Wait until traffic has stopped coming?
    pub settle: Option<Settle>,
    /// Finish what is in flight, and what happens to new connections meanwhile?
    pub drain: Option<NewConnections>,
    /// Settle and Drain together may take this long, if not less by the budget.
    pub traffic_within: Option<Duration>,
    /// Kill a program that is drained at once if the stop signal provably reaches nobody.
    pub kill_unheard: bool,
    /// How long making data durable may take; zero if there is nothing to flush.
    pub flush: Duration,
    /// Who gets the signal, and who kills.
    pub reach: Reach,
    /// Somebody else will kill, and nobody has said when: the budget is a guess, and its end kills nobody.
    pub spare: bool,
    /// How long a restarted program may take until it is ready.
    pub ready: Duration,
}

impl Work {
    /// What a request asks for, of an engine that kills by itself, where nothing is registered.
    pub fn of(care: Care, then: Then) -> Self {
        let Care { settle, drain, new, full_timeout, ready } = care;
        let usual = match then {
            Then::Stay => NewConnections::Refuse,
            Then::Start => NewConnections::Hold,
        };
        let settle = settle.map(|within| {
            let at_most = match within {
                Within::Budget => Duration::MAX,
                Within::AtMost(limit) => limit,
            };
            Settle { quiet: QUIET.min(at_most), at_most }
        });
        let traffic_within = match drain {
            Some(Within::AtMost(limit)) => {
                Some(limit.saturating_add(settle.map_or(Duration::ZERO, |s| s.at_most)))
            }
            Some(Within::Budget) | None => None,
        };
        Self {
            settle: settle.filter(|settle| settle.at_most > Duration::ZERO),
            drain: drain.map(|_| new.unwrap_or(usual)),
            traffic_within,
            kill_unheard: drain.is_some() && !full_timeout,
            ready,
            ..Self::default()
        }
    }
}

/// Traffic has stopped when no new connection has come for so long.
pub const QUIET: Duration = Duration::from_secs(1);

/// How Settle ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settle {
    /// No new connection for this long: traffic has stopped.
    pub quiet: Duration,
    /// Wait at most this long.
    pub at_most: Duration,
}

/// What happens to a connection that arrives during Drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewConnections {
    /// It is kept waiting for the restarted program.
    Hold,
    /// It is reset, so that a load balancer turns to another instance at once.
    Refuse,
    /// It is served.
    Serve,
}

/// Who gets the stop signal, and who kills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Only the main process; whatever it leaves behind ends with it (a PID namespace, an engine). The kill
    /// comes when the whole budget is used.
    #[default]
    Main,
    /// The program itself: it signals nobody, and what has not finished when its time is up it gives up at once. So Terminate
    /// needs no time, and the process ends where others are killed.
    Own,
    /// The main process first, then every descendant that it leaves behind. We kill, reap and report ourselves,
    /// inside the budget: what an init does.
    Family,
}

/// When each phase must have ended, as time since the request; `None` where it never must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Deregister.
    pub deregister: Option<Duration>,
    /// Settle and Drain: `B − K − F − T`.
    pub traffic: Option<Duration>,
    /// The main process's share of Terminate, after which the rest of the family gets its signal too.
    pub main: Option<Duration>,
    /// Terminate: `B − K − F`.
    pub terminate: Option<Duration>,
    /// Flush: `B − K`.
    pub flush: Option<Duration>,
    /// From here on everything left is killed: the same, unless nobody is.
    pub kill: Option<Duration>,
    /// Whatever survived SIGKILL until then is reported as not killable.
    pub give_up: Option<Duration>,
}

impl Ends {
    /// The ends of all phases for this budget.
    pub fn new(budget: Timeout, work: &Work) -> Self {
        let Some(b) = budget.limit() else {
            return Self {
                deregister: None,
                traffic: work.traffic_within,
                main: None,
                terminate: None,
                flush: None,
                kill: None,
                give_up: None,
            };
        };
        let k = match work.reach {
            Reach::Main | Reach::Own => Duration::ZERO,
            Reach::Family => (b / 10).min(Duration::from_millis(500)),
        };
        let f = work.flush.min(b / 5);
        let t = match work.reach {
            Reach::Own => Duration::ZERO,
            Reach::Main | Reach::Family => (b / 2).min(Duration::from_secs(2)).max(b / 10 * 3),
        };

        let kill = b.saturating_sub(k);
        let terminate = kill.saturating_sub(f);
        let traffic = terminate.saturating_sub(t).min(work.traffic_within.unwrap_or(Duration::MAX));
        let deregister = match work.deregister_within {
            Some(within) => traffic.min(within),
            None => (traffic / 3).min(Duration::from_secs(2)),
        };
        // The family needs time of its own after main: three tenths of what Terminate is sure to have.
        let main = match work.reach {
            Reach::Main | Reach::Own => terminate,
            Reach::Family => terminate.saturating_sub(terminate.saturating_sub(traffic) / 10 * 3),
        };
        let give_up = match work.reach {
            Reach::Main | Reach::Own => kill + GIVE_UP,
            Reach::Family => b.max(kill + AT_LEAST),
        };
        Self {
            deregister: Some(deregister),
            traffic: Some(traffic),
            main: Some(main),
            terminate: Some(terminate),
            flush: Some(kill),
            kill: Some(kill).filter(|_| !work.spare),
            give_up: Some(give_up).filter(|_| !work.spare),
        }
    }

    /// The same ends counted from `origin` instead of from zero.
    pub(crate) fn after(self, origin: Duration) -> Self {
        let shift = |end: Option<Duration>| end.map(|end| origin.saturating_add(end));
        Self {
            deregister: shift(self.deregister),
            traffic: shift(self.traffic),
            main: shift(self.main),
            terminate: shift(self.terminate),
            flush: shift(self.flush),
            kill: shift(self.kill),
            give_up: shift(self.give_up),
        }
    }

    /// The earlier of each two ends: a further request may shorten a stop, never prolong it.
    pub(crate) fn earlier(self, other: Self) -> Self {
        Self {
            deregister: earlier(self.deregister, other.deregister),
            traffic: earlier(self.traffic, other.traffic),
            main: earlier(self.main, other.main),
            terminate: earlier(self.terminate, other.terminate),
            flush: earlier(self.flush, other.flush),
            kill: earlier(self.kill, other.kill),
            give_up: earlier(self.give_up, other.give_up),
        }
    }
}

/// The earlier of two times, where `None` is never.
pub(crate) fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(budget: Duration, work: &Work) -> [Duration; 6] {
        let e = Ends::new(Timeout::After(budget), work);
        [e.deregister, e.traffic, e.main, e.terminate, e.kill, e.give_up]
            .map(|end| end.expect("a limited budget"))
    }

    fn init(flush: Duration) -> Work {
        Work { flush, reach: Reach::Family, ..Work::default() }
    }

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn dockers_default_gives_terminate_three_seconds_of_its_own() {
        // T = max(min(2 s, 5 s), 3 s), nothing reserved for flush or kill.
        assert_eq!(
            ends(ms(10_000), &Work::default()),
            [ms(2_000), ms(7_000), ms(10_000), ms(10_000), ms(10_000), ms(20_000)]
        );
    }

    #[test]
    fn init_keeps_time_to_flush_kill_and_report_inside_the_budget() {
        // K = 500 ms, F = 1 s, T = 3 s; main's share is 7/10 of T.
        assert_eq!(
            ends(ms(10_000), &init(ms(1_000))),
            [ms(5_500) / 3, ms(5_500), ms(7_600), ms(8_500), ms(9_500), ms(10_000)]
        );
    }

    #[test]
    fn a_request_may_give_traffic_less_time() {
        let limited = |within, budget| {
            let work = Work { traffic_within: Some(within), ..Work::default() };
            Ends::new(budget, &work).traffic
        };
        let ten = Timeout::After(ms(10_000));
        assert_eq!(limited(ms(3_000), ten), Some(ms(3_000)));
        assert_eq!(limited(ms(30_000), ten), Some(ms(7_000)));
        assert_eq!(limited(ms(3_000), Timeout::Never), Some(ms(3_000)));
    }

    #[test]
    fn what_a_request_asks_for() {
        let stop = Work::of(Care::default(), Then::Stay);
        assert_eq!(stop.drain, Some(NewConnections::Refuse));
        assert_eq!((stop.settle, stop.traffic_within), (None, None));
        assert!(stop.kill_unheard);
        assert_eq!(Work::of(Care::default(), Then::Start).drain, Some(NewConnections::Hold));

        let care = Care {
            settle: Some(Within::AtMost(ms(500))),
            drain: Some(Within::AtMost(ms(2_000))),
            new: Some(NewConnections::Serve),
            full_timeout: true,
            ready: ms(1),
        };
        let work = Work::of(care, Then::Start);
        assert_eq!(work.settle, Some(Settle { quiet: ms(500), at_most: ms(500) }));
        assert_eq!((work.drain, work.traffic_within), (Some(NewConnections::Serve), Some(ms(2_500))));
        assert_eq!((work.kill_unheard, work.ready), (false, ms(1)));

        let plain = Work::of(Care::NONE, Then::Stay);
        assert_eq!(plain, Work { ready: Care::READY, ..Work::default() });
    }

    #[test]
    fn no_time_means_signal_and_kill_at_once() {
        assert_eq!(ends(ms(0), &Work::default())[..5], [ms(0); 5]);
    }

    #[test]
    fn without_a_deadline_nothing_ever_ends_by_time() {
        let e = Ends::new(Timeout::Never, &Work::default());
        assert_eq!([e.deregister, e.traffic, e.main, e.terminate, e.kill, e.give_up], [None; 6]);
    }

    #[test]
    fn a_budget_that_is_a_guess_kills_nobody() {
        let spared = Ends::new(Timeout::After(ms(10_000)), &Work { spare: true, ..init(ms(1_000)) });
        let killed = Ends::new(Timeout::After(ms(10_000)), &init(ms(1_000)));
        assert_eq!(spared, Ends { kill: None, give_up: None, ..killed });
    }

    #[test]
    fn what_comes_first_may_ask_for_more_time() {
        let deregister = |within| {
            let work = Work { deregister_within: Some(within), ..init(ms(1_000)) };
            Ends::new(Timeout::After(ms(10_000)), &work).deregister
        };
        assert_eq!(deregister(ms(4_000)), Some(ms(4_000)));
        assert_eq!(deregister(ms(60_000)), Some(ms(5_500)), "no more than traffic has");
    }

    #[test]
    fn phases_end_in_their_order_for_every_budget() {
        for reach in [Reach::Main, Reach::Family] {
            for flush in [0, 1, 50, 1_000, 60_000] {
                for budget in (0..200).chain((200..100_000).step_by(333)).chain([3_600_000]) {
                    let b = ms(budget);
                    let work = Work { flush: ms(flush), reach, ..Work::default() };
                    let all = ends(b, &work);
                    assert!(all.is_sorted(), "{b:?} {work:?}: {all:?}");
                    let [deregister, traffic, _, terminate, kill, _] = all;
                    assert!(kill <= b && deregister <= ms(2_000) && deregister <= traffic);
                    // Terminate is sure of a third of a short budget and of 2 s of a long one, minus what others reserve.
                    assert!(
                        terminate.saturating_sub(traffic) >= (b / 10 * 2).min(ms(2_000)),
                        "{b:?} {work:?}: {all:?}"
                    );
                    assert!(kill.saturating_sub(terminate) <= b / 5);
                }
            }
        }
    }
}
