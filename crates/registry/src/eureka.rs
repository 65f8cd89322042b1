//! Eureka, Netflix's and Spring Cloud's, by its REST operations.
//!
//! A registration is an **instance** of an **application**, whose name is in capitals, with a lease. Eureka is built so that consumers find
//! instances while the network is torn. That they do not find one that has left takes its time, whatever one does:
//!
//! * an instance that has left is taken out of the registry at once. But consumers are answered from a copy that the server renews every
//!   30 s, and look every 30 s themselves: [`Hints::settle`] is 60 s. Consumers that balance from a list of their own (Ribbon) may need
//!   30 s more, and those of a server without the copy (`useReadOnlyResponseCache=false`) 30 s less: the setting `settle` says so;
//! * a lease that is not renewed ends after **twice** its duration (a mistake in `Lease.renew` that is documented and kept), and is looked
//!   for once a minute: [`Hints::crash_after`]. The setting `eviction` is for servers that look more often (`evictionIntervalTimerInMs`);
//! * a server that gets less than 85 % of the heartbeats which it expects preserves itself: it takes **nobody** out who has not left. It
//!   expects a heartbeat every 30 s of each instance, as it gets with the usual `ttl` of 90.
//!
//! So [`Registry::is_visible`] asks for the one instance, which is answered from the registry itself, and not for the list, which is a
//! copy.
//!
//! What Eureka answers, and what it means (read in its sources):
//!
//! * a heartbeat or a cancellation of what is unknown: 404, with or without words. Registering has succeeded before, so the path is right;
//! * a heartbeat for an instance that has no status, as after an override was removed without saying what comes then: 404 as well. So
//!   [`Registry::undrain`] says `UP`;
//! * an override (`OUT_OF_SERVICE`) outlives heartbeats and registrations; a cancellation ends it. There is no place for its reason;
//! * the id and the application stand in the path, and Tomcat takes no slash there, escaped or not (400). So none is registered here.
//!
//! The user is `EUREKA_USER`, with `EUREKA_PASSWORD` (or the file that `EUREKA_PASSWORD_FILE` names). TLS (`eurekas://`) trusts
//! `EUREKA_CACERT`, else the system's authorities, and shows `EUREKA_CERT` with `EUREKA_KEY`. The path is `/eureka` unless the URL has one;
//! Netflix's own server has `/eureka/v2`. The servers of a URL are peers, of which any may be asked.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use ureq::http::{Method, StatusCode};

use crate::http::{Answer, Question, Said, Servers, TlsNames};
use crate::secret::User;
use crate::url::{Url, escaped};
use crate::{Alive, Deadline, Error, Hints, Instance, Left, Registry, Result};

const TLS: TlsNames = TlsNames {
    scheme: "eurekas",
    authorities: "EUREKA_CACERT",
    certificate: "EUREKA_CERT",
    key: "EUREKA_KEY",
};

const PORT: u16 = 8761;

/// How long a lease lasts, as far as Eureka says; it is renewed three times as often.
const TTL: Duration = Duration::from_secs(90);

/// The shortest time: a busy machine may be late by a second.
const LEAST: Duration = Duration::from_secs(2);

/// How often a server looks for leases that have ended.
const EVICTION: Duration = Duration::from_secs(60);

/// The server's copy and the consumer's own, each of them 30 s old at most.
const SETTLE: Duration = Duration::from_secs(60);

const HINT: &str = "set EUREKA_USER, and EUREKA_PASSWORD or EUREKA_PASSWORD_FILE; Spring Security must not ask for a CSRF token there";

/// Servers of Eureka.
#[derive(Debug)]
pub struct Eureka {
    servers: Servers,
    path: String,
    ttl: Duration,
    eviction: Duration,
    settle: Duration,
    user: Option<User>,
    /// The path of what is registered.
    entry: Option<String>,
}

