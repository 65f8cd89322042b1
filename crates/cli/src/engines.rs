//! How each engine is opened.

use std::sync::Arc;

use gracefully_engine::{Engine, Error, Kind, Result, RunSpec};

use crate::args::Global;
use crate::lookup::Found;

/// Opens an engine. Nothing is asked of it yet.
#[expect(clippy::unused_async, reason = "placeholder")]
pub(crate) async fn open(kind: Kind, global: &Global) -> Result<Arc<dyn Engine>> {
    let address = global.host.clone().unwrap_or_else(|| "unix:///var/run/docker.sock".into());
    match kind {
        Kind::Docker => Err(Error::NoDaemon { address }),
        Kind::Local | Kind::Process => Err(Error::Unsupported { what: "placeholder".into() }),
    }
}

/// Starts a container on the local engine, the only one that runs commands instead of images.
#[expect(clippy::unused_async, reason = "placeholder")]
pub(crate) async fn run(_: RunSpec) -> Result<Found> {
    Err(Error::Unsupported { what: "placeholder".into() })
}

/// The processes of a container whose main process has this PID on this machine.
pub(crate) fn family(_: u32) -> Option<gracefully_core::diagnosis::Family> {
    None
}

/// The command line of a process of this machine.
pub(crate) fn command_line(_: u32) -> Option<Vec<String>> {
    None
}
