//! A double of Consul's agent: Consul itself is in no package of Debian, and what a registry and its consumers need of it is little.
//!
//! Consul's own client in Go, inside Traefik 3.7.15 (`consulCatalog`, watching), has found, lost and found again what is here: tried by
//! hand. So does `py-consul`, in `crates/registry/tests/consul.rs`.
//!
//! As in the sources of Consul 1.11 and later (`agent/agent_endpoint.go`, `agent/agent.go`, `agent/checks/check.go`):
//!
//! * A service is registered with its checks; one check that has no id of its own is `service:ID`. Registering it again keeps the status of
//!   a check that it had already, whatever `Status` says; `replace-existing-checks` takes out those that it has not any more, and
//!   maintenance with them.
//! * Names of fields may be written in other ways: `Name`, `name`; `DeregisterCriticalServiceAfter`, `deregister_critical_service_after`.
//! * A TTL check is critical when its time has run out, and passes again with the next `pass`; the time begins with the registration.
//! * `DeregisterCriticalServiceAfter` is a minute at least, and looked at every 30 s.
//! * Maintenance is one more check, which is critical.
//! * What is unknown is 404 with a text, which clients read; before 1.11 it was 500 and another text.
//! * Ids and names stand in the path. Go's `ServeMux` redirects (301) what is not clean: `//`, `/./` or `/../`, escaped or not; control
//!   characters are refused (400). What is asked for by another method is refused (405).
//! * With tokens, an unknown one is refused (403); nobody's (no token) may write nothing (403) and **sees nothing, without an error**.
//! * A blocking query (`index`, `wait`: 5 min, 10 min at most) returns when something has changed, or by its time and a sixteenth more.
//!
//! Where this is simpler: there is one agent, which is the catalogue as well, so that what it knows is seen at once; one token, which may
//! do everything; one index for everything, so that blocking queries return more often; TTL checks only, others keep the status that they
//! began with; no datacentres, namespaces, filters, `near`, tags in queries, nor the health of the node but that it is well.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::http::{Answered, Request, Response, serve};

const NODE: &str = "double";

/// What Consul takes for `DeregisterCriticalServiceAfter` at least, and how often it looks.
const GARBAGE_AFTER: Duration = Duration::from_secs(60);
const GARBAGE_LOOK: Duration = Duration::from_secs(30);

/// How long a blocking query waits unless it says so, and at most.
const WAIT: Duration = Duration::from_secs(300);
const WAIT_AT_MOST: Duration = Duration::from_secs(600);

/// A running double. Its threads end with the process.
#[derive(Debug)]
pub struct Consul {
    at: SocketAddr,
    agent: Arc<Agent>,
}

impl Consul {
    /// Starts one, which anybody may use.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts one that only lets in who has this token.
    pub fn start_with_token(token: &str) -> Self {
        Self::start_with(Some(token.to_owned()))
    }

    fn start_with(token: Option<String>) -> Self {
        let state = State { index: 1, services: BTreeMap::new(), looked: Instant::now() };
        let agent = Arc::new(Agent { token, state: Mutex::new(state), changed: Condvar::new() });
        let answers = Arc::clone(&agent);
        Self { at: serve(move |request| answers.answer(request)), agent }
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// As if everything had been critical for so long that it was taken out.
    pub fn expire_all(&self) {
        let mut state = self.agent.state();
        state.services.clear();
        self.agent.has_changed(&mut state);
    }

    /// As if the time of all TTL checks had run out.
    pub fn run_out(&self) {
        let mut state = self.agent.state();
        let now = Instant::now();
        for check in state.services.values_mut().flat_map(|service| service.checks.values_mut()) {
            check.due = check.due.map(|_| now);
        }
        self.agent.bring_up_to_date(&mut state);
    }
}

#[derive(Debug)]
struct Agent {
    token: Option<String>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    index: u64,
    services: BTreeMap<String, Service>,
    /// When it was last looked for garbage.
    looked: Instant,
}

#[derive(Clone, Debug)]
struct Service {
    name: String,
    address: String,
    port: u64,
    tags: Value,
    meta: Value,
    weights: Value,
    checks: BTreeMap<String, Check>,
    index: u64,
}

#[derive(Clone, Debug)]
struct Check {
    name: String,
    kind: &'static str,
    status: String,
    notes: String,
    output: String,
    ttl: Option<Duration>,
    /// When its time runs out.
    due: Option<Instant>,
    deregister_after: Option<Duration>,
    critical_since: Option<Instant>,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Known,
    Nobody,
}

impl Agent {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.bring_up_to_date(&mut state);
        state
    }

