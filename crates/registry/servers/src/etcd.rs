//! etcd, one server alone.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::bridge::Change;
use crate::server::{find, free};
use crate::{Missing, Server};

/// A running etcd.
#[derive(Debug)]
pub struct Etcd {
    server: Server,
    at: SocketAddr,
    has_tls: bool,
}

impl Etcd {
    /// Starts one.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn start() -> Result<Self, Missing> {
        Self::start_with(false)
    }

    /// Starts one that speaks TLS, with the certificate `server.pem` and its key `server.key` that `openssl` makes in its directory.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn start_with_tls() -> Result<Self, Missing> {
        find("openssl", "openssl")?;
        Self::start_with(true)
    }

    fn start_with(has_tls: bool) -> Result<Self, Missing> {
        let program = find("etcd", "etcd-server")?;
        find("etcdctl", "etcd-client")?;
        let (at, peers) = (free(), free());
        let scheme = if has_tls { "https" } else { "http" };
        let arguments = |directory: &Path, command: &mut Command| {
            let (clients, peers) = (format!("{scheme}://{at}"), format!("http://{peers}"));
            command.args(["--name", "t", "--log-level", "warn", "--data-dir"]).arg(directory.join("data"));
            command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
            command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
            command.args(["--initial-cluster", &format!("t={peers}")]);
            // Nothing here has to outlive a loss of power.
            command.arg("--unsafe-no-fsync");
            if has_tls {
                certify(directory);
                command.arg("--cert-file").arg(directory.join("server.pem"));
                command.arg("--key-file").arg(directory.join("server.key"));
            }
        };
        let answers = |directory: &Path| etcdctl(at, has_tls, directory, &["endpoint", "health"]).is_ok();
        Ok(Self { server: Server::start(&program, arguments, answers), at, has_tls })
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Its process and its directory.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// What `etcdctl` says to this: a client that is not ours.
    ///
    /// # Panics
    /// If it fails.
    pub fn ctl(&self, words: &[&str]) -> String {
        self.try_ctl(words).unwrap_or_else(|why| panic!("etcdctl {words:?}: {why}"))
    }

    fn try_ctl(&self, words: &[&str]) -> Result<String, String> {
        etcdctl(self.at, self.has_tls, self.server.directory(), words)
    }

    /// The keys below this prefix.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = self.ctl(&["get", "--prefix", "--keys-only", prefix]);
        keys.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Tells of every entry `PREFIX…/ID` that there is, and of every change, on a thread that ends with the server. Values are those of
    /// the layout `plain`: JSON with the member `Addr`.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn watch(&self, prefix: &str, mut tell: impl FnMut(Change) + Send + 'static) {
        let base = format!("http://{}/v3", self.at);
        let mut end = prefix.as_bytes().to_vec();
        // The next prefix of the same length.
        *end.last_mut().expect("a prefix is not empty") += 1;
        let (key, end) = (BASE64_STANDARD.encode(prefix), BASE64_STANDARD.encode(end));
        let range = json!({ "key": key, "range_end": end });
        let found = ureq::post(format!("{base}/kv/range")).send(range.to_string()).expect("etcd answers");
        let found: Value = serde_json::from_reader(found.into_body().into_reader()).expect("JSON");
        for entry in found["kvs"].as_array().into_iter().flatten() {
            put(entry).into_iter().for_each(&mut tell);
        }
        let next =
            found["header"]["revision"].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) + 1;
        let create = json!({ "key": key, "range_end": end, "start_revision": next.to_string() });
        let watch = ureq::post(format!("{base}/watch")).send(json!({ "create_request": create }).to_string());
        let lines = BufReader::new(watch.expect("etcd answers").into_body().into_reader()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(news) = serde_json::from_str::<Value>(&line) else { continue };
                for event in news["result"]["events"].as_array().into_iter().flatten() {
                    let change = if event["type"] == "DELETE" {
                        text(&event["kv"]["key"]).map(Change::Gone)
                    } else {
                        put(&event["kv"])
                    };
                    change.into_iter().for_each(&mut tell);
                }
            }
        });
    }

    /// Ends all leases, as if they had run out.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn expire_all(&self) {
        for lease in self.ctl(&["lease", "list"]).lines().filter(|line| !line.starts_with("found")) {
            let revoked = self.try_ctl(&["lease", "revoke", lease]);
            // It may have run out by itself meanwhile.
            let is_gone = revoked.as_ref().err().is_none_or(|why| why.contains("lease not found"));
            assert!(is_gone, "etcdctl lease revoke {lease}: {revoked:?}");
        }
    }
}

fn text(value: &Value) -> Option<String> {
    String::from_utf8(BASE64_STANDARD.decode(value.as_str()?).ok()?).ok()
}

fn put(entry: &Value) -> Option<Change> {
    let value: Value = serde_json::from_str(&text(&entry["value"])?).ok()?;
    Some(Change::Put(text(&entry["key"])?, value["Addr"].as_str()?.parse().ok()?))
}

fn etcdctl(at: SocketAddr, has_tls: bool, directory: &Path, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new("etcdctl");
    // A user of the test's own would become ours.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"ETCDCTL_") {
            command.env_remove(name);
        }
    }
    command.env("ETCDCTL_API", "3");
    let scheme = if has_tls { "https" } else { "http" };
    command.args(["--endpoints", &format!("{scheme}://{at}")]).args(words);
    if has_tls {
        command.arg("--cacert").arg(directory.join("server.pem"));
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Makes a certificate for the loopback interface that is its own authority, and may certify nobody else: clients on rustls take no
/// authority's own certificate from a server.
fn certify(directory: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(directory.join("server.key")).arg("-out").arg(directory.join("server.pem"));
    let made = openssl.output().expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
