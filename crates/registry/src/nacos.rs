//! Nacos, by its HTTP API: that of version 3 (`/nacos/v3/client/…`), or that of 1 and 2 (`/nacos/v1/…`) where the former is not found. The
//! setting `api` says which, if it is to be only one.
//!
//! A registration is an **ephemeral instance** of a service in a group and a namespace, and what it is known by is its **address**: Nacos
//! has no other id of it. So an instance that is started again at the same address is the same one, and a new process must not listen
//! there before the old one has left.
//!
//! What Nacos answers, and what it means (read in its sources):
//!
//! * removing an instance: 200 and `ok`, also if there is none. So we ask for it before, by a heartbeat, to know what was there;
//! * removing by HTTP what a client has registered over gRPC: 200 and `ok`, and nothing is removed. [`Registry::drain`] works for those
//!   too;
//! * a heartbeat **with the instance in it** (`beat`, API 1) registers what is not there: after a leave it would bring it back. So ours
//!   never has it; then what is unknown is 200 with the code 20404 (API 1) or 21003 (API 3);
//! * an instance whose heartbeats stay out is *unhealthy* first, and removed later (15 s and 30 s, looked at every 5 s). But a service of
//!   which no instance is healthy has them **all** shown as healthy (protection threshold), so only removing counts: ours asks for both
//!   after the `ttl` (in its metadata, as Nacos has it: `preserved.…`);
//! * names must not begin with `@`, nor have `@@` or white space in them (400);
//! * with users, whoever has no token, or an old one, is refused (403).
//!
//! [`Registry::drain`] disables the instance (`enabled=false`). That is an operation for administrators in Nacos 3, and outlives heartbeats
//! and registrations, and the instance by a minute.
//!
//! The user is `NACOS_USERNAME`, with `NACOS_PASSWORD` (or the file that `NACOS_PASSWORD_FILE` names). TLS (`nacoss://`) trusts
//! `NACOS_CACERT`, else the system's authorities, and shows `NACOS_CERT` with `NACOS_KEY`. The path is the id of the namespace, `public`
//! if there is none; the group is `DEFAULT_GROUP` unless `group` says otherwise.
//!
//! Consumers that subscribe hear of a change within a second. Those that poll need the setting `settle` (APISIX looks every 30 s).

use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{Method, StatusCode};

use crate::http::{Answer, Question, Said, Servers, TlsNames};
use crate::secret::{Secret, User};
use crate::url::{Url, escaped};
use crate::{Alive, Deadline, Error, Hints, Instance, Left, Registry, Result};

const TLS: TlsNames =
    TlsNames { scheme: "nacoss", authorities: "NACOS_CACERT", certificate: "NACOS_CERT", key: "NACOS_KEY" };

const PORT: u16 = 8848;

/// How long an instance lives without a heartbeat.
const TTL: Duration = Duration::from_secs(15);

/// The shortest time: a busy machine may be late by a second.
const LEAST: Duration = Duration::from_secs(2);

/// How often Nacos looks for instances that have not been heard of.
const LOOKED_FOR: Duration = Duration::from_secs(5);

/// Subscribers are told after 500 ms, in which changes are gathered.
const SETTLE: Duration = Duration::from_secs(2);

/// What says that there is no such instance, in either API.
const UNKNOWN: [u64; 2] = [20404, 21003];

const HINT: &str = "set NACOS_USERNAME, and NACOS_PASSWORD or NACOS_PASSWORD_FILE, to a user who may write in the namespace; \
                    to drain, Nacos 3 wants an administrator";

/// Servers of Nacos.
#[derive(Debug)]
pub struct Nacos {
    servers: Servers,
    namespace: String,
    group: String,
    ttl: Duration,
    settle: Duration,
    /// As far as it is known.
    api: Option<Api>,
    user: Option<User>,
    /// What it has given us for the password.
    token: Option<Secret>,
    entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    V1,
    V3,
}