    fn has_changed(&self, state: &mut State) {
        state.index += 1;
        self.changed.notify_all();
    }

    /// What time has done since somebody has last looked.
    fn bring_up_to_date(&self, state: &mut State) {
        let now = Instant::now();
        let mut changed = false;
        for check in state.services.values_mut().flat_map(|service| service.checks.values_mut()) {
            if let Some(due) = check.due.filter(|due| *due <= now) {
                check.due = None;
                check.set("critical", "TTL expired", due);
                changed = true;
            }
        }
        if now.duration_since(state.looked) >= GARBAGE_LOOK {
            state.looked = now;
            let before = state.services.len();
            state.services.retain(|_, service| !service.checks.values().any(|check| check.is_garbage(now)));
            changed |= state.services.len() != before;
        }
        if changed {
            self.has_changed(state);
        }
    }

    fn answer(&self, request: &Request) -> Answered {
        if request.path.chars().any(char::is_control) {
            return Err(Response::empty(400));
        }
        if let Some(clean) = cleaned(&request.path) {
            return Err(Response::empty(301).header("Location", &clean));
        }
        let who = self.who(request)?;
        let Some(path) = request.path.strip_prefix("/v1/") else { return Err(Response::text(404, "")) };
        if let Some(path) = path.strip_prefix("agent/") {
            return self.agent(path, request, who);
        }
        allow(request, "GET")?;
        if path == "status/leader" {
            return Ok(Response::json(&json!("127.0.0.1:8300")));
        }
        if path == "catalog/services" {
            return Ok(self.read(request, who, State::names));
        }
        if let Some(name) = path.strip_prefix("catalog/service/") {
            return Ok(self.read(request, who, |state| state.catalogue(name)));
        }
        if let Some(name) = path.strip_prefix("health/service/") {
            let passing = request.query("passing").is_some_and(|value| matches!(value, "" | "1" | "true"));
            return Ok(self.read(request, who, |state| state.health(name, passing)));
        }
        if let Some(status) = path.strip_prefix("health/state/") {
            return Ok(self.read(request, who, |state| {
                state.checks(|_, check| status == "any" || check.status == status)
            }));
        }
        if let Some(name) = path.strip_prefix("health/checks/") {
            return Ok(self.read(request, who, |state| state.checks(|service, _| service.name == name)));
        }
        Err(Response::text(404, ""))
    }

    fn who(&self, request: &Request) -> Result<Who, Response> {
        let Some(token) = &self.token else { return Ok(Who::Known) };
        let bearer = request.header("Authorization").and_then(|value| value.strip_prefix("Bearer "));
        let given = request.query("token").or_else(|| request.header("X-Consul-Token")).or(bearer);
        match given.filter(|given| !given.is_empty()) {
            None => Ok(Who::Nobody),
            Some(given) if given == token => Ok(Who::Known),
            Some(_) => Err(Response::text(403, "ACL not found")),
        }
    }

    /// What is read, when it is another than the one who asks has seen.
    fn read(&self, request: &Request, who: Who, read: impl Fn(&State) -> Value) -> Response {
        let mut state = self.state();
        let seen = request.query("index").and_then(|index| index.parse().ok()).unwrap_or(0);
        if seen > 0 {
            let wait =
                request.query("wait").and_then(duration).filter(|wait| !wait.is_zero()).unwrap_or(WAIT);
            let wait = wait.min(WAIT_AT_MOST);
            let end = Instant::now() + wait + wait / 16;
            while state.index <= seen {
                let now = Instant::now();
                let Some(left) = end.checked_duration_since(now).filter(|left| !left.is_zero()) else {
                    break;
                };
                // Time itself may change something meanwhile.
                let next = state.next_due().map_or(left, |due| due.saturating_duration_since(now).min(left));
                let waited = self.changed.wait_timeout(state, next);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                self.bring_up_to_date(&mut state);
            }
        }
        let seen = if who == Who::Known {
            read(&state)
        } else {
            read(&State { services: BTreeMap::new(), ..*state })
        };
        Response::json(&seen)
            .header("X-Consul-Index", &state.index.to_string())
            .header("X-Consul-Knownleader", "true")
            .header("X-Consul-Lastcontact", "0")
    }

