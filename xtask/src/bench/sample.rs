//! Measuring in pairs.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};

use crate::command::words;

/// What was measured of the two sides.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) theirs: Vec<f64>,
    pub(crate) ours: Vec<f64>,
}

/// Measures both sides `n` times; chance decides who is first.
pub(crate) fn pairs(
    n: usize,
    mut theirs: impl FnMut() -> Result<f64>,
    mut ours: impl FnMut() -> Result<f64>,
) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..n {
        let theirs_first = monotonic_nanoseconds() / 1000 % 2 == 0;
        if theirs_first {
            samples.theirs.push(theirs()?);
        }
        samples.ours.push(ours()?);
        if !theirs_first {
            samples.theirs.push(theirs()?);
        }
    }
    Ok(samples)
}

/// Measures one side, where there is no other.
pub(crate) fn single(n: usize, mut ours: impl FnMut() -> Result<f64>) -> Result<Samples> {
    Ok(Samples { theirs: Vec::new(), ours: (0..n).map(|_| ours()).collect::<Result<_>>()? })
}

/// From starting a command until it has ended; it must end well.
pub(crate) fn milliseconds(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {}", words(command)))?;
    let took = began.elapsed();
    if !status.success() {
        bail!("{} failed: {status}", words(command));
    }
    Ok(took.as_secs_f64() * 1e3)
}

/// The clock that the victim's stamp is made of.
pub(crate) fn monotonic_nanoseconds() -> i128 {
    let now = clock_gettime(ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// From one moment on that clock to another.
#[expect(clippy::cast_precision_loss, reason = "a difference of seconds in nanoseconds")]
pub(crate) fn milliseconds_between(earlier: i128, later: i128) -> f64 {
    (later - earlier) as f64 / 1e6
}

/// The value below which this part of the samples lies.
pub(crate) fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index of a short list"
    )]
    let index = (last as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_do_not_depend_on_the_order() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(
            [0.0, 0.5, 1.0].map(|part| quantile(&samples, part).to_bits()),
            [1.0_f64, 3.0, 5.0].map(f64::to_bits)
        );
    }

    #[test]
    fn every_pair_has_both_sides() {
        let samples = pairs(7, || Ok(2.0), || Ok(1.0)).expect("nothing can fail");
        assert_eq!((samples.theirs.len(), samples.ours.len()), (7, 7));
    }
}
