//! What was asked of a stop and what is configured; and which of the two wins.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::phase::millis;
use crate::plan::NewConnections;
use crate::signal::Signal;

/// How long a stop may take: docker's stop timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(tag = "is", content = "ms", rename_all = "snake_case")]
pub enum Timeout {
    /// This long, then SIGKILL. Zero means signal and kill at once.
    After(
        #[serde(with = "millis")]
        #[cfg_attr(any(feature = "schema", test), schemars(with = "f64"))]
        Duration,
    ),
    /// For ever; nothing is ever killed.
    Never,
}

impl Timeout {
    /// Docker's default stop timeout on Linux.
    pub const DEFAULT: Self = Self::After(Duration::from_secs(10));

    /// From docker's number of seconds, where every negative number means for ever.
    pub fn from_seconds(seconds: i64) -> Self {
        u64::try_from(seconds).map_or(Self::Never, |s| Self::After(Duration::from_secs(s)))
    }

    /// The limit, if there is one.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::After(limit) => Some(limit),
            Self::Never => None,
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(limit) if limit.subsec_nanos() == 0 => write!(f, "{} s", limit.as_secs()),
            Self::After(limit) => write!(f, "{:.1} s", limit.as_secs_f64()),
            Self::Never => f.write_str("unlimited time"),
        }
    }
}

/// Where a setting came from, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The command line of this stop.
    Request,
    /// The container: `--stop-timeout`, `--stop-signal`, the image's STOPSIGNAL, compose.
    Container,
    /// The Swarm service that the container belongs to.
    Service,
    /// The engine's daemon.
    Daemon,
    /// Nobody said anything: 10 seconds, SIGTERM.
    Default,
}

impl Source {
    /// For the end of a sentence: "10 s (docker's default)".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Request => "as asked",
            Self::Container => "the container's setting",
            Self::Service => "the Swarm service's setting",
            Self::Daemon => "the daemon's setting",
            Self::Default => "docker's default",
        }
    }
}

/// A setting and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Sourced<T> {
    /// The value in force.
    pub value: T,
    /// Who set it.
    pub source: Source,
}

impl<T> Sourced<T> {
    /// A value and its source.
    pub fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}

/// What the caller of this stop asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `-t`
    pub timeout: Option<Timeout>,
    /// `-s`
    pub signal: Option<Signal>,
    /// What comes after the stop.
    pub then: Then,
    /// What is done for its connections.
    #[serde(default)]
    pub care: Care,
    /// The URLs of those who send it requests, and are told to send none before the stop, and to go on after a restart.
    #[serde(default)]
    pub gateways: Vec<String>,
}

/// What a stop does for the connections of the program. By default they are drained, for as long as the budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Care {
    /// `--settle`: keep serving until traffic has stopped coming, for at most this long; `None`: do not wait for that.
    pub settle: Option<Within>,
    /// `--drain`: finish what is in flight, for at most this long; `None`: `--no-drain`.
    pub drain: Option<Within>,
    /// `--new`: what happens to new connections meanwhile. `None`: they are held for a restart, else refused.
    pub new: Option<NewConnections>,
    /// `--full-timeout`: wait for the stop timeout also if the stop signal provably reaches nobody.
    pub full_timeout: bool,
    /// `--ready-timeout`: how long a restarted program may take until it is ready.
    pub ready: Duration,
}

impl Care {
    /// As long as the default of `docker compose up --wait-timeout` would be, if it had one: most programs need far less.
    pub const READY: Duration = Duration::from_secs(30);

    /// Nothing is done for connections: docker's stop.
    pub const NONE: Self =
        Self { settle: None, drain: None, new: None, full_timeout: true, ready: Self::READY };
}

impl Default for Care {
    fn default() -> Self {
        Self { drain: Some(Within::Budget), full_timeout: false, ..Self::NONE }
    }
}

/// How long a phase that waits for traffic may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "ms", rename_all = "snake_case")]
pub enum Within {
    /// `auto`: what the budget has for it.
    Budget,
    /// This long, and no longer than the budget has for it.
    AtMost(#[serde(with = "millis")] Duration),
}

/// What comes after the program has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It stays stopped.
    #[default]
    Stay,
    /// It is started again.
    Start,
}

/// What is configured for the container, each with its source; `None` where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The stop timeout.
    pub timeout: Option<Sourced<Timeout>>,
    /// The stop signal.
    pub signal: Option<Sourced<Signal>>,
}

/// What is in force for this stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// The budget of the whole stop.
    pub timeout: Sourced<Timeout>,
    /// The stop signal.
    pub signal: Sourced<Signal>,
    /// What comes after the stop.
    pub then: Then,
}

impl Policy {
    /// The request wins over the settings, the settings over docker's defaults.
    pub fn resolve(request: &Request, settings: &Settings) -> Self {
        Self {
            timeout: strongest(request.timeout, settings.timeout, Timeout::DEFAULT),
            signal: strongest(request.signal, settings.signal, Signal::TERM),
            then: request.then,
        }
    }
}

fn strongest<T>(asked: Option<T>, configured: Option<Sourced<T>>, default: T) -> Sourced<T> {
    match (asked, configured) {
        (Some(value), _) => Sourced::new(value, Source::Request),
        (None, Some(configured)) => configured,
        (None, None) => Sourced::new(default, Source::Default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_request_wins_over_the_settings_and_these_over_the_default() {
        let container = Settings {
            timeout: Some(Sourced::new(Timeout::from_seconds(30), Source::Service)),
            signal: Some(Sourced::new(Signal::QUIT, Source::Container)),
        };
        let asked = Request {
            timeout: Some(Timeout::from_seconds(2)),
            signal: Some(Signal::INT),
            ..Request::default()
        };

        let policy = Policy::resolve(&asked, &container);
        assert_eq!(policy.timeout, Sourced::new(Timeout::from_seconds(2), Source::Request));
        assert_eq!(policy.signal, Sourced::new(Signal::INT, Source::Request));

        let policy = Policy::resolve(&Request::default(), &container);
        assert_eq!(policy.timeout, Sourced::new(Timeout::from_seconds(30), Source::Service));
        assert_eq!(policy.signal, Sourced::new(Signal::QUIT, Source::Container));

        let policy = Policy::resolve(&Request::default(), &Settings::default());
        assert_eq!(policy.timeout, Sourced::new(Timeout::DEFAULT, Source::Default));
        assert_eq!(policy.signal, Sourced::new(Signal::TERM, Source::Default));
    }

    #[test]
    fn negative_seconds_mean_for_ever_and_zero_means_at_once() {
        assert_eq!(Timeout::from_seconds(-1), Timeout::Never);
        assert_eq!(Timeout::from_seconds(i64::MIN), Timeout::Never);
        assert_eq!(Timeout::from_seconds(0), Timeout::After(Duration::ZERO));
        assert_eq!(Timeout::from_seconds(10).to_string(), "10 s");
        assert_eq!(Timeout::After(Duration::from_millis(1500)).to_string(), "1.5 s");
    }
}
