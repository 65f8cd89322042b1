//! Consul, by the HTTP API of one of its agents.
//!
//! A registration is a **service** of an **agent**, with one check of the kind TTL: it passes for its time to live after each heartbeat
//! and is critical from then on. Consumers who ask for what passes do not find it any more; the agent removes it after another minute,
//! which is garbage collection and no way to stop: Consul takes no less.
//!
//! **The agent matters.** What an agent knows, only this agent can take out; what another one removes from the catalogue comes back with
//! the next synchronisation. So the URL names one agent, always the same: the one on this machine (an agent on each is how Consul is
//! meant), not an address that leads to any of them.
//!
//! What Consul answers, and what it means (read in its sources and its issues):
//!
//! * deregistering what is unknown: 404 `Unknown service ID`; a heartbeat for what is unknown: 404 `Unknown check ID`, before Consul 1.11
//!   500 `does not have associated TTL`. A 404 with other words is somebody else's, as that of a proxy;
//! * registering again keeps the status that the check has, so that one which is critical needs a heartbeat besides; and it ends
//!   maintenance;
//! * a heartbeat makes a check that is critical pass again, but none brings back what is not there;
//! * ids and names stand in the path, which Go's server redirects (301) if it is not clean. So nobody could ask for a service or an id
//!   with `//`, `/../` or the like in it, or deregister it, and none is registered here;
//! * with access lists, a token that may not write is refused (403). One that may not **read** is not: it finds nothing. So the token needs
//!   `service:write`, which includes reading, or a leave will take for gone what nobody was allowed to see.
//!
//! The token is `CONSUL_HTTP_TOKEN`, as for Consul's own client, or in the file that `CONSUL_HTTP_TOKEN_FILE` names. TLS (`consuls://`)
//! trusts `CONSUL_CACERT`, else the system's authorities, and shows `CONSUL_CLIENT_CERT` with `CONSUL_CLIENT_KEY`.
//!
//! Consumers that watch (blocking queries) hear of a change at once. Those that poll need the setting `settle`: as many seconds as they
//! wait between two looks (Traefik's `consulCatalog` 15, unless it is set to watch).

use std::time::Duration;

use serde_json::{Value, json};
use ureq::http::{Method, StatusCode};

use crate::http::{Answer, Question, Said, Servers, TlsNames};
use crate::secret::Secret;
use crate::url::{Url, escaped};
use crate::{Alive, Deadline, Error, Hints, Instance, Left, Registry, Result};

const TLS: TlsNames = TlsNames {
    scheme: "consuls",
    authorities: "CONSUL_CACERT",
    certificate: "CONSUL_CLIENT_CERT",
    key: "CONSUL_CLIENT_KEY",
};

const PORT: u16 = 8500;

/// How long a check passes without a heartbeat.
const TTL: Duration = Duration::from_secs(15);

/// The shortest time: a busy machine may be late by a second.
const LEAST: Duration = Duration::from_secs(2);

/// Whoever watches has heard of it after milliseconds; Traefik then waits up to two seconds (`providersThrottleDuration`), and needs some
/// time for itself: measured with its provider `consulCatalog` were 1.9 to 2.1 s.
const SETTLE: Duration = Duration::from_secs(3);

const HINT: &str =
    "set CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE to a token with service:write for this service";

/// One of Consul's agents.
#[derive(Debug)]
pub struct Consul {
    agent: Servers,
    ttl: Duration,
    settle: Duration,
    token: Option<Secret>,
    entry: Option<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: String,
    service: String,
}

