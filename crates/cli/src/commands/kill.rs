//! `kill`: one signal, SIGKILL unless told otherwise.

use gracefully_core::signal::Signal;
use gracefully_engine::Error;

use super::{each, signal};
use crate::args::Kill;
use crate::lookup::Missing;
use crate::settings::Settings;

/// The signal is understood before anybody is looked up, as docker does.
pub(super) async fn kill(settings: &Settings, args: Kill) -> anyhow::Result<u8> {
    let signal = signal(args.signal.as_deref())?.unwrap_or(Signal::KILL);
    each(settings, &args.targets.targets, async |target| {
        let found = settings.engines.find(target).await.map_err(|missing| match &missing {
            Missing::Unasked(why) => why.clone(),
            Missing::In(_, error) if !is_refusal(error) => missing.to_string(),
            Missing::In(..) | Missing::Everywhere(..) => cannot_kill(target, &missing.to_string()),
        })?;
        match found.engine.signal(&found.container, signal).await {
            Ok(()) => Ok(Some(target.to_owned())),
            Err(error) if is_refusal(&error) => Err(cannot_kill(target, &found.in_words(&error))),
            Err(error) => Err(found.in_words(&error)),
        }
    })
    .await
}

/// Did the engine look, and say no?
fn is_refusal(error: &Error) -> bool {
    let is_daemons = matches!(error, Error::Daemon { .. });
    is_daemons || error.is_not_found() || error.is_ambiguous() || error.is_not_running()
}

/// Docker's text with the name as it was typed. The daemon is asked by the identifier, and would name that.
fn cannot_kill(target: &str, why: &str) -> String {
    const FROM_DAEMON: &str = "Error response from daemon: ";
    let (from_daemon, why) = match why.strip_prefix(FROM_DAEMON) {
        Some(why) => (FROM_DAEMON, why),
        None => ("", why),
    };
    let why = match why.splitn(3, ": ").collect::<Vec<_>>()[..] {
        [what, _, why] if what.eq_ignore_ascii_case("cannot kill container") => why,
        _ => why,
    };
    format!("{from_daemon}Cannot kill container: {target}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_named_as_typed() {
        for (why, expected) in [
            (
                "Error response from daemon: Cannot kill container: 0123: Container 0123 is not running",
                "Error response from daemon: Cannot kill container: web: Container 0123 is not running",
            ),
            (
                "Error response from daemon: cannot kill container: 0123: container 0123 is not running",
                "Error response from daemon: Cannot kill container: web: container 0123 is not running",
            ),
            (
                "Error response from daemon: No such container: web",
                "Error response from daemon: Cannot kill container: web: No such container: web",
            ),
            ("No such container: web", "Cannot kill container: web: No such container: web"),
        ] {
            assert_eq!(cannot_kill("web", why), expected);
        }
    }
}
