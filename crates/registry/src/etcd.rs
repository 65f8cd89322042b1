//! etcd, by its JSON gateway (etcd ≥ 3.4, `/v3/…`).
//!
//! A registration is a **key** that hangs on a **lease**. A lease lives for its time to live after the last heartbeat, and with it goes
//! the key; whoever leaves revokes the lease, and whoever watches hears of it within milliseconds. The number of the lease is chosen here,
//! so that it can be revoked even if the answer to its grant was lost.
//!
//! | `layout` | key | value |
//! |---|---|---|
//! | `plain` | `PREFIX/SERVICE/ID` | JSON with everything of the instance; gRPC's resolver for etcd finds its `Addr` in it |
//! | `traefik` | `PREFIX/http/services/SERVICE/loadBalancer/servers/ID/url` | `http://ADDRESS:PORT`, as Traefik's provider reads it |
//!
//! In keys, slashes of an id or a service are escaped as in a URL. The prefix is `services`, or `traefik` with its layout, unless the URL
//! has a path.
//!
//! What etcd answers, and what it means (measured with 3.4.23):
//!
//! * the heartbeat of a lease that is gone: 200 without `TTL`, not an error;
//! * revoking one that is gone: 404 with code 5;
//! * with users (`etcdctl auth enable`), a call without a token is refused with code 3 or 7, one with an old token with code 16.
//!
//! The user is `ETCDCTL_USER`, as for etcdctl: `NAME:PASSWORD`, or `NAME` and the password in `ETCDCTL_PASSWORD` (or in the file that
//! `…_FILE` names). TLS (`etcds://`) trusts `ETCDCTL_CACERT`, else the system's authorities, and shows `ETCDCTL_CERT` with `ETCDCTL_KEY`. A
//! certificate's name is no user here: the JSON gateway does not pass it on.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::gateway::removed;
use crate::http::{Answer, Question, Servers, TlsNames};
use crate::secret::User;
use crate::url::{Url, escaped};
use crate::{Alive, Deadline, Error, Hints, Instance, Left, Registry, Result};

const TLS: TlsNames = TlsNames {
    scheme: "etcds",
    authorities: "ETCDCTL_CACERT",
    certificate: "ETCDCTL_CERT",
    key: "ETCDCTL_KEY",
};

const PORT: u16 = 2379;

/// How long a key lives without a heartbeat.
const TTL: Duration = Duration::from_secs(10);

/// etcd grants no less, whatever is asked for.
const LEAST: Duration = Duration::from_secs(2);

/// Whoever watches has heard of it after milliseconds; Traefik then waits up to two seconds (`providersThrottleDuration`).
const SETTLE: Duration = Duration::from_secs(2);

/// etcd looks for leases that have run out twice a second.
const LOOKED_FOR: Duration = Duration::from_millis(500);

/// The codes of gRPC that mean something here.
const INVALID: u64 = 3;
const NOT_FOUND: u64 = 5;
const DENIED: u64 = 7;
const PRECONDITION: u64 = 9;
const UNAUTHENTICATED: u64 = 16;

const HINT: &str = "set ETCDCTL_USER, and ETCDCTL_PASSWORD or ETCDCTL_PASSWORD_FILE, to a user who may write below the prefix";

/// A cluster of etcd.
#[derive(Debug)]
pub struct Etcd {
    servers: Servers,
    prefix: String,
    layout: Layout,
    ttl: Duration,
    user: Option<User>,
    /// What it has given us for the password.
    token: Option<String>,
    entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Plain,
    Traefik,
}

#[derive(Clone, Debug)]
struct Entry {
    lease: i64,
    /// In base 64, as it is asked for.
    key: String,
}

/// Why a call has not succeeded.
enum Fault {
    /// There is no such lease.
    NotFound,
    Other(Error),
}

impl Fault {
    fn into_error(self, servers: &Servers) -> Error {
        match self {
            Self::NotFound => servers.failed("there is no such lease"),
            Self::Other(error) => error,
        }
    }
}

