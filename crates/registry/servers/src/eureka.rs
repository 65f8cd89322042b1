//! A double of Eureka's server, which is Java: neither it nor what it is built with is in Debian.
//!
//! `py_eureka_client`, which speaks XML, keeps it honest: `crates/registry/tests/eureka.rs`.
//!
//! As in the sources of Eureka (`ApplicationResource`, `InstanceResource`, `AbstractInstanceRegistry`, `Lease`; 2026):
//!
//! * Applications are in capitals; a registration whose `app` is not the one of the path is refused (400).
//! * A lease that was renewed ends after twice its duration, one that never was after once. Who asks for one instance does not find it
//!   from then on; lists have it until the next eviction, and each eviction takes 15 % at most (but one).
//! * A heartbeat of what is unknown is 404, and so is one that knows a later state than the server (`lastDirtyTimestamp`), and one for what
//!   has the status `UNKNOWN`, as after an override was removed without a `value`.
//! * Of two registrations the later one (`lastDirtyTimestamp`) holds. An override outlives both, until the instance is cancelled or
//!   evicted.
//! * Lists are a copy if they are to be (`start_with_copies`; the usual server renews them every 30 s). One instance is none.
//! * JSON for who accepts it, else XML. A slash in a path is refused if it is escaped (400), as by Tomcat; other pages are not found (404).
//!
//! Where this is simpler: there is one server, without peers, regions, or deltas (403, as with `disableDelta`); it does not preserve itself
//! (`enableSelfPreservation=false`); the look-ups by VIP and by instance alone are not there, nor is changing metadata; a copy is as old as
//! the first one who has asked for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::http::{Answered, Request, Response, serve};

/// How long a lease lasts that says nothing.
const DURATION: Duration = Duration::from_secs(90);

/// How often it is looked for leases that have ended.
const EVICTION: Duration = Duration::from_secs(60);

/// So many of the instances stay at an eviction.
const STAY_PERCENT: usize = 85;

/// A running double. Its threads end with the process.
#[derive(Debug)]
pub struct Eureka {
    at: SocketAddr,
    server: Arc<Server>,
}

impl Eureka {
    /// Starts one that is as usual, but that it answers without copies.
    pub fn start() -> Self {
        Self::start_with(Settings::default())
    }

    /// Starts one that looks for leases that have ended this often.
    pub fn start_with_eviction(every: Duration) -> Self {
        Self::start_with(Settings { eviction: every, ..Settings::default() })
    }

    /// Starts one that answers with lists that may be so old.
    pub fn start_with_copies(old: Duration) -> Self {
        Self::start_with(Settings { copies: Some(old), ..Settings::default() })
    }

    /// Starts one that only answers to who has this in the header `Authorization`.
    pub fn start_with_authorization(authorization: &str) -> Self {
        Self::start_with(Settings { authorization: Some(authorization.to_owned()), ..Settings::default() })
    }

    fn start_with(settings: Settings) -> Self {
        let server = Arc::new(Server { settings, state: Mutex::new(State::new()) });
        let answers = Arc::clone(&server);
        Self { at: serve(move |request| answers.answer(request)), server }
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// As if all leases had ended, and had been looked for.
    pub fn expire_all(&self) {
        let mut state = self.server.state();
        state.leases.clear();
        state.overrides.clear();
        state.copies.clear();
    }
}

#[derive(Debug)]
struct Settings {
    eviction: Duration,
    copies: Option<Duration>,
    authorization: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { eviction: EVICTION, copies: None, authorization: None }
    }
}

#[derive(Debug)]
struct Server {
    settings: Settings,
    state: Mutex<State>,
}

/// The application and the id.
type Key = (String, String);

/// A list, if there is something in it, and when it was made.
type Copy = (Instant, Option<Value>);

#[derive(Debug)]
struct State {
    leases: BTreeMap<Key, Lease>,
    /// By id alone.
    overrides: BTreeMap<String, String>,
    /// By what they were asked for.
    copies: BTreeMap<String, Copy>,
    /// When it was last looked for leases that have ended.
    looked: Instant,
}

