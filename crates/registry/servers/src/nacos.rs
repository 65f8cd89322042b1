//! A double of Nacos, which is Java: neither it nor what it is built with is in Debian.
//!
//! `nacos-sdk-python` 1.0, which speaks API 1, keeps that one honest: `crates/registry/tests/nacos.rs`. For API 3 there is no client by
//! HTTP but ours.
//!
//! As in the sources of Nacos 3 (`InstanceOpenApiController`, `InstanceControllerV3`, `InstanceOperatorClientImpl`, `ServiceUtil`), and
//! of 2 (`InstanceController`):
//!
//! * An instance is its namespace, group, service, address and cluster. Removing one that is not there is `ok`.
//! * A heartbeat of one that is not there says so, by a code; one with the instance in it (`beat`, API 1) registers it.
//! * An instance is unhealthy when its heartbeats stay out for 15 s, and removed after 30 s, or as its metadata says; both are looked for
//!   every 5 s. A heartbeat makes it healthy again.
//! * Lists leave out what is disabled. If none is healthy of what is left, all are shown as healthy (a threshold of 0 is reached).
//! * What is set by an update (`enabled`, `metadata`) goes before what was registered, is taken for instances that are not there as long as
//!   their service is, and is kept for a minute after the instance.
//! * Names with white space, `@@`, or `@` at the beginning are refused (400). With users, each request needs a token (403).
//! * Parameters are in the query or in a form. In API 1 the group may stand before the name: `GROUP@@NAME`.
//!
//! Where this is simpler: there is one server; instances are ephemeral; whoever is a user is an administrator; a heartbeat has done what it
//! does when it is answered; there is no gRPC, so nobody subscribes; of both APIs only what a registry needs, and lists.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Answered, Request, Response, serve};

/// When heartbeats have stayed out for so long.
const UNHEALTHY: Duration = Duration::from_secs(15);
const REMOVED: Duration = Duration::from_secs(30);

/// How often it is looked for that.
const LOOK: Duration = Duration::from_secs(5);

/// How long an update outlives its instance.
const REMEMBERED: Duration = Duration::from_secs(60);

/// A running double. Its threads end with the process.
#[derive(Debug)]
pub struct Nacos {
    at: SocketAddr,
    server: Arc<Server>,
}

impl Nacos {
    /// Starts one that is version 3, with the APIs 1 and 3.
    pub fn start() -> Self {
        Self::start_with(true, None)
    }

    /// Starts one that is version 2, without API 3.
    pub fn start_v1() -> Self {
        Self::start_with(false, None)
    }

    /// Starts one of version 3 that only lets this user in.
    pub fn start_with_user(name: &str, password: &str) -> Self {
        Self::start_with(true, Some((name.to_owned(), password.to_owned())))
    }

    /// Starts one of version 2 that only lets this user in.
    pub fn start_v1_with_user(name: &str, password: &str) -> Self {
        Self::start_with(false, Some((name.to_owned(), password.to_owned())))
    }