    fn agent(&self, path: &str, request: &Request, who: Who) -> Answered {
        match path {
            "self" => {
                allow(request, "GET")?;
                let config =
                    json!({ "Datacenter": "dc1", "NodeName": NODE, "Server": true, "Version": "1.11.0" });
                return Ok(Response::json(
                    &json!({ "Config": config, "Member": { "Name": NODE, "Addr": "127.0.0.1" } }),
                ));
            }
            "services" => {
                allow(request, "GET")?;
                let state = self.state();
                let known = state.services.iter().filter(|_| who == Who::Known);
                let services: Map<_, _> =
                    known.map(|(id, service)| (id.clone(), service.to_json(id))).collect();
                return Ok(Response::json(&services.into()));
            }
            "checks" => {
                allow(request, "GET")?;
                let state = self.state();
                let checks = state.checks(|_, _| who == Who::Known);
                let checks = checks.as_array().into_iter().flatten();
                let checks: Map<_, _> =
                    checks.map(|check| (word(check, "CheckID").to_owned(), check.clone())).collect();
                return Ok(Response::json(&checks.into()));
            }
            "service/register" => {
                allow(request, "PUT")?;
                return self.register(request, who);
            }
            _ => {}
        }
        if let Some(id) = path.strip_prefix("service/deregister/") {
            allow(request, "PUT")?;
            let mut state = self.state();
            state.service(id, who)?;
            state.services.remove(id);
            self.has_changed(&mut state);
            return Ok(Response::empty(200));
        }
        if let Some(id) = path.strip_prefix("service/maintenance/") {
            allow(request, "PUT")?;
            return self.maintain(id, request, who);
        }
        if let Some(id) = path.strip_prefix("service/") {
            allow(request, "GET")?;
            let mut state = self.state();
            return Ok(Response::json(&state.service(id, who)?.to_json(id)));
        }
        for (verb, status) in [("pass", "passing"), ("warn", "warning"), ("fail", "critical")] {
            if let Some(id) =
                path.strip_prefix("check/").and_then(|path| path.strip_prefix(verb)?.strip_prefix('/'))
            {
                allow(request, "PUT")?;
                return self.update(id, status, request.query("note").unwrap_or_default(), who);
            }
        }
        if let Some(id) = path.strip_prefix("check/update/") {
            allow(request, "PUT")?;
            let update = object(request)?;
            let status = word(&update, "Status");
            if !["passing", "warning", "critical"].contains(&status) {
                return Err(Response::text(400, &format!("Invalid check status: '{status}'")));
            }
            return self.update(id, status, word(&update, "Output"), who);
        }
        Err(Response::text(404, ""))
    }