#[derive(Debug)]
struct Lease {
    instance: Value,
    duration: Duration,
    /// Later than now, if it was renewed.
    updated: Instant,
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= self.settings.eviction {
            state.evict();
        }
        state
    }

    fn answer(&self, request: &Request) -> Answered {
        let parts = request.parts();
        if parts.iter().any(|part| matches!(part.as_str(), "." | "..") || part.contains(['/', '\\'])) {
            return Err(Response::page(400));
        }
        let right = self.settings.authorization.as_deref();
        if right.is_some_and(|right| request.header("Authorization") != Some(right)) {
            return Err(Response::empty(401).header("WWW-Authenticate", "Basic realm=\"Realm\""));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (["eureka", "v2", "apps", rest @ ..] | ["eureka", "apps", rest @ ..]) = &parts[..] else {
            return Err(Response::page(404));
        };
        let key = |app: &str, id: &str| (app.to_uppercase(), id.to_owned());
        let value = request.query("value");
        match (request.method.as_str(), rest) {
            ("GET", []) => self.list(request, "applications", |state| Some(state.applications())),
            ("GET", ["delta"]) => Err(Response::empty(403)),
            ("GET", [app]) => {
                self.list(request, "application", |state| state.application(&app.to_uppercase()))
            }
            ("POST", [app]) => self.state().register(&app.to_uppercase(), request),
            ("GET", [app, id]) => match self.state().leases.get(&key(app, id)) {
                Some(lease) if !lease.has_ended() => Ok(shown(request, "instance", &lease.instance)),
                _ => Err(Response::empty(404)),
            },
            ("PUT", [app, id]) => self.state().renew(&key(app, id), request.query("lastDirtyTimestamp")),
            ("DELETE", [app, id]) => self.state().cancel(&key(app, id)),
            ("PUT", [app, id, "status"]) => self.state().set_status(&key(app, id), value.unwrap_or_default()),
            ("DELETE", [app, id, "status"]) => {
                self.state().unset_status(&key(app, id), value.unwrap_or("UNKNOWN"))
            }
            (_, [] | [_] | [_, _] | [_, _, "status"]) => Err(Response::empty(405)),
            _ => Err(Response::page(404)),
        }
    }

    /// A list, or a copy that is new enough.
    fn list(&self, request: &Request, name: &str, list: impl Fn(&State) -> Option<Value>) -> Answered {
        let mut state = self.state();
        let at_most = self.settings.copies.unwrap_or(Duration::ZERO);
        let copy = state.copies.remove(&request.path).filter(|(made, _)| made.elapsed() < at_most);
        let copy = copy.unwrap_or_else(|| (Instant::now(), list(&state)));
        let answer = copy.1.as_ref().map(|list| shown(request, name, list));
        state.copies.insert(request.path.clone(), copy);
        answer.ok_or_else(|| Response::empty(404))
    }
}

impl State {
    fn new() -> Self {
        Self {
            leases: BTreeMap::new(),
            overrides: BTreeMap::new(),
            copies: BTreeMap::new(),
            looked: Instant::now(),
        }
    }

    fn evict(&mut self) {
        self.looked = Instant::now();
        let at_most = self.leases.len() - self.leases.len() * STAY_PERCENT / 100;
        let ended = self.leases.iter().filter(|(_, lease)| lease.has_ended()).map(|(key, _)| key.clone());
        for key in ended.take(at_most).collect::<Vec<_>>() {
            self.leases.remove(&key);
            self.overrides.remove(&key.1);
        }
    }

    fn register(&mut self, app: &str, request: &Request) -> Answered {
        let refused = |why: &str| Err(Response::text(400, why));
        let Ok(mut asked) = serde_json::from_str::<Value>(&request.body) else {
            return refused("Unrecognized token");
        };
        let mut instance = asked.get_mut("instance").map(Value::take).unwrap_or_default();
        for (name, called) in [("instanceId", "instanceId"), ("hostName", "hostname"), ("app", "appName")] {
            if word(&instance, name).is_empty() {
                return refused(&format!("Missing {called}"));
            }
        }
        if word(&instance, "app") != app {
            let theirs = word(&instance, "app");
            return refused(&format!("Mismatched appName, expecting {app} but was {theirs}"));
        }
        let id = word(&instance, "instanceId").to_owned();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
        if word(&instance, "lastDirtyTimestamp").is_empty() {
            instance["lastDirtyTimestamp"] = json!(now);
        }
        let key = (app.to_owned(), id.clone());
        let before = self.leases.remove(&key).map(|lease| lease.instance);
        let known = before.as_ref().map(|before| word(before, "status").to_owned());
        if let Some(before) = before.filter(|before| dirty(before) > dirty(&instance)) {
            instance = before;
        }
        let duration = instance.get("leaseInfo").and_then(|info| info.get("durationInSecs")?.as_u64());
        instance["status"] = json!(self.status(&id, word(&instance, "status"), known.as_deref()));
        instance["overriddenStatus"] = json!(self.overrides.get(&id).map_or("UNKNOWN", String::as_str));
        instance["lastUpdatedTimestamp"] = json!(now);
        instance["actionType"] = json!("ADDED");
        let duration = duration.map_or(DURATION, Duration::from_secs);
        self.leases.insert(key, Lease { instance, duration, updated: Instant::now() });
        Ok(Response::empty(204))
    }

    /// The status of an instance that says this of itself, and of which that is known.
    fn status(&self, id: &str, says: &str, known: Option<&str>) -> String {
        let is_served = |status: &&str| matches!(*status, "UP" | "OUT_OF_SERVICE");
        let says = if says.is_empty() { "UP" } else { says };
        if !is_served(&says) {
            return says.to_owned();
        }
        let over = self.overrides.get(id).map(String::as_str);
        over.or(known.filter(is_served)).unwrap_or(says).to_owned()
    }