impl Etcd {
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        let mut settings = url.settings()?;
        let ttl = settings.ttl(TTL, LEAST)?;
        let layout = settings.choice("layout", &[("plain", Layout::Plain), ("traefik", Layout::Traefik)])?;
        settings.end()?;
        let usual = match layout {
            Layout::Plain => "services",
            Layout::Traefik => "traefik",
        };
        // etcd has no directories: a slash at the beginning is a part of the key, as it is written.
        let prefix = match url.path.trim_end_matches('/') {
            "" => usual.to_owned(),
            path => path.strip_prefix('/').unwrap_or(path).to_owned(),
        };
        Ok(Self {
            servers: Servers::open(url, PORT, &TLS)?,
            prefix,
            layout,
            ttl,
            user: User::from_environment("ETCDCTL_USER", "ETCDCTL_PASSWORD")?,
            token: None,
            entry: None,
        })
    }

    fn key(&self, instance: &Instance) -> String {
        let (prefix, service, id) = (&self.prefix, escaped(&instance.service), escaped(&instance.id));
        BASE64_STANDARD.encode(match self.layout {
            Layout::Plain => format!("{prefix}/{service}/{id}"),
            Layout::Traefik => format!("{prefix}/http/services/{service}/loadBalancer/servers/{id}/url"),
        })
    }

    fn value(&self, instance: &Instance) -> String {
        let address = instance.host_and_port();
        BASE64_STANDARD.encode(match self.layout {
            Layout::Plain => {
                let mut value = instance.to_json();
                // What gRPC's resolver reads (go.etcd.io/etcd/client/v3/naming/endpoints).
                value["Op"] = json!(0);
                value["Addr"] = json!(address);
                value.to_string()
            }
            Layout::Traefik => format!("http://{address}"),
        })
    }

    /// Asks, as the user if there is one.
    fn call(&mut self, path: &str, body: &Value, deadline: Deadline) -> std::result::Result<Value, Fault> {
        let body = body.to_string();
        let mut first = true;
        loop {
            if self.user.is_some() && self.token.is_none() {
                self.log_in(deadline).map_err(Fault::Other)?;
            }
            let authorization = self.token.as_deref().map(|token| ("Authorization", token));
            let headers: Vec<_> = authorization.into_iter().collect();
            let question = Question::new(Method::POST, path).headers(&headers).json(&body);
            let answer = self.servers.ask(&question, deadline).map_err(Fault::Other)?;
            match understand(&answer) {
                // Tokens are forgotten after five minutes, and when a server is started again.
                Err((UNAUTHENTICATED, _)) if self.token.is_some() && first => {
                    (self.token, first) = (None, false);
                }
                Err((NOT_FOUND, _)) => return Err(Fault::NotFound),
                // Too much is invalid, too.
                Err((INVALID, why)) if !why.contains("user") && !why.contains("auth") => {
                    return Err(Fault::Other(self.servers.failed(&why)));
                }
                Err((INVALID | DENIED | UNAUTHENTICATED, why)) => {
                    return Err(Fault::Other(self.servers.refused(&why, HINT)));
                }
                Err((_, why)) => return Err(Fault::Other(self.servers.failed(&why))),
                Ok(value) => return Ok(value),
            }
        }
    }

    fn log_in(&mut self, deadline: Deadline) -> Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        let body = json!({ "name": user.name, "password": user.password.expose() }).to_string();
        let question = Question::new(Method::POST, "/v3/auth/authenticate").json(&body);
        let answer = self.servers.ask(&question, deadline)?;
        self.token = match understand(&answer) {
            Ok(json) => json.get("token").and_then(Value::as_str).map(str::to_owned),
            // There are no users, so whoever asks may do everything.
            Err((PRECONDITION, _)) => {
                self.user = None;
                None
            }
            Err((0, why)) => return Err(self.servers.failed(&why)),
            Err((_, why)) => return Err(self.servers.refused(&why, HINT)),
        };
        Ok(())
    }

    fn grant(&mut self, lease: i64, deadline: Deadline) -> std::result::Result<(), Fault> {
        let grant = json!({ "TTL": self.ttl.as_secs(), "ID": lease.to_string() });
        self.call("/v3/lease/grant", &grant, deadline).map(drop)
    }

    fn put(&mut self, entry: &Entry, value: &str, deadline: Deadline) -> std::result::Result<(), Fault> {
        let put = json!({ "key": entry.key, "value": value, "lease": entry.lease.to_string() });
        self.call("/v3/kv/put", &put, deadline).map(drop)
    }

    fn revoke(&mut self, lease: i64, deadline: Deadline) -> std::result::Result<(), Fault> {
        self.call("/v3/lease/revoke", &json!({ "ID": lease.to_string() }), deadline).map(drop)
    }

    /// The number of the lease on which the key hangs, if there is one.
    fn lease_of(&mut self, entry: &Entry, deadline: Deadline) -> Result<Option<i64>> {
        let range = self.call("/v3/kv/range", &json!({ "key": entry.key }), deadline);
        let range = range.map_err(|fault| fault.into_error(&self.servers))?;
        let Some(found) = range.get("kvs").and_then(|found| found.get(0)) else { return Ok(None) };
        Ok(Some(number(found.get("lease")).unwrap_or(0)))
    }

    pub(crate) fn find(&mut self, service: &str, deadline: Deadline) -> Result<Vec<Instance>> {
        if self.layout != Layout::Plain {
            return Err(self.servers.failed("only the layout plain is read"));
        }
        let prefix = format!("{}/{}/", self.prefix, escaped(service));
        // The slash, and what comes after it.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let range =
            json!({ "key": BASE64_STANDARD.encode(prefix), "range_end": BASE64_STANDARD.encode(end) });
        let range = self.call("/v3/kv/range", &range, deadline);
        let range = range.map_err(|fault| fault.into_error(&self.servers))?;
        let entries = range.get("kvs").and_then(Value::as_array).into_iter().flatten();
        let instance = |entry: &Value| {
            let value = BASE64_STANDARD.decode(entry.get("value")?.as_str()?).ok()?;
            Instance::from_json(&serde_json::from_slice(&value).ok()?)
        };
        Ok(entries.filter_map(instance).collect())
    }

    fn entry(&self) -> Result<Entry> {
        self.entry.clone().ok_or(Error::NotRegistered)
    }
}

