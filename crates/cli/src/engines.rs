//! How each engine is opened.

use std::io::{self, Write as _};
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
        Kind::Local => Arc::new(Local::open()?),
        Kind::Docker => Arc::new(open_docker(global)?),
        Kind::Process => Arc::new(Processes::new()),
    })
}

fn open_docker(global: &Global) -> Result<Docker> {
    let flags = global.docker.clone();
    let endpoint = Endpoint::resolve(&EndpointOptions {
        host: global.host.clone(),
        context: flags.context,
        config_dir: flags.config,
        tls: flags.tls,
        tls_verify: flags.tlsverify.then_some(true),
        tls_ca: flags.tlscacert,
        tls_cert: flags.tlscert,
        tls_key: flags.tlskey,
        environment: Environment::from_vars(|name| std::env::var_os(name)),
    })?;
    if let Some(warning) = &endpoint.warning {
        // As docker: a broken config.json is told and otherwise ignored.
        let _ = writeln!(io::stderr().lock(), "{warning}");
    }
    Docker::connect(&endpoint)
}