#[derive(Clone, Debug)]
struct Entry {
    api: Api,
    /// Which instance it is, as a query.
    query: String,
    address: String,
    port: u16,
    metadata: String,
    /// How many requests it gets, as others have set it.
    weight: f64,
    is_disabled: bool,
}

impl Api {
    fn instance(self) -> &'static str {
        match self {
            Self::V1 => "/nacos/v1/ns/instance",
            Self::V3 => "/nacos/v3/client/ns/instance",
        }
    }

    fn log_in(self) -> &'static str {
        match self {
            Self::V1 => "/nacos/v1/auth/login",
            Self::V3 => "/nacos/v3/auth/user/login",
        }
    }

    /// Where an instance is changed.
    fn update(self) -> &'static str {
        match self {
            Self::V1 => "/nacos/v1/ns/instance",
            Self::V3 => "/nacos/v3/admin/ns/instance",
        }
    }
}

impl Nacos {
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        let mut settings = url.settings()?;
        let ttl = settings.ttl(TTL, LEAST)?;
        let settle = settings.seconds("settle")?.unwrap_or(SETTLE);
        let group = settings.text("group", "NAME").unwrap_or("DEFAULT_GROUP").to_owned();
        let api = settings.choice("api", &[("auto", None), ("v3", Some(Api::V3)), ("v1", Some(Api::V1))])?;
        settings.end()?;
        let namespace = match url.path.trim_matches('/') {
            "" => "public",
            path if path.contains('/') => return Err(url.error("a namespace of Nacos has no slash in it")),
            path => path,
        };
        Ok(Self {
            servers: Servers::open(url, PORT, &TLS)?,
            namespace: namespace.to_owned(),
            group,
            ttl,
            settle,
            api,
            user: User::from_environment("NACOS_USERNAME", "NACOS_PASSWORD")?,
            token: None,
            entry: None,
        })
    }

    /// Which instance this is, of both APIs.
    fn entry_of(&self, instance: &Instance, api: Api) -> Entry {
        let Instance { service, address, port, .. } = instance;
        let query = format!(
            "namespaceId={}&groupName={}&serviceName={}&ip={}&port={port}&clusterName=DEFAULT&ephemeral=true",
            escaped(&self.namespace),
            escaped(&self.group),
            escaped(service),
            escaped(address),
        );
        let mut metadata = json!(instance.metadata);
        let milliseconds = |time: Duration| json!(time.as_millis().to_string());
        metadata["preserved.heart.beat.interval"] = milliseconds(self.ttl / 3);
        metadata["preserved.heart.beat.timeout"] = milliseconds(self.ttl);
        metadata["preserved.ip.delete.timeout"] = milliseconds(self.ttl);
        let metadata = escaped(&metadata.to_string());
        Entry { api, query, address: address.clone(), port: *port, metadata, weight: 1.0, is_disabled: false }
    }

    /// Asks, as the user if there is one. `None`: there is no such page.
    fn ask(&mut self, method: &Method, api: Api, path: &str, deadline: Deadline) -> Result<Option<Answer>> {
        let mut first = true;
        loop {
            if self.user.is_some() && self.token.is_none() && !self.log_in(api, deadline)? {
                return Ok(None);
            }
            let bearer = self.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
            let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
            let question = Question::new(method.clone(), path).headers(&headers);
            let answer = self.servers.ask(&question, deadline)?;
            match answer.status {
                status if status.is_success() => return Ok(Some(answer)),
                StatusCode::NOT_FOUND => return Ok(None),
                // Tokens live for five hours, or for as long as their server.
                StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED if self.token.is_some() && first => {
                    (self.token, first) = (None, false);
                }
                StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                    return Err(self.servers.refused(&answer.words(), HINT));
                }
                _ => return Err(self.servers.failed(&answer.words())),
            }
        }
    }

    /// `false`: there is no such page.
    fn log_in(&mut self, api: Api, deadline: Deadline) -> Result<bool> {
        let Some(user) = &self.user else { return Ok(true) };
        // In the body: what is in a path stands in logs.
        let form = format!("username={}&password={}", escaped(&user.name), escaped(user.password.expose()));
        let answer = self.servers.ask(&Question::new(Method::POST, api.log_in()).form(&form), deadline)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let json = answer.json();
        let token = json.as_ref().and_then(|json| json.get("accessToken")?.as_str());
        let Some(token) = token.filter(|_| answer.status.is_success()) else {
            // It has several ways to say that a password is wrong: 403, 500, and 200 without a token.
            return Err(self.servers.refused(&answer.words(), HINT));
        };
        self.token = Some(token.into());
        Ok(true)
    }

    /// Asks for what is done, or is not found for want of an instance.
    fn tell(&mut self, method: &Method, api: Api, path: &str, deadline: Deadline) -> Result<bool> {
        let answer = self.ask(method, api, path, deadline)?;
        let Some(answer) = answer else { return Err(self.servers.failed(&format!("there is no {path}"))) };
        match understand(&answer) {
            Said::Done => Ok(true),
            Said::Unknown => Ok(false),
            Said::Refused | Said::Else => Err(self.servers.failed(&answer.words())),
        }
    }

    /// `None`: there is no such API.
    fn put_in(&mut self, entry: &Entry, deadline: Deadline) -> Result<Option<()>> {
        let Entry { api, query, metadata, .. } = entry;
        let path = format!("{}?{query}&metadata={metadata}", api.instance());
        let Some(answer) = self.ask(&Method::POST, *api, &path, deadline)? else { return Ok(None) };
        match understand(&answer) {
            Said::Done => Ok(Some(())),
            _ => Err(self.servers.failed(&answer.words())),
        }
    }

    /// Says that it lives, and hears whether it is there. Without the instance in it, this never puts it in.
    fn beat(&mut self, entry: &Entry, deadline: Deadline) -> Result<bool> {
        let Entry { api, query, .. } = entry;
        match api {
            Api::V1 => self.tell(&Method::PUT, *api, &format!("{}/beat?{query}", api.instance()), deadline),
            Api::V3 => {
                let path = format!("{}?{query}&heartBeat=true", api.instance());
                self.tell(&Method::POST, *api, &path, deadline)
            }
        }
    }

    /// What is not said is set to what Nacos takes for usual.
    fn enable(&mut self, enabled: bool, deadline: Deadline) -> Result<bool> {
        let entry = self.entry()?;
        let Entry { api, query, metadata, weight, .. } = &entry;
        let path = format!("{}?{query}&metadata={metadata}&weight={weight}&enabled={enabled}", api.update());
        let done = self.tell(&Method::PUT, *api, &path, deadline)?;
        if let Some(entry) = &mut self.entry {
            entry.is_disabled = !enabled;
        }
        Ok(done)
    }

    /// As consumers find it; `None`: they do not.
    fn find(&mut self, deadline: Deadline) -> Result<Option<Value>> {
        let Entry { query, address, port, .. } = self.entry()?;
        for api in self.apis() {
            let path = format!("{}/list?{query}&healthyOnly=true", api.instance());
            let Some(answer) = self.ask(&Method::GET, api, &path, deadline)? else { continue };
            let json = answer.json();
            let hosts = json.as_ref().and_then(|json| match api {
                Api::V1 => json.get("hosts")?.as_array(),
                Api::V3 => json.get("data")?.as_array(),
            });
            let Some(hosts) = hosts else {
                let why = format!("this is no list of instances: {}", answer.words());
                return Err(self.servers.failed(&why));
            };
            self.speak(api);
            let is_it = |host: &&Value| host["ip"] == *address && host["port"] == port;
            let is_shown = |host: &&Value| host["healthy"] == true && host["enabled"] == true;
            return Ok(hosts.iter().filter(is_it).find(is_shown).cloned());
        }
        Err(self.servers.failed("there is no API for instances"))
    }

    /// Those that it may have, in the order in which to try them.
    fn apis(&self) -> Vec<Api> {
        self.api.map_or(vec![Api::V3, Api::V1], |api| vec![api])
    }

    /// It has this one.
    fn speak(&mut self, api: Api) {
        self.api = Some(api);
        if let Some(entry) = &mut self.entry {
            entry.api = api;
        }
    }

    fn entry(&self) -> Result<Entry> {
        self.entry.clone().ok_or(Error::NotRegistered)
    }
}