impl Registry for Etcd {
    fn register(&mut self, instance: &Instance, deadline: Deadline) -> Result<()> {
        let (key, value) = (self.key(instance), self.value(instance));
        if let Some(entry) = self.entry.clone().filter(|entry| entry.key == key) {
            match self.put(&entry, &value, deadline) {
                // Its lease has run out.
                Err(Fault::NotFound) => {}
                done => return done.map_err(|fault| fault.into_error(&self.servers)),
            }
        }
        // The keys of a new map are random, and so is what they make of nothing.
        let lease = i64::try_from(RandomState::new().hash_one(()) >> 1).expect("63 bits");
        let entry = Entry { lease, key };
        // From here on there may be something to be taken out.
        self.entry = Some(entry.clone());
        let granted = self.grant(lease, deadline).and_then(|()| self.put(&entry, &value, deadline));
        granted.map_err(|fault| fault.into_error(&self.servers))
    }

    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
        let entry = self.entry()?;
        let alive =
            match self.call("/v3/lease/keepalive", &json!({ "ID": entry.lease.to_string() }), deadline) {
                Ok(answer) => number(answer.get("TTL")).is_some_and(|ttl| ttl > 0),
                Err(Fault::NotFound) => false,
                Err(Fault::Other(error)) => return Err(error),
            };
        // The lease may live and somebody has removed the key, or has put another in its place.
        let is_ours = alive && self.lease_of(&entry, deadline)? == Some(entry.lease);
        Ok(if is_ours { Alive::Yes } else { Alive::Lost })
    }

    fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
        let entry = self.entry()?;
        match self.revoke(entry.lease, deadline) {
            Ok(()) => Ok(Left::Now),
            Err(Fault::NotFound) => Ok(Left::Before),
            Err(Fault::Other(error)) => Err(error),
        }
    }

    fn is_visible(&mut self, deadline: Deadline) -> Result<bool> {
        let entry = self.entry()?;
        Ok(self.lease_of(&entry, deadline)?.is_some())
    }

    fn hints(&self) -> Hints {
        Hints { beat: self.ttl / 3, settle: SETTLE, crash_after: self.ttl + LOOKED_FOR }
    }
}

/// A key that somebody else has made. Its name is taken as it is: there are many layouts.
#[derive(Debug)]
pub(crate) struct Key {
    etcd: Etcd,
    name: String,
    /// What stood there.
    removed: Option<Value>,
}

impl Key {
    pub(crate) fn open(url: &Url<'_>, service: &str, id: &str) -> Result<Self> {
        let etcd = Etcd::open(url)?;
        Ok(Self { name: format!("{}/{service}/{id}", etcd.prefix), etcd, removed: None })
    }

    fn encoded(&self) -> String {
        BASE64_STANDARD.encode(&self.name)
    }

    fn call(&mut self, path: &str, body: &Value, deadline: Deadline) -> Result<Value> {
        self.etcd.call(path, body, deadline).map_err(|fault| fault.into_error(&self.etcd.servers))
    }
}

impl removed::Entry for Key {
    fn place(&self) -> &str {
        &self.name
    }

