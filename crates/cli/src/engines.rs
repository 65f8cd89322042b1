//! How each engine is opened.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use gracefully_engine::docker::Docker;
use gracefully_engine::docker::endpoint::{Endpoint, EndpointOptions, Environment};
use gracefully_engine::process::Processes;
use gracefully_engine::{Container, Engine, Error, Kind, LogChunk, Result, RunSpec};

use crate::args::Global;

/// Opens an engine. Nothing is asked of it yet.
pub(crate) fn open(kind: Kind, global: &Global) -> Result<Arc<dyn Engine>> {
    match kind {
        Kind::Docker => Ok(Arc::new(Docker::connect(&Endpoint::resolve(&endpoint(global))?)?)),
        Kind::Process => Ok(Arc::new(Processes::new())),
        Kind::Local => Err(Error::Unsupported { what: "the local engine is not there yet".into() }),
    }
}

/// Where docker is, as far as the command line and the environment say.
pub(crate) fn endpoint(global: &Global) -> EndpointOptions {
    let flags = global.docker.clone();
    EndpointOptions {
        host: global.host.clone(),
        context: flags.context,
        config_dir: flags.config,
        tls: flags.tls,
        tls_verify: flags.tlsverify.then_some(true),
        tls_ca: flags.tlscacert,
        tls_cert: flags.tlscert,
        tls_key: flags.tlskey,
        environment: Environment::from_vars(|name| std::env::var_os(name)),
    }
}

/// A container of the local engine with whose output and end we have been connected since before it was started.
pub(crate) struct Attached {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) container: Container,
    pub(crate) output: BoxStream<'static, Result<LogChunk>>,
    /// Its exit code when it has ended for good and, with `--rm`, is removed; `None`: its monitor was killed.
    pub(crate) exit: BoxFuture<'static, Option<i64>>,
}

/// Starts a container on the local engine, the only one that runs commands instead of images.
#[expect(clippy::unused_async, reason = "placeholder")]
pub(crate) async fn run(_: RunSpec) -> Result<Container> {
    Err(Error::Unsupported { what: "the local engine is not there yet".into() })
}

/// As [`run`], for a caller that stays.
#[expect(clippy::unused_async, reason = "placeholder")]
pub(crate) async fn run_attached(_: RunSpec) -> Result<Attached> {
    Err(Error::Unsupported { what: "the local engine is not there yet".into() })
}