impl Registry for Nacos {
    fn register(&mut self, instance: &Instance, deadline: Deadline) -> Result<()> {
        if !is_name(&instance.service) {
            let why = format!("it takes no service of the name {:?}", instance.service);
            return Err(self
                .servers
                .refused(&why, "a name has no white space in it, nor @@, nor @ at its beginning"));
        }
        for api in self.apis() {
            let entry = self.entry_of(instance, api);
            // From here on there may be something to be taken out.
            self.entry = Some(entry.clone());
            if self.put_in(&entry, deadline)?.is_some() {
                self.api = Some(api);
                return Ok(());
            }
        }
        Err(self.servers.failed("there is no API for instances"))
    }

    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
        let entry = self.entry()?;
        Ok(if self.beat(&entry, deadline)? { Alive::Yes } else { Alive::Lost })
    }

    fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
        let entry = self.entry()?;
        // If this cannot be answered it is to be taken out all the same.
        let was_there = self.beat(&entry, deadline.at_most(deadline.left() / 3));
        self.tell(
            &Method::DELETE,
            entry.api,
            &format!("{}?{}", entry.api.instance(), entry.query),
            deadline,
        )?;
        if entry.is_disabled {
            // Else the next one at this address is, too.
            self.enable(true, deadline)?;
        }
        Ok(if was_there.unwrap_or(true) { Left::Now } else { Left::Before })
    }

    fn is_visible(&mut self, deadline: Deadline) -> Result<bool> {
        Ok(self.find(deadline)?.is_some())
    }

    /// Its id is the address that it is known by.
    fn adopt(&mut self, instance: &Instance) -> std::result::Result<(), &'static str> {
        let at = instance.id.rsplit_once(':').and_then(|(ip, port)| Some((ip, port.parse().ok()?)));
        let (ip, port) = at.ok_or("its id is the address at which it is registered, ADDRESS:PORT")?;
        let address = ip.trim_matches(['[', ']']).to_owned();
        let entry = self.entry_of(&Instance { address, port, ..instance.clone() }, Api::V3);
        self.entry = Some(entry);
        Ok(())
    }

    /// Disables it. There is no place for the reason.
    fn drain(&mut self, _: &str, deadline: Deadline) -> Result<bool> {
        match self.find(deadline)? {
            // Else what it has said of itself would be replaced.
            Some(found) => {
                if let Some(entry) = &mut self.entry {
                    entry.metadata = escaped(&found["metadata"].to_string());
                    entry.weight = found["weight"].as_f64().unwrap_or(entry.weight);
                }
            }
            // It takes this for instances too that there are not.
            None if !self.beat(&self.entry()?, deadline)? => {
                return Err(self.servers.failed("it does not know the instance"));
            }
            None => {}
        }
        self.enable(false, deadline)
    }

    fn undrain(&mut self, deadline: Deadline) -> Result<bool> {
        self.enable(true, deadline)
    }

    fn hints(&self) -> Hints {
        Hints { beat: self.ttl / 3, settle: self.settle, crash_after: self.ttl + LOOKED_FOR }
    }
}