    fn is_there(&mut self, deadline: Deadline) -> Result<bool> {
        let range = json!({ "key": self.encoded(), "count_only": true });
        Ok(number(self.call("/v3/kv/range", &range, deadline)?.get("count")).is_some_and(|count| count > 0))
    }

    fn remove(&mut self, deadline: Deadline) -> Result<bool> {
        let range = json!({ "key": self.encoded(), "prev_kv": true });
        let answer = self.call("/v3/kv/deleterange", &range, deadline)?;
        self.removed = answer.get("prev_kvs").and_then(|removed| removed.get(0)).cloned();
        Ok(self.removed.is_some())
    }

    fn put_back(&mut self, deadline: Deadline) -> Result<()> {
        let Some(removed) = &self.removed else {
            return Err(self
                .etcd
                .servers
                .failed(&format!("what stood at {} is not known any more", self.name)));
        };
        let put =
            json!({ "key": self.encoded(), "value": removed.get("value"), "lease": removed.get("lease") });
        let is_free = json!({ "key": self.encoded(), "target": "CREATE", "createRevision": "0" });
        let body = json!({ "compare": [is_free], "success": [{ "requestPut": put }] });
        self.call("/v3/kv/txn", &body, deadline).map(drop)
    }

    fn settle(&self) -> Duration {
        SETTLE
    }
}

/// The answer, or the code and the words of an error.
fn understand(answer: &Answer) -> std::result::Result<Value, (u64, String)> {
    let Some(json) = answer.json().filter(Value::is_object) else {
        return Err((0, format!("this is not etcd's JSON: {}", answer.words())));
    };
    // Where an answer may have several parts, an error is one of them.
    let error = json.get("error").filter(|error| error.is_object()).unwrap_or(&json);
    if answer.status.is_success() && json.get("error").is_none() {
        return Ok(json.get("result").unwrap_or(&json).clone());
    }
    let code = ["code", "grpc_code"].iter().find_map(|name| error.get(*name)?.as_u64()).unwrap_or(0);
    let words = ["message", "error"].iter().find_map(|name| error.get(*name)?.as_str());
    Err((code, words.map_or_else(|| answer.words(), str::to_owned)))
}

/// A number of 64 bits, which JSON has as a text.
fn number(value: Option<&Value>) -> Option<i64> {
    let value = value?;
    value.as_str().map_or_else(|| value.as_i64(), |text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use ureq::http::StatusCode;

    use super::*;

    fn etcd(url: &str) -> Etcd {
        Etcd::open(&Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn keys_and_values() {
        let mut instance = Instance::new("a/b", "::1", 80);
        instance.id = "x:1".into();
        let plain = etcd("etcd://localhost/apps");
        assert_eq!(plain.key(&instance), BASE64_STANDARD.encode("apps/a%2Fb/x%3A1"));
        let value = BASE64_STANDARD.decode(plain.value(&instance)).unwrap();
        let value: Value = serde_json::from_slice(&value).unwrap();
        assert_eq!((&value["Addr"], &value["port"]), (&json!("[::1]:80"), &json!(80)));
        let traefik = etcd("etcd://localhost?layout=traefik");
        let key = "traefik/http/services/a%2Fb/loadBalancer/servers/x%3A1/url";
        assert_eq!(traefik.key(&instance), BASE64_STANDARD.encode(key));
        assert_eq!(traefik.value(&instance), BASE64_STANDARD.encode("http://[::1]:80"));
    }

    #[test]
    fn answers_are_understood_or_quoted() {
        let understand = |status: u16, body: &str| {
            understand(&Answer { status: StatusCode::from_u16(status).unwrap(), body: body.into() })
        };
        assert_eq!(understand(200, "{\"count\":\"1\"}"), Ok(json!({ "count": "1" })));
        assert_eq!(understand(200, "{\"result\":{\"TTL\":\"10\"}}"), Ok(json!({ "TTL": "10" })));
        let gone = "{\"error\":\"gone\",\"code\":5,\"message\":\"requested lease not found\"}";
        assert_eq!(understand(404, gone), Err((NOT_FOUND, "requested lease not found".into())));
        let streamed = "{\"error\":{\"grpc_code\":16,\"http_code\":401,\"message\":\"invalid auth token\"}}";
        assert_eq!(understand(200, streamed), Err((UNAUTHENTICATED, "invalid auth token".into())));
        let garbage = Err((0, "this is not etcd's JSON: 200: <html>".into()));
        assert_eq!(understand(200, "<html>"), garbage);
        assert_eq!(understand(503, ""), Err((0, "this is not etcd's JSON: 503 Service Unavailable".into())));
    }
}