    fn start_with(has_v3: bool, user: Option<(String, String)>) -> Self {
        let server = Arc::new(Server { has_v3, user, state: Mutex::new(State::new()) });
        let answers = Arc::clone(&server);
        Self { at: serve(move |request| answers.answer(request)), server }
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// As if no heartbeat had come for so long that everything was removed.
    pub fn expire_all(&self) {
        let mut state = self.server.state();
        for key in state.instances.keys().cloned().collect::<Vec<_>>() {
            state.remove(&key);
        }
    }

    /// As if it had been started anew.
    pub fn forget_tokens(&self) {
        self.server.state().tokens = 0..0;
    }
}

#[derive(Debug)]
struct Server {
    has_v3: bool,
    user: Option<(String, String)>,
    state: Mutex<State>,
}

/// Its namespace, group and name.
type Service = (String, String, String);

/// The service, the address and the port, and the cluster.
type Key = (Service, (String, u16), String);

#[derive(Debug)]
struct State {
    services: BTreeSet<Service>,
    instances: BTreeMap<Key, Instance>,
    updates: BTreeMap<Key, Update>,
    /// The tokens that were given, by number.
    tokens: std::ops::Range<u64>,
    /// When it was last looked for heartbeats that have stayed out.
    looked: Instant,
}

/// Of whoever says none.
const USUAL_WEIGHT: f64 = 1.0;

#[derive(Debug)]
struct Instance {
    enabled: bool,
    weight: f64,
    healthy: bool,
    metadata: Value,
    beat: Instant,
}

#[derive(Debug)]
struct Update {
    enabled: bool,
    weight: f64,
    metadata: Value,
    /// When its instance has left.
    left: Option<Instant>,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            state.look();
        }
        state
    }

    fn answer(&self, request: &Request) -> Answered {
        let path = request.path.strip_prefix("/nacos/").unwrap_or_default();
        if !self.has_v3 && path.starts_with("v3/") {
            return Err(missing());
        }
        match (request.method.as_str(), path) {
            ("POST", "v1/auth/login" | "v3/auth/user/login") => return self.log_in(request),
            _ => self.admit(request)?,
        }
        let mut state = self.state();
        match (request.method.as_str(), path) {
            ("POST", "v3/client/ns/instance") => {
                let key = key(request)?;
                if request.query("heartBeat") != Some("true") {
                    state.register(&key, request);
                    Ok(success(&json!("ok")))
                } else if state.beat(&key) {
                    Ok(success(&json!("ok")))
                } else {
                    let answer = json!({ "code": 21003, "message": "instance not found", "data": null });
                    Ok(Response::json(&answer))
                }
            }
            ("DELETE", "v3/client/ns/instance") => {
                state.remove(&key(request)?);
                Ok(success(&json!("ok")))
            }
            ("GET", "v3/client/ns/instance/list") => Ok(success(&state.list(&service(request)?, false))),
            ("PUT", "v3/admin/ns/instance") => {
                state.update(&key(request)?, request)?;
                Ok(success(&json!("ok")))
            }
            ("POST", "v1/ns/instance") => {
                state.register(&key(request)?, request);
                Ok(Response::text(200, "ok"))
            }
            ("DELETE", "v1/ns/instance") => {
                state.remove(&key(request)?);
                Ok(Response::text(200, "ok"))
            }
            ("PUT", "v1/ns/instance") => {
                state.update(&key(request)?, request)?;
                Ok(Response::text(200, "ok"))
            }
            ("PUT", "v1/ns/instance/beat") => {
                let beat = request.query("beat").and_then(|beat| serde_json::from_str(beat).ok());
                let key = beat.as_ref().map_or_else(|| key(request), |beat| key_of_beat(request, beat))?;
                let code = match (state.beat(&key), beat) {
                    (true, _) => 10200,
                    (false, None) => 20404,
                    (false, Some(beat)) => {
                        let metadata = beat.get("metadata").cloned().unwrap_or_default();
                        state.put_in(&key, true, USUAL_WEIGHT, metadata);
                        10200
                    }
                };
                let answer = json!({ "code": code, "clientBeatInterval": 5000, "lightBeatEnabled": true });
                Ok(Response::json(&answer))
            }
            ("GET", "v1/ns/instance/list") => {
                let service = service(request)?;
                let healthy_only = request.query("healthyOnly").is_some_and(is_true);
                let hosts = state.list(&service, healthy_only);
                let name = format!("{}@@{}", service.1, service.2);
                Ok(Response::json(
                    &json!({ "name": name, "clusters": "", "cacheMillis": 10_000, "hosts": hosts }),
                ))
            }
            _ => Err(missing()),
        }
    }

    fn log_in(&self, request: &Request) -> Answered {
        let given =
            (request.query("username").unwrap_or_default(), request.query("password").unwrap_or_default());
        if self.user.as_ref().is_some_and(|(name, password)| (name.as_str(), password.as_str()) != given) {
            return Err(forbidden("User not found! Please check user exist or password is right!"));
        }
        let mut state = self.state();
        let token = state.tokens.end;
        state.tokens.end += 1;
        let answer =
            json!({ "accessToken": format!("token-{token}"), "tokenTtl": 18000, "globalAdmin": true });
        Ok(Response::json(&answer))
    }

    fn admit(&self, request: &Request) -> Result<(), Response> {
        if self.user.is_none() {
            return Ok(());
        }
        let bearer = request.header("Authorization").and_then(|value| value.strip_prefix("Bearer "));
        let Some(token) = bearer.or_else(|| request.query("accessToken")) else {
            return Err(forbidden("user not found!"));
        };
        let number = token.strip_prefix("token-").and_then(|number| number.parse().ok());
        let is_known = number.is_some_and(|number| self.state().tokens.contains(&number));
        if is_known { Ok(()) } else { Err(forbidden("token invalid!")) }
    }
}