    fn register(&self, request: &Request, who: Who) -> Answered {
        let asked = object(request)?;
        let name = word(&asked, "Name");
        if name.is_empty() {
            return Err(Response::text(400, "Missing service name"));
        }
        let meta =
            field(&asked, "Meta").filter(|meta| meta.is_object()).cloned().unwrap_or_else(|| json!({}));
        if let Some(key) =
            meta.as_object().into_iter().flatten().map(|(key, _)| key).find(|key| !is_meta_key(key))
        {
            let why = format!(
                "Invalid Service Meta: Couldn't load metadata pair ('{key}', ''): Key contains invalid characters"
            );
            return Err(Response::text(400, &why));
        }
        if who != Who::Known {
            return Err(denied(name));
        }
        let id = Some(word(&asked, "ID")).filter(|id| !id.is_empty()).unwrap_or(name);
        let mut state = self.state();
        let mut known = state.services.remove(id).map(|service| service.checks).unwrap_or_default();
        let mut checks = BTreeMap::new();
        let several = field(&asked, "Checks").and_then(Value::as_array).into_iter().flatten();
        let asked_checks: Vec<&Value> =
            field(&asked, "Check").filter(|check| check.is_object()).into_iter().chain(several).collect();
        for (at, check) in asked_checks.iter().enumerate() {
            let usual = if asked_checks.len() == 1 {
                format!("service:{id}")
            } else {
                format!("service:{id}:{}", at + 1)
            };
            let check_id =
                Some(word(check, "CheckID")).filter(|id| !id.is_empty()).map_or(usual, str::to_owned);
            let mut check = Check::asked(name, check)?;
            if let Some(before) = known.remove(&check_id) {
                check.set(&before.status, &before.output, before.critical_since.unwrap_or_else(Instant::now));
            }
            checks.insert(check_id, check);
        }
        let replace =
            request.query("replace-existing-checks").is_some_and(|value| matches!(value, "" | "true"));
        checks.extend(known.into_iter().filter(|_| !replace));
        let service = Service {
            name: name.to_owned(),
            address: word(&asked, "Address").to_owned(),
            port: field(&asked, "Port").and_then(Value::as_u64).unwrap_or(0),
            tags: field(&asked, "Tags").filter(|tags| tags.is_array()).cloned().unwrap_or_else(|| json!([])),
            meta,
            weights: field(&asked, "Weights")
                .filter(|weights| weights.is_object())
                .cloned()
                .unwrap_or_else(|| json!({ "Passing": 1, "Warning": 1 })),
            checks,
            index: state.index + 1,
        };
        state.services.insert(id.to_owned(), service);
        self.has_changed(&mut state);
        Ok(Response::empty(200))
    }

    fn maintain(&self, id: &str, request: &Request, who: Who) -> Answered {
        let enable = match request.query("enable").unwrap_or_default() {
            "" => return Err(Response::text(400, "Missing value for enable")),
            // As Go's `ParseBool` has it.
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            enable => return Err(Response::text(400, &format!("Invalid value for enable: {enable:?}"))),
        };
        let reason = request.query("reason").filter(|reason| !reason.is_empty());
        let reason = reason.unwrap_or(
            "Maintenance mode is enabled for this service, but no reason was provided. This is a default message.",
        );
        let mut state = self.state();
        let checks = &mut state.service(id, who)?.checks;
        let check = Check {
            name: "Service Maintenance Mode".into(),
            kind: "maintenance",
            status: "critical".into(),
            notes: reason.to_owned(),
            output: String::new(),
            ttl: None,
            due: None,
            deregister_after: None,
            critical_since: Some(Instant::now()),
        };
        let id = format!("{MAINTENANCE}{id}");
        if enable {
            checks.entry(id).or_insert(check);
        } else {
            checks.remove(&id);
        }
        self.has_changed(&mut state);
        Ok(Response::empty(200))
    }

    fn update(&self, id: &str, status: &str, output: &str, who: Who) -> Answered {
        let mut state = self.state();
        let mut services = state.services.values_mut();
        let Some((name, check)) =
            services.find_map(|service| service.checks.get_mut(id).map(|check| (&service.name, check)))
        else {
            let why =
                format!("Unknown check ID \"{id}\". Ensure that the check ID is passed, not the check name.");
            return Err(Response::text(404, &why));
        };
        if who != Who::Known {
            return Err(denied(name));
        }
        let Some(ttl) = check.ttl else {
            return Err(Response::text(500, &format!("CheckID \"{id}\" does not have associated TTL")));
        };
        let has_changed = check.status != status || check.output != output;
        check.set(status, output, Instant::now());
        check.due = Some(Instant::now() + ttl);
        if has_changed {
            self.has_changed(&mut state);
        }
        Ok(Response::empty(200))
    }
}

const MAINTENANCE: &str = "_service_maintenance:";

