//! The docker CLI's files: `config.json` and the context store.
//!
//! ```text
//! CONFIG/config.json                                 {"currentContext": "NAME"}
//! CONFIG/contexts/meta/<sha256 of NAME>/meta.json    {"Name": …, "Endpoints": {"docker": {"Host": …, "SkipTLSVerify": …}}}
//! CONFIG/contexts/tls/<sha256 of NAME>/docker/       ca.pem, cert.pem, key.pem; each may be absent
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use serde::Deserialize;

use super::{Endpoint, Host, Identity, Tls, Verify};
use crate::{Error, Result};

pub(super) const CA: &str = "ca.pem";
pub(super) const CERT: &str = "cert.pem";
pub(super) const KEY: &str = "key.pem";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    endpoints: HashMap<String, EndpointMeta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointMeta {
    host: Option<String>,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_tls_verify: bool,
}

/// `currentContext` of `config.json`, if there is that file; else what to warn of.
pub(super) fn current_context(config_dir: &Path) -> Result<Option<String>, String> {
    let path = config_dir.join("config.json");
    let warning = |why: String| format!("WARNING: Error loading config file: {}: {why}", path.display());
    match fs::read(&path) {
        Ok(bytes) => {
            let file: ConfigFile =
                serde_json::from_slice(&bytes).map_err(|error| warning(error.to_string()))?;
            Ok(file.current_context.filter(|name| !name.is_empty()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(warning(error.to_string())),
    }
}

/// The daemon of a stored context.
pub(super) fn endpoint(config_dir: &Path, context: &str) -> Result<Endpoint> {
    let unable = |why: String| Error::Endpoint { why: format!("unable to resolve docker endpoint: {why}") };
    let contexts = config_dir.join("contexts");
    let id = digest(context);

    let path = contexts.join("meta").join(&id).join("meta.json");
    let bytes = fs::read(&path).map_err(|error| {
        let reason = match error.kind() {
            // As Go words it, which the docker CLI prints.
            io::ErrorKind::NotFound => "no such file or directory".into(),
            _ => error.to_string(),
        };
        unable(format!("context \"{context}\": context not found: open {}: {reason}", path.display()))
    })?;
    let meta: Meta = serde_json::from_slice(&bytes)
        .map_err(|error| unable(format!("context \"{context}\": {}: {error}", path.display())))?;
    let docker = meta.endpoints.get("docker");
    let Some((docker, host)) = docker.and_then(|docker| Some((docker, docker.host.as_deref()?))) else {
        return Err(unable(format!("context \"{context}\" has no docker endpoint ({})", path.display())));
    };

    let host = Host::from_url(host)?;
    let tls = tls(&contexts.join("tls").join(&id).join("docker"), docker.skip_tls_verify);
    let tls = tls.filter(|_| host.is_remote());
    Ok(Endpoint { host, tls, warning: None })
}

/// The context's own TLS; none if it has neither files nor the wish not to verify.
fn tls(dir: &Path, skip_verify: bool) -> Option<Tls> {
    let file = |name: &str| Some(dir.join(name)).filter(|path| path.exists());
    let ca = file(CA);
    let identity = file(CERT).zip(file(KEY)).map(|(cert, key)| Identity { cert, key });
    if ca.is_none() && identity.is_none() && !skip_verify {
        return None;
    }
    let verify = match ca {
        _ if skip_verify => Verify::No,
        Some(ca) => Verify::Against(ca),
        None => Verify::System,
    };
    Some(Tls { verify, identity })
}

/// The directory name of a context.
pub(super) fn digest(context: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, context.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
