//! `wait`: exit codes in the order of the names. All are waited for at once.

use super::each;
use crate::args::Targets;
use crate::settings::Settings;

pub(super) async fn wait(settings: &Settings, args: Targets) -> anyhow::Result<u8> {
    each(settings, &args.targets, async |target| {
        let found = settings.engines.find(target).await.map_err(|why| why.to_string())?;
        let code = found.engine.wait(&found.container).await.map_err(|error| found.in_words(&error))?;
        Ok(Some(code.to_string()))
    })
    .await
}