/// What an answer means that is no error of HTTP.
fn understand(answer: &Answer) -> Said {
    if answer.body.trim() == "ok" {
        return Said::Done;
    }
    match answer.json().and_then(|json| json.get("code")?.as_u64()) {
        // Of API 3, and of heartbeats in API 1.
        Some(0 | 10200) => Said::Done,
        Some(code) if UNKNOWN.contains(&code) => Said::Unknown,
        _ => Said::Else,
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('@') && !name.contains("@@") && !name.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    use gracefully_servers::nacos::Nacos as Double;

    fn open(url: &str) -> Result<Nacos> {
        Nacos::open(&Url::parse(url)?)
    }

    fn soon() -> Deadline {
        Deadline::within(Duration::from_secs(5))
    }

    #[test]
    fn the_url() {
        let nacos = open("nacos://a,b/dev?group=g&ttl=9&settle=30&api=v1").unwrap();
        assert_eq!((nacos.namespace.as_str(), nacos.group.as_str(), nacos.api), ("dev", "g", Some(Api::V1)));
        let seconds = Duration::from_secs;
        assert_eq!(nacos.hints(), Hints { beat: seconds(3), settle: seconds(30), crash_after: seconds(14) });
        let nacos = open("nacos://a").unwrap();
        assert_eq!(
            (nacos.namespace.as_str(), nacos.group.as_str(), nacos.api),
            ("public", "DEFAULT_GROUP", None)
        );
        assert!(open("nacos://a/b/c").is_err() && open("nacos://a?api=v2").is_err());
    }

    #[test]
    fn an_instance_is_its_address() {
        let mut instance = Instance::new("a/b&c", "::1", 80);
        instance.metadata.insert("zone".into(), "ä".into());
        let entry = open("nacos://a/dev").unwrap().entry_of(&instance, Api::V3);
        let expected = "namespaceId=dev&groupName=DEFAULT_GROUP&serviceName=a%2Fb%26c&ip=%3A%3A1&port=80";
        assert_eq!(entry.query, format!("{expected}&clusterName=DEFAULT&ephemeral=true"));
        assert!(
            entry.metadata.contains("%22zone%22%3A%22%C3%A4%22") && entry.metadata.contains("15000"),
            "{entry:?}"
        );
    }

    #[test]
    fn names() {
        assert!(["web", "a/b", "a:b@c", "%2f", "."].into_iter().all(is_name));
        assert!(!["", "@a", "a@@b", "a b", "a\nb"].into_iter().any(is_name));
    }

    #[test]
    fn answers_are_understood_or_not() {
        let understand = |body: &str| understand(&Answer { status: StatusCode::OK, body: body.into() });
        assert_eq!(understand("ok"), Said::Done);
        assert_eq!(understand("{\"code\":0,\"message\":\"success\",\"data\":\"ok\"}"), Said::Done);
        assert_eq!(understand("{\"code\":10200,\"clientBeatInterval\":5000}"), Said::Done);
        for unknown in
            ["{\"code\":20404}", "{\"code\":21003,\"message\":\"instance not found\",\"data\":null}"]
        {
            assert_eq!(understand(unknown), Said::Unknown);
        }
        for other in ["", "<html>", "{\"code\":10000}", "{}"] {
            assert_eq!(understand(other), Said::Else, "{other}");
        }
    }

    /// And a token that is not known any more is replaced.
    #[test]
    fn a_password_that_is_wrong_is_refused_and_not_shown() {
        for double in [Double::start_with_user("me", "right"), Double::start_v1_with_user("me", "right")] {
            let user = |password: &str| Some(User { name: "me".into(), password: password.into() });
            let instance = Instance::new("web", "127.0.0.1", 80);
            let mut nacos = open(&format!("nacos://{}", double.at())).unwrap();
            for wrong in [None, user("wrong")] {
                nacos.user = wrong;
                let error = nacos.register(&instance, soon()).unwrap_err();
                assert!(matches!(error, Error::Refused { .. }), "{error}");
                assert!(
                    error.to_string().ends_with(HINT) && !format!("{error} {nacos:?}").contains("wrong"),
                    "{error}"
                );
            }
            nacos.user = user("right");
            nacos.register(&instance, soon()).unwrap();
            double.forget_tokens();
            assert_eq!(nacos.keep_alive(soon()).unwrap(), Alive::Yes);
            assert!(nacos.is_visible(soon()).unwrap());
            double.forget_tokens();
            assert_eq!(nacos.deregister(soon()).unwrap(), Left::Now);
        }
    }
}