impl Consul {
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        let mut settings = url.settings()?;
        let ttl = settings.ttl(TTL, LEAST)?;
        let settle = settings.seconds("settle")?.unwrap_or(SETTLE);
        settings.end()?;
        if !matches!(url.path, "" | "/") {
            return Err(url.error("services of Consul are in no path"));
        }
        if url.servers(PORT)?.len() > 1 {
            return Err(url.error(
                "only the agent that has registered an instance can take it out: name one, the nearest",
            ));
        }
        Ok(Self {
            agent: Servers::open(url, PORT, &TLS)?,
            ttl,
            settle,
            token: Secret::from_environment("CONSUL_HTTP_TOKEN")?,
            entry: None,
        })
    }

    /// Asks. `None`: it does not know what was asked for.
    fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Deadline,
    ) -> Result<Option<Answer>> {
        let body = body.map(Value::to_string);
        let token = self.token.as_ref().map(|token| ("X-Consul-Token", token.expose()));
        let headers: Vec<_> = token.into_iter().collect();
        let question = Question { body: body.as_deref(), ..Question::new(method, path).headers(&headers) };
        self.agent.ask_for(&question, understand, HINT, deadline)
    }

    fn put(&mut self, path: &str, deadline: Deadline) -> Result<Option<Answer>> {
        self.ask(Method::PUT, path, None, deadline)
    }

    /// Makes its check pass. `false`: there is none.
    fn pass(&mut self, id: &str, deadline: Deadline) -> Result<bool> {
        let path = format!("/v1/agent/check/pass/{}", escaped(&format!("service:{id}")));
        Ok(self.put(&path, deadline)?.is_some())
    }

    fn maintain(&mut self, query: &str, deadline: Deadline) -> Result<bool> {
        let entry = self.entry()?;
        let path = format!("/v1/agent/service/maintenance/{}?{query}", escaped(&entry.id));
        match self.put(&path, deadline)? {
            Some(_) => Ok(true),
            None => Err(self.agent.failed(&format!("it does not know {:?}", entry.id))),
        }
    }

    fn entry(&self) -> Result<Entry> {
        self.entry.clone().ok_or(Error::NotRegistered)
    }

    fn registration(&self, instance: &Instance) -> Value {
        let Instance { id, service, address, port, metadata } = instance;
        json!({
            "ID": id, "Name": service, "Address": address, "Port": port, "Meta": metadata,
            "Check": {
                "TTL": format!("{}s", self.ttl.as_secs()), "Status": "passing", "DeregisterCriticalServiceAfter": "1m",
            },
        })
    }

    fn remember(&mut self, instance: &Instance) {
        self.entry = Some(Entry { id: instance.id.clone(), service: instance.service.clone() });
    }
}

impl Registry for Consul {
    fn register(&mut self, instance: &Instance, deadline: Deadline) -> Result<()> {
        self.agent.check_names(instance, can_be_asked_for, "a name is text without `//`, `/./` or `/../`")?;
        // From here on there may be something to be taken out.
        self.remember(instance);
        let registration = self.registration(instance);
        let path = "/v1/agent/service/register?replace-existing-checks=true";
        let known = self.ask(Method::PUT, path, Some(&registration), deadline)?.is_some()
            && self.pass(&instance.id, deadline)?;
        if known { Ok(()) } else { Err(self.agent.failed("it does not know what it has just registered")) }
    }

    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
        let entry = self.entry()?;
        Ok(if self.pass(&entry.id, deadline)? { Alive::Yes } else { Alive::Lost })
    }

    fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
        let entry = self.entry()?;
        let path = format!("/v1/agent/service/deregister/{}", escaped(&entry.id));
        Ok(self.put(&path, deadline)?.map_or(Left::Before, |_| Left::Now))
    }

    fn is_visible(&mut self, deadline: Deadline) -> Result<bool> {
        let entry = self.entry()?;
        let path = format!("/v1/health/service/{}?passing=true", escaped(&entry.service));
        let answer = self.ask(Method::GET, &path, None, deadline)?;
        let found = answer.as_ref().and_then(Answer::json);
        let Some(found) = found.as_ref().and_then(Value::as_array) else {
            let words = answer.map_or_else(|| "404".into(), |answer| answer.words());
            return Err(self.agent.failed(&format!("this is no list of instances: {words}")));
        };
        Ok(found.iter().any(|found| found["Service"]["ID"] == *entry.id))
    }

    fn adopt(&mut self, instance: &Instance) -> std::result::Result<(), &'static str> {
        self.remember(instance);
        Ok(())
    }

    /// Maintenance: one more check, which is critical until it is ended, whatever heartbeats say.
    fn drain(&mut self, reason: &str, deadline: Deadline) -> Result<bool> {
        self.maintain(&format!("enable=true&reason={}", escaped(reason)), deadline)
    }

    fn undrain(&mut self, deadline: Deadline) -> Result<bool> {
        self.maintain("enable=false", deadline)
    }

    fn hints(&self) -> Hints {
        Hints { beat: self.ttl / 3, settle: self.settle, crash_after: self.ttl }
    }
}