    fn renew(&mut self, key: &Key, dirty_since: Option<&str>) -> Answered {
        let lease = self.leases.get_mut(key).ok_or_else(|| Response::empty(404))?;
        if word(&lease.instance, "status") == "UNKNOWN" {
            return Err(Response::empty(404));
        }
        lease.renew();
        let is_later = dirty_since.and_then(|since| since.parse().ok()) > dirty(&lease.instance);
        Ok(Response::empty(if is_later { 404 } else { 200 }))
    }

    fn cancel(&mut self, key: &Key) -> Answered {
        self.overrides.remove(&key.1);
        self.leases.remove(key).map(|_| Response::empty(200)).ok_or_else(|| Response::empty(404))
    }

    fn set_status(&mut self, key: &Key, status: &str) -> Answered {
        let lease = self.leases.get_mut(key).ok_or_else(|| Response::empty(404))?;
        if !["UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN"].contains(&status) {
            return Err(Response::empty(500));
        }
        lease.renew();
        if word(&lease.instance, "status") != status {
            lease.set(status, status);
            self.overrides.insert(key.1.clone(), status.to_owned());
        }
        Ok(Response::empty(200))
    }

    fn unset_status(&mut self, key: &Key, status: &str) -> Answered {
        let lease = self.leases.get_mut(key).ok_or_else(|| Response::empty(404))?;
        lease.renew();
        if self.overrides.remove(&key.1).is_some() {
            lease.set(status, "UNKNOWN");
        }
        Ok(Response::empty(200))
    }

    fn application(&self, app: &str) -> Option<Value> {
        let of_app = self.leases.iter().filter(|((known, _), _)| known == app);
        let instances: Vec<&Value> = of_app.map(|(_, lease)| &lease.instance).collect();
        (!instances.is_empty()).then(|| json!({ "name": app, "instance": instances }))
    }

    fn applications(&self) -> Value {
        let mut apps: Vec<&str> = self.leases.keys().map(|(app, _)| app.as_str()).collect();
        apps.dedup();
        let applications: Vec<Value> = apps.into_iter().filter_map(|app| self.application(app)).collect();
        let mut statuses: BTreeMap<&str, u32> = BTreeMap::new();
        for lease in self.leases.values() {
            *statuses.entry(word(&lease.instance, "status")).or_default() += 1;
        }
        let hash: String =
            statuses.iter().fold(String::new(), |hash, (status, count)| format!("{hash}{status}_{count}_"));
        json!({ "versions__delta": "1", "apps__hashcode": hash, "application": applications })
    }
}

impl Lease {
    /// It ends after its duration, counted from after its duration: so it is in Eureka.
    fn renew(&mut self) {
        self.updated = Instant::now() + self.duration;
    }

    fn has_ended(&self) -> bool {
        Instant::now() > self.updated + self.duration
    }

    fn set(&mut self, status: &str, over: &str) {
        self.instance["status"] = json!(status);
        self.instance["overriddenStatus"] = json!(over);
        self.instance["actionType"] = json!("MODIFIED");
    }
}

/// In JSON for who accepts it, else in XML.
fn shown(request: &Request, name: &str, value: &Value) -> Response {
    if request.header("Accept").is_some_and(|accepted| accepted.contains("json")) {
        return Response::json(&json!({ name: value }));
    }
    let mut text = String::new();
    xml(name, value, &mut text);
    Response::xml(text)
}

/// Of JSON as Eureka has it: `@name` is an attribute, `$` a text, and a list as many elements.
fn xml(name: &str, value: &Value, text: &mut String) {
    // In XML, and only there, it is called so.
    let name = if name == "overriddenStatus" { "overriddenstatus" } else { name };
    let word = |value: &Value| {
        let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        word.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
    };
    match value {
        Value::Null => {}
        Value::Array(values) => values.iter().for_each(|value| xml(name, value, text)),
        Value::Object(values) => {
            text.push_str(&format!("<{name}"));
            for (attribute, value) in values {
                if let Some(attribute) = attribute.strip_prefix('@') {
                    text.push_str(&format!(" {attribute}=\"{}\"", word(value)));
                }
            }
            text.push('>');
            for (name, value) in values.iter().filter(|(name, _)| !name.starts_with('@')) {
                if name == "$" { text.push_str(&word(value)) } else { xml(name, value, text) }
            }
            text.push_str(&format!("</{name}>"));
        }
        value => text.push_str(&format!("<{name}>{}</{name}>", word(value))),
    }
}

fn word<'a>(json: &'a Value, name: &str) -> &'a str {
    json.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// When an instance has last changed by itself.
fn dirty(instance: &Value) -> Option<u64> {
    word(instance, "lastDirtyTimestamp").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_xml() {
        let mut text = String::new();
        let port = json!({ "$": 80, "@enabled": "true" });
        xml("instance", &json!({ "app": "A&B", "port": port, "x": [1, 2], "none": null }), &mut text);
        let expected =
            "<instance><app>A&amp;B</app><port enabled=\"true\">80</port><x>1</x><x>2</x></instance>";
        assert_eq!(text, expected);
    }
}