impl State {
    /// The service with this id, for who may write to it.
    fn service(&mut self, id: &str, who: Who) -> Result<&mut Service, Response> {
        let service = self.services.get_mut(id).ok_or_else(|| {
            let why = format!(
                "Unknown service ID \"{id}\". Ensure that the service ID is passed, not the service name."
            );
            Response::text(404, &why)
        })?;
        if who == Who::Known { Ok(service) } else { Err(denied(&service.name)) }
    }

    /// When time changes something the next time.
    fn next_due(&self) -> Option<Instant> {
        let checks = self.services.values().flat_map(|service| service.checks.values());
        let is_garbage_soon =
            checks.clone().any(|check| check.deregister_after.is_some() && check.critical_since.is_some());
        let garbage = is_garbage_soon.then_some(self.looked + GARBAGE_LOOK);
        checks.filter_map(|check| check.due).chain(garbage).min()
    }

    fn names(&self) -> Value {
        let mut names = Map::new();
        names.insert("consul".into(), json!([]));
        for service in self.services.values() {
            let tags = names.entry(service.name.clone()).or_insert_with(|| json!([]));
            let Some(tags) = tags.as_array_mut() else { continue };
            for tag in service.tags.as_array().into_iter().flatten() {
                if !tags.contains(tag) {
                    tags.push(tag.clone());
                }
            }
        }
        names.into()
    }

    fn catalogue(&self, name: &str) -> Value {
        let of_name = self.services.iter().filter(|(_, service)| service.name == name);
        of_name
            .map(|(id, service)| {
                json!({
                    "ID": "", "Node": NODE, "Address": "127.0.0.1", "Datacenter": "dc1", "NodeMeta": {},
                    "ServiceID": id, "ServiceName": name, "ServiceAddress": service.address, "ServicePort": service.port,
                    "ServiceTags": service.tags, "ServiceMeta": service.meta, "ServiceWeights": service.weights,
                    "CreateIndex": service.index, "ModifyIndex": service.index,
                })
            })
            .collect()
    }

    fn health(&self, name: &str, passing: bool) -> Value {
        let of_name = self.services.iter().filter(|(_, service)| service.name == name);
        let found = of_name.filter(|(_, service)| {
            !passing || service.checks.values().all(|check| check.status == "passing")
        });
        found
            .map(|(id, service)| {
                let node = json!({
                    "CheckID": "serfHealth", "Name": "Serf Health Status", "Node": NODE, "Status": "passing",
                    "ServiceID": "", "ServiceName": "",
                });
                let checks = service.checks.iter().map(|(check_id, check)| check.to_json(check_id, id, service));
                json!({
                    "Node": { "ID": "", "Node": NODE, "Address": "127.0.0.1", "Datacenter": "dc1", "Meta": {} },
                    "Service": service.to_json(id),
                    "Checks": std::iter::once(node).chain(checks).collect::<Vec<_>>(),
                })
            })
            .collect()
    }

    fn checks(&self, wanted: impl Fn(&Service, &Check) -> bool) -> Value {
        let all = self.services.iter().flat_map(|(id, service)| {
            service.checks.iter().map(move |(check_id, check)| (id, service, check_id, check))
        });
        all.filter(|(_, service, _, check)| wanted(service, check))
            .map(|(id, service, check_id, check)| check.to_json(check_id, id, service))
            .collect()
    }
}

impl Service {
    fn to_json(&self, id: &str) -> Value {
        let Self { name, address, port, tags, meta, weights, index, .. } = self;
        json!({
            "ID": id, "Service": name, "Address": address, "Port": port, "Tags": tags, "Meta": meta, "Weights": weights,
            "EnableTagOverride": false, "CreateIndex": index, "ModifyIndex": index,
        })
    }
}