impl State {
    fn new() -> Self {
        Self {
            services: BTreeSet::new(),
            instances: BTreeMap::new(),
            updates: BTreeMap::new(),
            tokens: 0..0,
            looked: Instant::now(),
        }
    }

    /// For heartbeats that have stayed out.
    fn look(&mut self) {
        self.looked = Instant::now();
        let mut removed = Vec::new();
        for (key, instance) in &mut self.instances {
            let silent = instance.beat.elapsed();
            instance.healthy &= silent <= instance.time("preserved.heart.beat.timeout", UNHEALTHY);
            if silent > instance.time("preserved.ip.delete.timeout", REMOVED) {
                removed.push(key.clone());
            }
        }
        for key in removed {
            self.remove(&key);
        }
    }

    fn register(&mut self, key: &Key, request: &Request) {
        self.put_in(key, enabled(request), weight(request), metadata(request));
    }

    fn put_in(&mut self, key: &Key, enabled: bool, weight: f64, metadata: Value) {
        let is_over = |update: &Update| update.left.is_some_and(|left| left.elapsed() > REMEMBERED);
        if self.updates.get(key).is_some_and(is_over) {
            self.updates.remove(key);
        }
        if let Some(update) = self.updates.get_mut(key) {
            update.left = None;
        }
        self.services.insert(key.0.clone());
        let instance = Instance { enabled, weight, healthy: true, metadata, beat: Instant::now() };
        self.instances.insert(key.clone(), instance);
    }

    /// Is it there?
    fn beat(&mut self, key: &Key) -> bool {
        let Some(instance) = self.instances.get_mut(key) else { return false };
        (instance.beat, instance.healthy) = (Instant::now(), true);
        true
    }

    fn remove(&mut self, key: &Key) {
        self.instances.remove(key);
        if let Some(update) = self.updates.get_mut(key) {
            update.left = Some(Instant::now());
        }
    }

    fn update(&mut self, key: &Key, request: &Request) -> Result<(), Response> {
        let (namespace, group, name) = &key.0;
        if !self.services.contains(&key.0) {
            let why = format!("caused: service not found, namespace: {namespace}, service: {group}@@{name};");
            return Err(Response::text(400, &why));
        }
        let (enabled, weight, metadata) = (enabled(request), weight(request), metadata(request));
        let update = Update { enabled, weight, metadata, left: None };
        self.updates.insert(key.clone(), update);
        Ok(())
    }

