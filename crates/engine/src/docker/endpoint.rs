//! Where the daemon is, by exactly the docker CLI's rules.
//!
//! 1. The *configuration directory* is `--config`, else `DOCKER_CONFIG`, else `~/.docker`.
//! 2. The *context* is `--context`; else the default one if `-H` or `DOCKER_HOST` is given; else `DOCKER_CONTEXT`; else
//!    `currentContext` of `config.json`; else the default one.
//! 3. The default context's daemon is `-H`, else `DOCKER_HOST`, else the local socket; its TLS comes from the `--tls…`
//!    flags, `DOCKER_TLS`, `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`.
//! 4. Any other context's daemon and TLS are in its own files (see `store`), and nothing else applies.
//!
//! Nothing here opens a connection, and the environment comes in as a value.

mod host;
mod store;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use self::host::Host;
use crate::{Error, Result};

/// The context that is not stored: flags and environment.
const DEFAULT_CONTEXT: &str = "default";

/// What the user said about the daemon's place, as typed.
#[derive(Clone, Debug, Default)]
pub struct EndpointOptions {
    /// `-H`, `--host`
    pub host: Option<String>,
    /// `-c`, `--context`
    pub context: Option<String>,
    /// `--config`
    pub config_dir: Option<PathBuf>,
    /// `--tls`: TLS, without looking at the daemon's certificate.
    pub tls: bool,
    /// `--tlsverify`: TLS, and the daemon's certificate must be good. Given as `false` it still turns TLS on.
    pub tls_verify: Option<bool>,
    /// `--tlscacert`
    pub tls_ca: Option<PathBuf>,
    /// `--tlscert`
    pub tls_cert: Option<PathBuf>,
    /// `--tlskey`
    pub tls_key: Option<PathBuf>,
    /// The variables that the docker CLI reads.
    pub environment: Environment,
}

/// The environment variables that the docker CLI reads, and the home directory.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `DOCKER_HOST`
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG`
    pub docker_config: Option<PathBuf>,
    /// `DOCKER_TLS`: any text but the empty one means yes.
    pub docker_tls: Option<String>,
    /// `DOCKER_TLS_VERIFY`: any text but the empty one means yes, even "0".
    pub docker_tls_verify: Option<String>,
    /// `DOCKER_CERT_PATH`
    pub docker_cert_path: Option<PathBuf>,
    /// `HOME`
    pub home: Option<PathBuf>,
}

impl Environment {
    /// Reads the variables by `lookup`, that is `|name| std::env::var_os(name)`. An empty variable is none.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name: &str| path(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_config: path("DOCKER_CONFIG"),
            docker_tls: text("DOCKER_TLS"),
            docker_tls_verify: text("DOCKER_TLS_VERIFY"),
            docker_cert_path: path("DOCKER_CERT_PATH"),
            home: path("HOME"),
        }
    }
}

/// Where the daemon is, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub host: Host,
    /// With TLS, if so; never for a unix socket.
    pub tls: Option<Tls>,
    /// Something to tell the user: the docker CLI goes on without a broken `config.json` and warns.
    pub warning: Option<String>,
}

/// The files of a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// How the daemon's certificate is looked at.
    pub verify: Verify,
    /// Our own certificate and its key, if the daemon wants to know us.
    pub identity: Option<Identity>,
}

/// How the daemon's certificate is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Not at all.
    No,
    /// It must be signed by one of the certificates in this file.
    Against(PathBuf),
    /// It must be signed by an authority that this system trusts.
    System,
}

/// Our own certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, with the intermediate ones.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Endpoint {
    /// Finds out where the daemon is. Reads at most `config.json` and the context's files.
    ///
    /// Fails with [`Error::Endpoint`] for what makes no sense and with [`Error::Unsupported`] for what the docker CLI
    /// can and we cannot (`ssh://`).
    pub fn resolve(options: &EndpointOptions) -> Result<Self> {
        let env = &options.environment;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let config_dir = config_dir(options);
        let mut warning = None;

        let context = if let Some(context) = given(&options.context) {
            if options.host.is_some() {
                let why = "conflicting options: cannot specify both --host and --context";
                return Err(Error::Endpoint { why: why.into() });
            }
            Some(context)
        } else if options.host.is_some() || given(&env.docker_host).is_some() {
            None
        } else if let Some(context) = given(&env.docker_context) {
            Some(context)
        } else {
            let current = store::current_context(&config_dir);
            current.unwrap_or_else(|why| {
                warning = Some(why);
                None
            })
        };

        let endpoint = match context {
            Some(name) if name != DEFAULT_CONTEXT => store::endpoint(&config_dir, &name)?,
            _ => default_endpoint(options, &config_dir)?,
        };
        Ok(Self { warning, ..endpoint })
    }
}

fn config_dir(options: &EndpointOptions) -> PathBuf {
    let env = &options.environment;
    let dir = options.config_dir.clone().or_else(|| env.docker_config.clone());
    dir.unwrap_or_else(|| env.home.clone().unwrap_or_else(|| PathBuf::from("/")).join(".docker"))
}

fn default_endpoint(options: &EndpointOptions, config_dir: &Path) -> Result<Endpoint> {
    let env = &options.environment;
    let tls = default_tls(options, config_dir);
    let address = options.host.as_deref().or(env.docker_host.as_deref()).unwrap_or_default();
    let host = Host::from_option(address, tls.is_some())?;
    let tls = tls.filter(|_| host.is_remote());
    Ok(Endpoint { host, tls, warning: None })
}

/// TLS as flags and environment ask for it.
fn default_tls(options: &EndpointOptions, config_dir: &Path) -> Option<Tls> {
    let env = &options.environment;
    let set = |variable: &Option<String>| variable.as_ref().is_some_and(|text| !text.is_empty());
    let wanted =
        options.tls || options.tls_verify.is_some() || set(&env.docker_tls) || set(&env.docker_tls_verify);
    if !wanted {
        return None;
    }
    let files = env.docker_cert_path.as_deref().unwrap_or(config_dir);
    let ca = options.tls_ca.clone().unwrap_or_else(|| files.join(store::CA));
    let verify = options.tls_verify.unwrap_or_else(|| set(&env.docker_tls_verify));
    // What is asked for must be there; what only lies in the usual place is used if it is there.
    let usual = |name: &str| Some(files.join(name)).filter(|path| path.exists());
    let cert = options.tls_cert.clone().or_else(|| usual(store::CERT));
    let key = options.tls_key.clone().or_else(|| usual(store::KEY));
    Some(Tls {
        verify: if verify { Verify::Against(ca) } else { Verify::No },
        identity: cert.zip(key).map(|(cert, key)| Identity { cert, key }),
    })
}

#[cfg(test)]
mod tests;
