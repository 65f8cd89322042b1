//! By which of the engine's means a stop is carried out. Pure: the daemon is asked in [`super::instance`].
//!
//! The engine's own stop is the best means: once the daemon has the order it finishes, whatever becomes of us. It is
//! told only what it would not do by itself; so when nobody asked for anything special, the daemon's own
//! `default-stop-timeout` applies, which it tells nobody (see [`super::settings`]).
//!
//! Where the engine's own stop would quietly do something else we go *step by step* instead: send the signal, wait for
//! the end, and then give the engine's own stop (or restart) with no time left, which finds nobody to signal. The kill
//! is then the caller's. Three cases need it:
//!
//! * Docker before API 1.42 ignores `signal` (moby `postContainersStop`): the default signal would be sent.
//! * Podman 4.3 ignores `signal` too.
//! * Podman takes a timeout of zero for "kill at once" and sends no signal.
//!
//! That last order also settles the restart policy. A signal that is not the container's own stop signal does not
//! tell dockerd that the end is wanted, so `--restart always` would start the program again, 100 ms later at the
//! earliest. Mostly the order arrives before that and cancels it; else it ends what has just been started. Podman
//! restarts without a pause, and its stop of a container that it takes for exited cancels nothing: there a restart
//! policy can win.

use std::time::Duration;

use gracefully_core::policy::{Settings, Source, Then};
use gracefully_core::signal::Signal;

use super::client::{Api, Daemon, Flavour};
use crate::{State, Terminate};

/// From this version on `POST /containers/ID/stop` obeys `signal`.
const STOP_TAKES_A_SIGNAL: Api = Api(1, 42);

/// From this version on (Docker 23) a restart never removes a `--rm` container (moby pull request 43751). Before it,
/// the removal may see the flag that is only taken down while the restart stops the program.
const RESTART_KEEPS: Api = Api(1, 42);

/// The largest timeout that we send: 68 years. dockerd and Podman turn seconds into nanoseconds of 64 bits, and from
/// 292 years on that overflows into "kill at once".
const LONGEST: i64 = i32::MAX as i64;

/// The container that is to be stopped, as it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) daemon: Daemon,
    pub(super) state: State,
    pub(super) settings: Settings,
    /// `run --rm`.
    pub(super) auto_remove: bool,
}

/// What may become of a `--rm` container in a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is there afterwards.
    Kept,
    /// The engine has a race and may remove it.
    Possible,
    /// The engine will remove it: to it, the end comes of itself.
    Certain,
}

/// Whether the engine removes the container although it is to be started again.
pub(super) fn removal(then: Then, means: &Means, target: &Target) -> Removal {
    if !target.auto_remove || then == Then::Stay {
        return Removal::Kept;
    }
    match (means, target.daemon.flavour) {
        (Means::Steps(_), _) => Removal::Certain,
        (Means::Engine { .. }, Flavour::Docker) if target.daemon.api >= RESTART_KEEPS => Removal::Kept,
        (Means::Engine { .. }, _) => Removal::Possible,
    }
}

/// The means, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Thaw a paused container first, because the engine will not.
    pub(super) unpause: bool,
    pub(super) means: Means,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// The engine's own stop.
    Engine {
        /// `t`; `None`: what the engine knows by itself is right.
        seconds: Option<i64>,
        /// `signal`; `None`: the container's own.
        signal: Option<Signal>,
        /// How long the engine will wait before it kills; `None`: for ever.
        kills_after: Option<Duration>,
        /// Whether `kills_after` is only docker's usual default, because the daemon decides.
        daemon_decides: bool,
    },
    /// Step by step, with this signal.
    Steps(Signal),
}