fn understand(answer: &Answer) -> Said {
    let says = |words: &str| answer.body.contains(words);
    match answer.status {
        status if status.is_success() => Said::Done,
        StatusCode::NOT_FOUND if says("Unknown service") || says("Unknown check") => Said::Unknown,
        StatusCode::INTERNAL_SERVER_ERROR
            if says("Unknown service") || says("Unknown check") || says("does not have associated TTL") =>
        {
            Said::Unknown
        }
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Said::Refused,
        _ => Said::Else,
    }
}

/// Does this stay as it is in a path, and pass Consul's filter of control characters?
fn can_be_asked_for(name: &str) -> bool {
    !name.chars().any(char::is_control) && !name.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<Consul> {
        Consul::open(&Url::parse(url)?)
    }

    #[test]
    fn the_url_names_one_agent() {
        let consul = open("consul://localhost?ttl=9&settle=15").unwrap();
        let seconds = Duration::from_secs;
        let hints = Hints { beat: seconds(3), settle: seconds(15), crash_after: seconds(9) };
        assert_eq!(consul.hints(), hints);
        for (url, why) in [
            ("consul://a,b", "only the agent"),
            ("consul://a/services", "in no path"),
            ("consul://a?settle=soon", "settle=soon is no number"),
            ("consul://a?ttl=1", "too short"),
        ] {
            let error = open(url).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_registration() {
        let mut instance = Instance::new("web", "::1", 80);
        instance.id = "web-1".into();
        instance.metadata.insert("zone".into(), "a".into());
        let registration = open("consul://localhost/").unwrap().registration(&instance);
        let check = json!({ "TTL": "15s", "Status": "passing", "DeregisterCriticalServiceAfter": "1m" });
        let expected = json!({
            "ID": "web-1", "Name": "web", "Address": "::1", "Port": 80, "Meta": { "zone": "a" }, "Check": check,
        });
        assert_eq!(registration, expected);
    }

    #[test]
    fn a_token_that_is_wrong_is_refused_and_named() {
        let agent = gracefully_servers::consul::Consul::start_with_token("right");
        let with = |token: Option<&str>| {
            let mut consul = open(&format!("consul://{}", agent.at())).unwrap();
            consul.token = token.map(Secret::from);
            consul
        };
        let (instance, soon) =
            (Instance::new("web", "127.0.0.1", 80), Deadline::within(Duration::from_secs(5)));
        for (token, words) in [(Some("wrong"), "ACL not found"), (None, "service:write")] {
            let error = with(token).register(&instance, soon).unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains(words) && error.ends_with(HINT) && !error.contains("wrong"), "{error}");
        }
        let mut consul = with(Some("right"));
        consul.register(&instance, soon).unwrap();
        assert!(consul.is_visible(soon).unwrap());
        consul.token = Some("wrong".into());
        assert!(consul.deregister(soon).is_err(), "it is not taken for gone");
        consul.token = Some("right".into());
        assert_eq!(consul.deregister(soon).unwrap(), Left::Now);
        assert!(!format!("{consul:?}").contains("right"));
    }

    #[test]
    fn names_that_do_not_stay_as_they_are_in_a_path() {
        for name in ["web", "a/b", "a:b@c", "ä ö", "%2f", "..a", "a.b"] {
            assert!(can_be_asked_for(name), "{name}");
        }
        for name in ["", ".", "..", "a//b", "/a", "a/", "../up", "a/./b", "a\nb"] {
            assert!(!can_be_asked_for(name), "{name:?}");
        }
    }

    #[test]
    fn only_consul_s_own_words_say_that_it_does_not_know() {
        let understand = |status: u16, body: &str| {
            understand(&Answer { status: StatusCode::from_u16(status).unwrap(), body: body.into() })
        };
        assert_eq!(understand(200, ""), Said::Done);
        assert_eq!(understand(404, "Unknown service ID \"a\". Ensure that …"), Said::Unknown);
        assert_eq!(understand(404, "Unknown check ID \"service:a\". Ensure that …"), Said::Unknown);
        assert_eq!(understand(500, "CheckID \"service:a\" does not have associated TTL"), Said::Unknown);
        assert_eq!(understand(403, "Permission denied"), Said::Refused);
        for (status, body) in
            [(404, "<html>"), (404, ""), (500, "No cluster leader"), (301, ""), (400, "Missing service name")]
        {
            assert_eq!(understand(status, body), Said::Else, "{status} {body}");
        }
    }
}