impl Eureka {
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        let mut settings = url.settings()?;
        let ttl = settings.ttl(TTL, LEAST)?;
        let eviction = settings.seconds("eviction")?.unwrap_or(EVICTION);
        let settle = settings.seconds("settle")?.unwrap_or(SETTLE);
        settings.end()?;
        let path = match url.path.trim_end_matches('/') {
            "" => "/eureka",
            path => path,
        };
        Ok(Self {
            servers: Servers::open(url, PORT, &TLS)?,
            path: path.to_owned(),
            ttl,
            eviction,
            settle,
            user: User::from_environment("EUREKA_USER", "EUREKA_PASSWORD")?,
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
        let basic = self.user.as_ref().map(User::basic);
        let authorization = basic.as_ref().map(|basic| ("Authorization", basic.expose()));
        // Without it, it speaks XML.
        let headers: Vec<_> = authorization.into_iter().chain([("Accept", "application/json")]).collect();
        let question = Question { body: body.as_deref(), ..Question::new(method, path).headers(&headers) };
        self.servers.ask_for(&question, understand, HINT, deadline)
    }

    fn application(&self, service: &str) -> String {
        format!("{}/apps/{}", self.path, escaped(&service.to_uppercase()))
    }

    fn registration(&self, instance: &Instance, now: Duration) -> Value {
        let Instance { id, service, address, port, metadata } = instance;
        let beat = self.ttl / 3;
        json!({ "instance": {
            "instanceId": id,
            "app": service.to_uppercase(),
            "hostName": address,
            "ipAddr": address,
            // By these names Spring's consumers look for it.
            "vipAddress": service,
            "secureVipAddress": service,
            "status": "UP",
            "port": { "$": port, "@enabled": "true" },
            "securePort": { "$": 443, "@enabled": "false" },
            "dataCenterInfo": {
                "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
                "name": "MyOwn",
            },
            "leaseInfo": { "renewalIntervalInSecs": beat.as_secs().max(1), "durationInSecs": self.ttl.as_secs() },
            "metadata": metadata,
            // Of two registrations the server keeps the one that is later.
            "lastDirtyTimestamp": now.as_millis().to_string(),
        }})
    }

    fn entry(&self) -> Result<String> {
        self.entry.clone().ok_or(Error::NotRegistered)
    }

    fn set_status(&mut self, method: Method, status: &str, deadline: Deadline) -> Result<bool> {
        let path = format!("{}/status?value={status}", self.entry()?);
        match self.ask(method, &path, None, deadline)? {
            Some(_) => Ok(true),
            None => Err(self.servers.failed("it does not know the instance")),
        }
    }

    fn remember(&mut self, instance: &Instance) {
        self.entry = Some(format!("{}/{}", self.application(&instance.service), escaped(&instance.id)));
    }
}

impl Registry for Eureka {
    fn register(&mut self, instance: &Instance, deadline: Deadline) -> Result<()> {
        self.servers.check_names(instance, can_be_asked_for, "a name is text without slashes")?;
        // From here on there may be something to be taken out.
        self.remember(instance);
        let application = self.application(&instance.service);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let registration = self.registration(instance, now);
        match self.ask(Method::POST, &application, Some(&registration), deadline)? {
            Some(_) => Ok(()),
            None => Err(self.servers.failed(&format!("there are no applications at {application}"))),
        }
    }

    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
        let entry = self.entry()?;
        Ok(self.ask(Method::PUT, &entry, None, deadline)?.map_or(Alive::Lost, |_| Alive::Yes))
    }

    fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
        let entry = self.entry()?;
        Ok(self.ask(Method::DELETE, &entry, None, deadline)?.map_or(Left::Before, |_| Left::Now))
    }

    fn is_visible(&mut self, deadline: Deadline) -> Result<bool> {
        let entry = self.entry()?;
        let Some(answer) = self.ask(Method::GET, &entry, None, deadline)? else { return Ok(false) };
        let found = answer.json();
        let status = found.as_ref().and_then(|found| found.get("instance")?.get("status")?.as_str());
        // Consumers leave out what is not up.
        status
            .map(|status| status == "UP")
            .ok_or_else(|| self.servers.failed(&format!("this is no instance: {}", answer.words())))
    }

    fn adopt(&mut self, instance: &Instance) -> std::result::Result<(), &'static str> {
        self.remember(instance);
        Ok(())
    }

    /// An override of its status.
    fn drain(&mut self, _: &str, deadline: Deadline) -> Result<bool> {
        self.set_status(Method::PUT, "OUT_OF_SERVICE", deadline)
    }

    fn undrain(&mut self, deadline: Deadline) -> Result<bool> {
        self.set_status(Method::DELETE, "UP", deadline)
    }

    fn hints(&self) -> Hints {
        Hints { beat: self.ttl / 3, settle: self.settle, crash_after: self.ttl * 2 + self.eviction }
    }
}

