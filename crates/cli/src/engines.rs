//! How each engine is opened.

use std::sync::Arc;

use gracefully_engine::docker::Docker;
use gracefully_engine::docker::endpoint::{Endpoint, EndpointOptions, Environment};
use gracefully_engine::local::Local;
use gracefully_engine::process::Processes;
use gracefully_engine::{Engine, Kind, Result};

use crate::args::Global;

/// Opens an engine. Nothing is asked of it yet.
pub(crate) fn open(kind: Kind, global: &Global) -> Result<Arc<dyn Engine>> {
    Ok(match kind {
        Kind::Docker => Arc::new(Docker::connect(&Endpoint::resolve(&endpoint(global))?)?),
        Kind::Local => Arc::new(Local::open()?),
        Kind::Process => Arc::new(Processes::new()),
    })
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
