//! `rm`

use gracefully_engine::Removal;

use super::each;
use crate::args::Rm;
use crate::settings::Settings;

/// With `--force`, what does not exist is as good as removed: docker prints no name and makes no error of it.
pub(super) async fn rm(settings: &Settings, args: Rm) -> anyhow::Result<u8> {
    let how = Removal { force: args.force, volumes: args.volumes };
    each(settings, &args.targets.targets, async |target| {
        let found = match settings.engines.find(target).await {
            Ok(found) => found,
            Err(missing) if args.force && missing.is_certain() => return Ok(None),
            Err(missing) => return Err(missing.to_string()),
        };
        match found.engine.remove(&found.container, how).await {
            Ok(()) => Ok(Some(target.to_owned())),
            Err(error) => Err(found.in_words(&error)),
        }
    })
    .await
}