    fn list(&self, service: &Service, healthy_only: bool) -> Value {
        let (_, group, name) = service;
        let name = format!("{group}@@{name}");
        let of_service = self.instances.iter().filter(|(key, _)| key.0 == *service);
        let with_updates = of_service.map(|(key, instance)| (key, instance, self.updates.get(key)));
        let is_enabled = |instance: &Instance, update: Option<&Update>| {
            update.map_or(instance.enabled, |update| update.enabled)
        };
        let enabled: Vec<_> =
            with_updates.filter(|(_, instance, update)| is_enabled(instance, *update)).collect();
        let is_protected = !enabled.iter().any(|(_, instance, _)| instance.healthy);
        let shown =
            enabled.iter().filter(|(_, instance, _)| is_protected || instance.healthy || !healthy_only);
        shown
            .map(|((_, (ip, port), cluster), instance, update)| {
                json!({
                    "instanceId": format!("{ip}#{port}#{cluster}#{name}"), "ip": ip, "port": port,
                    "weight": update.map_or(instance.weight, |update| update.weight),
                    "healthy": is_protected || instance.healthy, "enabled": true, "ephemeral": true,
                    "clusterName": cluster, "serviceName": name,
                    "metadata": update.map_or(&instance.metadata, |update| &update.metadata),
                })
            })
            .collect()
    }
}

impl Instance {
    /// What its metadata says of this, in milliseconds.
    fn time(&self, name: &str, usual: Duration) -> Duration {
        let said = self.metadata.get(name).and_then(|value| value.as_str()?.parse().ok());
        said.map_or(usual, Duration::from_millis)
    }
}

fn service(request: &Request) -> Result<Service, Response> {
    let word = |name: &str| request.query(name).filter(|value| !value.is_empty());
    let illegal = || {
        let why = "Param 'serviceName' is illegal, illegal characters should not appear in the param.";
        Response::text(400, &format!("caused: {why};"))
    };
    let named = word("serviceName").ok_or_else(illegal)?;
    let is_v1 = request.path.starts_with("/nacos/v1/");
    let (group, name) = match named.split_once("@@").filter(|_| is_v1) {
        Some((group, name)) => (group, name),
        None => (word("groupName").unwrap_or("DEFAULT_GROUP"), named),
    };
    if name.starts_with('@') || name.contains("@@") || name.contains(char::is_whitespace) {
        return Err(illegal());
    }
    let namespace = word("namespaceId").unwrap_or("public");
    Ok((namespace.to_owned(), group.to_owned(), name.to_owned()))
}

fn key(request: &Request) -> Result<Key, Response> {
    let address = request.query("ip").zip(request.query("port").and_then(|port| port.parse().ok()));
    let (ip, port) = address.ok_or_else(|| Response::text(400, "caused: Param 'ip' is required.;"))?;
    Ok((service(request)?, (ip.to_owned(), port), cluster(request.query("clusterName"))))
}

fn key_of_beat(request: &Request, beat: &Value) -> Result<Key, Response> {
    let ip = beat.get("ip").and_then(Value::as_str).unwrap_or_default().to_owned();
    let port = beat.get("port").and_then(|port| port.as_u64()?.try_into().ok()).unwrap_or(0);
    Ok((service(request)?, (ip, port), cluster(beat.get("cluster").and_then(Value::as_str))))
}

fn cluster(named: Option<&str>) -> String {
    named.filter(|name| !name.is_empty()).unwrap_or("DEFAULT").to_owned()
}

/// API 1 takes both names.
fn enabled(request: &Request) -> bool {
    request.query("enabled").or_else(|| request.query("enable")).is_none_or(is_true)
}

fn weight(request: &Request) -> f64 {
    request.query("weight").and_then(|text| text.parse().ok()).unwrap_or(USUAL_WEIGHT)
}

fn is_true(text: &str) -> bool {
    text.eq_ignore_ascii_case("true")
}

/// JSON, or `a=b,c=d`.
fn metadata(request: &Request) -> Value {
    let text = request.query("metadata").unwrap_or_default();
    serde_json::from_str(text).unwrap_or_else(|_| {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    })
}

/// What API 3 says to what is well.
fn success(data: &Value) -> Response {
    Response::json(&json!({ "code": 0, "message": "success", "data": data }))
}

fn missing() -> Response {
    Response::text(404, "{\"status\":404,\"error\":\"Not Found\"}")
}

fn forbidden(why: &str) -> Response {
    Response::text(403, &json!({ "status": 403, "error": "Forbidden", "message": why }).to_string())
}
