//! The six phases of a stop, and how one of them ends.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// One phase of a stop, in the order in which they run.
///
/// A phase ends by a fact or, failing that, at its deadline; never by a fixed sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Leave service discovery. Ends when every registry has confirmed that the instance is gone.
    Deregister,
    /// Keep serving until traffic has really stopped coming. Ends when no new connection came for the
    /// quiet interval.
    Settle,
    /// Finish what is in flight and take nothing new. Ends when nothing is in flight.
    Drain,
    /// Send the stop signal and wait. Ends when every process has exited.
    Terminate,
    /// Make buffered data durable. Always runs, also before a kill.
    Flush,
    /// SIGKILL for whatever is left. Skipped when nothing is.
    Kill,
}

impl Phase {
    /// All phases in their order.
    pub const ALL: [Self; 6] =
        [Self::Deregister, Self::Settle, Self::Drain, Self::Terminate, Self::Flush, Self::Kill];

    /// The name used in texts and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deregister => "deregister",
            Self::Settle => "settle",
            Self::Drain => "drain",
            Self::Terminate => "terminate",
            Self::Flush => "flush",
            Self::Kill => "kill",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One ended phase: a line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Step {
    /// Which phase.
    pub phase: Phase,
    /// When it began, in milliseconds since the stop was requested.
    #[serde(rename = "began_ms", with = "millis")]
    #[cfg_attr(any(feature = "schema", test), schemars(with = "f64"))]
    pub began: Duration,
    /// How long it lasted, in milliseconds.
    #[serde(rename = "took_ms", with = "millis")]
    #[cfg_attr(any(feature = "schema", test), schemars(with = "f64"))]
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a phase ended. None of these stops the next phase.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(tag = "is", content = "why", rename_all = "snake_case")]
pub enum Outcome {
    /// The fact that ends the phase was observed.
    Done,
    /// Its deadline came first.
    Late,
    /// It was cut short by a further stop request.
    Hurried,
    /// It was cut short because the stop signal provably reaches nobody.
    Unheard,
    /// It could not be carried out.
    Failed(String),
    /// It did not run.
    Skipped(Skip),
}

/// Why a phase did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// The plan has no such phase: no registry, no drain asked for.
    NotPlanned,
    /// The budget left no time for it.
    NoTime,
    /// A further stop request came first.
    Hurried,
    /// Every process was already gone.
    AlreadyGone,
    /// The connections cannot be looked at.
    NotVisible,
}

/// Durations as JSON numbers of milliseconds, to the microsecond.
pub mod millis {
    use core::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a duration as milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "exact for every stop shorter than 285 years")]
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(duration.as_micros() as f64 / 1000.0)
    }

    /// Reads a duration from milliseconds; negative and non-finite numbers are an error.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let ms = f64::deserialize(from)?;
        let micros = Duration::try_from_secs_f64(ms / 1000.0).map_err(serde::de::Error::custom)?;
        // Round to the microsecond that was written, so that a report survives being read and written again.
        Ok(Duration::from_micros(u64::try_from((micros.as_nanos() + 500) / 1000).unwrap_or(u64::MAX)))
    }
}