impl Check {
    fn asked(service: &str, asked: &Value) -> Result<Self, Response> {
        let time =
            |name: &str| match field(asked, name).and_then(Value::as_str).filter(|text| !text.is_empty()) {
                Some(text) => duration(text).map(Some).ok_or_else(|| {
                    Response::text(400, &format!("Request decode failed: time: invalid duration {text:?}"))
                }),
                None => Ok(None),
            };
        let ttl = time("TTL")?;
        let status = word(asked, "Status");
        let now = Instant::now();
        let mut check = Self {
            name: Some(word(asked, "Name"))
                .filter(|name| !name.is_empty())
                .map_or_else(|| format!("Service '{service}' check"), str::to_owned),
            kind: if ttl.is_some() { "ttl" } else { "" },
            status: String::new(),
            notes: word(asked, "Notes").to_owned(),
            output: String::new(),
            ttl,
            due: ttl.map(|ttl| now + ttl),
            deregister_after: time("DeregisterCriticalServiceAfter")?.map(|after| after.max(GARBAGE_AFTER)),
            critical_since: None,
        };
        check.set(if status.is_empty() { "critical" } else { status }, "", now);
        Ok(check)
    }

    fn set(&mut self, status: &str, output: &str, now: Instant) {
        self.critical_since = (status == "critical").then(|| self.critical_since.unwrap_or(now));
        self.status = status.into();
        self.output = output.into();
    }

    fn is_garbage(&self, now: Instant) -> bool {
        let critical = self.critical_since.map(|since| now.duration_since(since));
        critical.zip(self.deregister_after).is_some_and(|(critical, after)| critical > after)
    }

    fn to_json(&self, id: &str, service_id: &str, service: &Service) -> Value {
        json!({
            "Node": NODE, "CheckID": id, "Name": self.name, "Status": self.status, "Notes": self.notes, "Output": self.output,
            "ServiceID": service_id, "ServiceName": service.name, "ServiceTags": service.tags, "Type": self.kind,
        })
    }
}

fn allow(request: &Request, method: &str) -> Result<(), Response> {
    if request.method == method {
        return Ok(());
    }
    let why = format!("method {} not allowed", request.method);
    Err(Response::text(405, &why).header("Allow", &format!("OPTIONS,{method}")))
}

fn denied(service: &str) -> Response {
    let nobody = "token with AccessorID '00000000-0000-0000-0000-000000000002'";
    let why = format!("Permission denied: {nobody} lacks permission 'service:write' on \"{service}\"");
    Response::text(403, &why)
}

fn object(request: &Request) -> Result<Value, Response> {
    let json: Result<Value, _> = serde_json::from_str(&request.body);
    json.map_err(|error| Response::text(400, &format!("Request decode failed: {error}")))
}

/// What is called so, in capitals or not, and with underscores or without: Consul takes each.
fn field<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    let mut fields = json.as_object()?.iter();
    fields.find_map(|(known, value)| known.replace('_', "").eq_ignore_ascii_case(name).then_some(value))
}

fn word<'a>(json: &'a Value, name: &str) -> &'a str {
    field(json, name).and_then(Value::as_str).unwrap_or_default()
}

fn is_meta_key(key: &str) -> bool {
    (1..=128).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Where Go's `path.Clean` leads, if that is somewhere else.
fn cleaned(path: &str) -> Option<String> {
    let mut clean = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(clean.pop()),
            segment => clean.push(segment),
        }
    }
    // A slash at the end is kept.
    let end = if path.ends_with('/') && !clean.is_empty() { "/" } else { "" };
    let clean = format!("/{}{end}", clean.join("/"));
    (clean != path).then_some(clean)
}

/// A time as Go writes it: `15s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut all = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| at + digits);
        let unit = match &rest[digits..units] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        all += Duration::try_from_secs_f64(number * unit).ok()?;
        rest = &rest[units..];
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_go_s() {
        for (text, ms) in [("15s", 15_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("500ms", 500), ("", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for wrong in ["15", "s", "1d", "1s2"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, clean) in [("/v1/a/../b", "/v1/b"), ("/v1//a", "/v1/a"), ("/v1/.", "/v1"), ("/../x", "/x")]
        {
            assert_eq!(cleaned(path).as_deref(), Some(clean), "{path}");
        }
        for clean in ["/", "/v1/a:b@c", "/v1/a/", "/v1/..a"] {
            assert_eq!(cleaned(clean), None, "{clean}");
        }
    }
}
