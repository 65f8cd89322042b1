//! `demo`

use crate::settings::Settings;

/// Shows what a graceful stop is.
pub(crate) fn demo(_: &Settings) -> anyhow::Result<u8> {
    anyhow::bail!("the demo is not there yet")
}