fn understand(answer: &Answer) -> Said {
    match answer.status {
        status if status.is_success() => Said::Done,
        // Who wants JSON gets no page from it, but from somebody on the way.
        StatusCode::NOT_FOUND if !answer.body.trim_start().starts_with('<') => Said::Unknown,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Said::Refused,
        _ => Said::Else,
    }
}

/// Does Tomcat take this in a path, and as one part of it?
fn can_be_asked_for(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\']) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<Eureka> {
        Eureka::open(&Url::parse(url)?)
    }

    #[test]
    fn the_url() {
        let seconds = Duration::from_secs;
        let eureka = open("eureka://a,b:1/").unwrap();
        assert_eq!(eureka.application("web"), "/eureka/apps/WEB");
        assert_eq!(
            eureka.hints(),
            Hints { beat: seconds(30), settle: seconds(60), crash_after: seconds(240) }
        );
        let eureka = open("eureka://a/eureka/v2/?ttl=9&eviction=5&settle=0").unwrap();
        assert_eq!(eureka.application("a b"), "/eureka/v2/apps/A%20B");
        assert_eq!(eureka.hints(), Hints { beat: seconds(3), settle: seconds(0), crash_after: seconds(23) });
        assert!(open("eureka://a/?ttl=1").is_err() && open("eureka://a/?eviction=often").is_err());
    }

    #[test]
    fn a_registration_is_what_its_clients_send() {
        let mut instance = Instance::new("Web", "10.0.0.7", 8080);
        instance.id = "web-1".into();
        instance.metadata.insert("zone".into(), "a".into());
        let registration =
            open("eureka://a?ttl=2").unwrap().registration(&instance, Duration::from_millis(1_234));
        let instance = &registration["instance"];
        assert_eq!((&instance["app"], &instance["vipAddress"]), (&json!("WEB"), &json!("Web")));
        assert_eq!(instance["port"], json!({ "$": 8080, "@enabled": "true" }));
        assert_eq!(instance["leaseInfo"], json!({ "renewalIntervalInSecs": 1, "durationInSecs": 2 }));
        assert_eq!(
            (&instance["metadata"]["zone"], &instance["lastDirtyTimestamp"]),
            (&json!("a"), &json!("1234"))
        );
    }

    #[test]
    fn names_that_are_no_part_of_a_path() {
        for name in ["web", "a:b@c", "ä ö", "%2f", "..a", "x;y"] {
            assert!(can_be_asked_for(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a\\b", "a\nb"] {
            assert!(!can_be_asked_for(name), "{name:?}");
        }
    }

    #[test]
    fn a_password_that_is_wrong_is_refused_and_not_shown() {
        let user = |password: &str| Some(User { name: "me".into(), password: password.into() });
        let right = user("right").map(|user| user.basic().expose().to_owned()).unwrap();
        let server = gracefully_servers::eureka::Eureka::start_with_authorization(&right);
        let (instance, soon) =
            (Instance::new("web", "127.0.0.1", 80), Deadline::within(Duration::from_secs(5)));
        let mut eureka = open(&format!("eureka://{}", server.at())).unwrap();
        for wrong in [None, user("wrong")] {
            eureka.user = wrong;
            let error = eureka.register(&instance, soon).unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            assert!(
                error.to_string().ends_with(HINT) && !format!("{error} {eureka:?}").contains("wrong"),
                "{error}"
            );
        }
        eureka.user = user("right");
        eureka.register(&instance, soon).unwrap();
        assert_eq!(eureka.deregister(soon).unwrap(), Left::Now);
    }

    /// It may hold for all paths, or for this one only.
    #[test]
    fn a_page_that_was_not_found_is_no_instance_that_has_left() {
        let server = gracefully_servers::eureka::Eureka::start();
        let (instance, soon) =
            (Instance::new("web", "127.0.0.1", 80), Deadline::within(Duration::from_secs(5)));
        let mut eureka = open(&format!("eureka://{}/elsewhere", server.at())).unwrap();
        let error = eureka.register(&instance, soon).unwrap_err().to_string();
        assert!(error.contains("404: <html>"), "{error}");
        assert!(eureka.deregister(soon).is_err() && eureka.is_visible(soon).is_err());
    }
}