/// The way for this order.
pub(super) fn way(order: &Terminate, target: &Target) -> Way {
    let signal = order.policy.signal.value;
    let own = target.settings.signal.filter(|own| own.source == Source::Container);
    let differs = signal != own.map_or(Signal::TERM, |own| own.value);
    let seconds = whole_seconds(order.kill_after);
    let paused = target.state == State::Paused;
    // Between two runs there is nobody to signal; the engine's stop cancels the next one.
    let has_process = target.state != State::Restarting;
    let docker = target.daemon.flavour == Flavour::Docker;

    let steps = has_process
        && match target.daemon.flavour {
            Flavour::Docker => differs && target.daemon.api < STOP_TAKES_A_SIGNAL,
            Flavour::Podman => differs || seconds == Some(0),
        };
    if steps {
        return Way { unpause: paused, means: Means::Steps(signal) };
    }

    let untouched = order.policy.timeout.value.limit() == seconds.map(as_duration);
    let knows = docker
        && untouched
        && match order.policy.timeout.source {
            Source::Container | Source::Daemon | Source::Default => true,
            Source::Request | Source::Service => false,
        };
    // Podman has no word for "never".
    let never = if docker { -1 } else { LONGEST };
    let means = Means::Engine {
        seconds: (!knows).then_some(seconds.unwrap_or(never)),
        signal: (docker && differs).then_some(signal),
        kills_after: seconds.map(as_duration),
        daemon_decides: knows && order.policy.timeout.source == Source::Default,
    };
    Way { unpause: paused && !docker, means }
}

/// What is left, rounded up: the engine counts in whole seconds, and never less than what was promised.
fn whole_seconds(left: Option<Duration>) -> Option<i64> {
    let left = left?;
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    Some(i64::try_from(seconds).unwrap_or(LONGEST).min(LONGEST))
}

