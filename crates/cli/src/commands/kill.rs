//! `kill`: one signal, SIGKILL unless told otherwise.

use gracefully_core::signal::Signal;
use gracefully_engine::Kind;

use super::{each, signal};
use crate::args::Kill;
use crate::settings::Settings;

/// The signal is understood before anybody is looked up, as docker does.
pub(super) async fn kill(settings: &Settings, args: Kill) -> anyhow::Result<u8> {
    let signal = signal(args.signal.as_deref())?.unwrap_or(Signal::KILL);
    each(settings, &args.targets.targets, async |target| {
        let found = settings
            .engines
            .find(target)
            .await
            .map_err(|why| format!("Cannot kill container: {target}: {why}"))?;
        match found.engine.signal(&found.container, signal).await {
            Ok(()) => Ok(Some(target.to_owned())),
            Err(error) if error.is_not_running() && found.engine.kind() != Kind::Docker => {
                Err(format!("Cannot kill container: {target}: {}", found.in_words(&error)))
            }
            Err(error) => Err(found.in_words(&error)),
        }
    })
    .await
}