fn as_duration(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use gracefully_core::policy::{Policy, Request, Sourced, Timeout};

    use super::*;

    const OLD: Daemon = Daemon { flavour: Flavour::Docker, api: Api(1, 41) };
    const NEW: Daemon = Daemon { flavour: Flavour::Docker, api: Api(1, 42) };
    const PODMAN: Daemon = Daemon { flavour: Flavour::Podman, api: Api(1, 40) };

    fn target(daemon: Daemon) -> Target {
        Target { daemon, state: State::Running, settings: Settings::default(), auto_remove: false }
    }

    /// The order that a stop without other phases gives, `late` after its beginning.
    fn order(request: &Request, target: &Target, late: Duration) -> Terminate {
        let policy = Policy::resolve(request, &target.settings);
        let kill_after = policy.timeout.value.limit().map(|limit| limit.saturating_sub(late));
        Terminate { policy, kill_after, then: request.then }
    }

    fn means(request: &Request, target: &Target) -> Means {
        way(&order(request, target, Duration::from_micros(300)), target).means
    }

    fn engine(seconds: Option<i64>, signal: Option<Signal>, kills_after: Option<u64>) -> Means {
        let kills_after = kills_after.map(Duration::from_secs);
        Means::Engine { seconds, signal, kills_after, daemon_decides: false }
    }

    fn timeout(seconds: i64) -> Request {
        Request { timeout: Some(Timeout::from_seconds(seconds)), ..Request::default() }
    }

    fn signal(signal: Signal) -> Request {
        Request { signal: Some(signal), ..Request::default() }
    }

    #[test]
    fn nothing_said_means_nothing_sent() {
        let Means::Engine { seconds, signal, daemon_decides, .. } = means(&Request::default(), &target(OLD))
        else {
            panic!("the engine's own stop")
        };
        assert_eq!((seconds, signal, daemon_decides), (None, None, true));
    }

    #[test]
    fn the_containers_own_settings_are_not_repeated() {
        let settings = Settings {
            timeout: Some(Sourced::new(Timeout::from_seconds(3), Source::Container)),
            signal: Some(Sourced::new(Signal::INT, Source::Container)),
        };
        let target = Target { settings, ..target(OLD) };
        assert_eq!(means(&Request::default(), &target), engine(None, None, Some(3)));
        assert_eq!(means(&signal(Signal::INT), &target), engine(None, None, Some(3)));
    }

    #[test]
    fn what_was_asked_for_is_sent_in_whole_seconds() {
        let target = target(NEW);
        assert_eq!(means(&timeout(0), &target), engine(Some(0), None, Some(0)));
        assert_eq!(means(&timeout(10), &target), engine(Some(10), None, Some(10)));
        assert_eq!(means(&timeout(-1), &target), engine(Some(-1), None, None));
        assert_eq!(
            means(&timeout(i64::MAX), &target),
            engine(Some(LONGEST), None, Some(LONGEST.unsigned_abs()))
        );
        let half =
            Request { timeout: Some(Timeout::After(Duration::from_millis(1500))), ..Request::default() };
        assert_eq!(means(&half, &target), engine(Some(2), None, Some(2)));
    }

    #[test]
    fn what_earlier_phases_have_used_is_gone() {
        let target = target(NEW);
        let order = order(&Request::default(), &target, Duration::from_millis(3200));
        assert_eq!(way(&order, &target).means, engine(Some(7), None, Some(7)));
    }

    #[test]
    fn a_services_grace_period_is_unknown_to_the_container() {
        let settings =
            Settings { timeout: Some(Sourced::new(Timeout::from_seconds(4), Source::Service)), signal: None };
        let target = Target { settings, ..target(OLD) };
        assert_eq!(means(&Request::default(), &target), engine(Some(4), None, Some(4)));
    }

    #[test]
    fn another_signal_is_sent_where_the_engine_obeys_and_stepwise_where_not() {
        for then in [Then::Stay, Then::Start] {
            let request = Request { then, timeout: Some(Timeout::from_seconds(5)), ..signal(Signal::USR1) };
            assert_eq!(means(&request, &target(NEW)), engine(Some(5), Some(Signal::USR1), Some(5)));
            assert_eq!(means(&request, &target(OLD)), Means::Steps(Signal::USR1));
            assert_eq!(means(&request, &target(PODMAN)), Means::Steps(Signal::USR1));
        }
    }

    #[test]
    fn podman_is_always_told_the_time_and_never_zero() {
        let target = target(PODMAN);
        assert_eq!(means(&Request::default(), &target), engine(Some(10), None, Some(10)));
        assert_eq!(means(&timeout(0), &target), Means::Steps(Signal::TERM));
        assert_eq!(means(&timeout(-1), &target), engine(Some(LONGEST), None, None));
    }

    #[test]
    fn a_paused_container_is_thawed_where_the_engine_does_not() {
        let unpause = |daemon, request: &Request| {
            let target = Target { state: State::Paused, ..target(daemon) };
            way(&order(request, &target, Duration::ZERO), &target).unpause
        };
        assert!(!unpause(OLD, &Request::default()));
        assert!(unpause(OLD, &signal(Signal::USR1)));
        assert!(unpause(PODMAN, &Request::default()));
    }

    #[test]
    fn between_two_runs_there_is_nobody_to_signal() {
        let target = Target { state: State::Restarting, ..target(OLD) };
        assert!(matches!(means(&signal(Signal::USR1), &target), Means::Engine { .. }));
    }

    #[test]
    fn only_the_restart_of_an_auto_removed_container_can_lose_it() {
        let of = |daemon, request: &Request, auto_remove| {
            let target = Target { auto_remove, ..target(daemon) };
            removal(request.then, &means(request, &target), &target)
        };
        let restart = Request { then: Then::Start, ..Request::default() };
        let other_signal = Request { then: Then::Start, ..signal(Signal::INT) };
        assert_eq!(of(OLD, &restart, false), Removal::Kept);
        assert_eq!(of(OLD, &Request::default(), true), Removal::Kept);
        assert_eq!(of(NEW, &other_signal, true), Removal::Kept);
        assert_eq!(of(OLD, &restart, true), Removal::Possible);
        assert_eq!(of(PODMAN, &restart, true), Removal::Possible);
        assert_eq!(of(OLD, &other_signal, true), Removal::Certain);
        assert_eq!(of(PODMAN, &other_signal, true), Removal::Certain);
    }
}
