//! Asking the servers of a registry over HTTP, each question within its deadline.
//!
//! Every question has a connection of its own: one that was kept may have been closed by the other side meanwhile, and then the one
//! question that counts, the last, would be lost with it.

#[cfg(feature = "tls")]
use std::sync::Arc;

use ureq::http::{Method, Request, StatusCode};
#[cfg(feature = "tls")]
use ureq::tls::TlsConfig;

use crate::url::Url;
use crate::{Deadline, Error, Instance, Result};

/// Longer answers are not for us.
const ANSWER_AT_MOST: u64 = 4 << 20;

/// What is read or written at once. Unless one says so ureq takes 128 kB for each.
const BUFFER: usize = 8 << 10;

/// The servers of one registry. Any of them may be asked.
#[derive(Debug)]
pub(crate) struct Servers {
    registry: String,
    scheme: &'static str,
    hosts: Vec<String>,
    /// The one that has answered last.
    first: usize,
    agent: ureq::Agent,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    /// With its query; what is not allowed in one is [escaped](crate::url::escaped).
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: Option<&'a str>,
    /// What the body is.
    pub(crate) content_type: &'static str,
}

impl<'a> Question<'a> {
    pub(crate) fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, headers: &[], body: None, content_type: "application/json" }
    }

    pub(crate) fn headers(self, headers: &'a [(&'static str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    /// With a body of JSON.
    pub(crate) fn json(self, body: &'a str) -> Self {
        Self { body: Some(body), ..self }
    }

    /// With a body that is what a form has, which is written as a query.
    pub(crate) fn form(self, body: &'a str) -> Self {
        Self { body: Some(body), content_type: "application/x-www-form-urlencoded", ..self }
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Done,
    /// There is no such thing.
    Unknown,
    Refused,
    Else,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

impl Answer {
    /// Its body in JSON, if it is.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.body).ok()
    }

    /// What it says, for a message: the beginning of its body, else its status.
    pub(crate) fn words(&self) -> String {
        let words: String =
            self.body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
        if words.is_empty() { self.status.to_string() } else { format!("{}: {words}", self.status.as_u16()) }
    }
}

impl Servers {
    /// The servers that a URL names, with TLS if that is its scheme.
    pub(crate) fn open(url: &Url<'_>, usual_port: u16, tls: &TlsNames) -> Result<Self> {
        let (registry, hosts) = (url.name(), url.servers(usual_port)?);
        let tls = (url.scheme == tls.scheme).then(|| Tls::from_environment(tls));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let config = ureq::Agent::config_builder()
            .user_agent("gracefully")
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            // Questions and answers are short, and an agent for each of many programs is small.
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            // A registry is near; a proxy of the environment is for what is far.
            .proxy(None);
        #[cfg(feature = "tls")]
        let config = match tls {
            Some(tls) => config.tls_config(tls.config()?),
            None => config,
        };
        #[cfg(not(feature = "tls"))]
        if tls.is_some() {
            let why = "this program was built without TLS (feature \"tls\")".into();
            return Err(Error::Failed { registry, why });
        }
        Ok(Self { registry, scheme, hosts, first: 0, agent: config.build().into() })
    }

    /// Asks, and goes by what the answer means. `None`: what was asked for is unknown.
    pub(crate) fn ask_for(
        &mut self,
        question: &Question<'_>,
        understand: impl Fn(&Answer) -> Said,
        hint: &'static str,
        deadline: Deadline,
    ) -> Result<Option<Answer>> {
        let answer = self.ask(question, deadline)?;
        match understand(&answer) {
            Said::Done => Ok(Some(answer)),
            Said::Unknown => Ok(None),
            Said::Refused => Err(self.refused(&answer.words(), hint)),
            Said::Else => Err(self.failed(&answer.words())),
        }
    }

    /// Fails if nobody could ask for this instance, because of a name that would not stay as it is in a path.
    pub(crate) fn check_names(
        &self,
        instance: &Instance,
        can_be_asked_for: impl Fn(&str) -> bool,
        hint: &'static str,
    ) -> Result<()> {
        match [&instance.id, &instance.service].into_iter().find(|name| !can_be_asked_for(name)) {
            Some(name) => Err(self.refused(&format!("nobody could ask it for {name:?}"), hint)),
            None => Ok(()),
        }
    }

    /// Asks one of them, and the next one if it does not answer; each has its share of the time.
    pub(crate) fn ask(&mut self, question: &Question<'_>, deadline: Deadline) -> Result<Answer> {
        let mut why = "there was no time to ask".to_owned();
        for tried in 0..self.hosts.len() {
            let at = (self.first + tried) % self.hosts.len();
            let left = u32::try_from(self.hosts.len() - tried).unwrap_or(u32::MAX);
            let time = deadline.left() / left;
            if time.is_zero() {
                break;
            }
            match self.ask_one(&self.hosts[at], question, deadline.at_most(time)) {
                Ok(answer) => {
                    self.first = at;
                    return Ok(answer);
                }
                Err(ureq::Error::Timeout(_)) => {
                    why = format!("{} does not answer within {} ms", self.hosts[at], time.as_millis());
                }
                Err(error) => why = format!("{}: {error}", self.hosts[at]),
            }
        }
        Err(self.failed(&why))
    }

    fn ask_one(
        &self,
        host: &str,
        question: &Question<'_>,
        deadline: Deadline,
    ) -> std::result::Result<Answer, ureq::Error> {
        let Question { method, path, headers, body, content_type } = question;
        let mut request = Request::builder().method(method).uri(format!("{}://{host}{path}", self.scheme));
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("Content-Type", *content_type);
        }
        let time = Some(deadline.left());
        let mut response = match *method {
            Method::GET | Method::DELETE => self
                .agent
                .run(self.agent.configure_request(request.body(())?).timeout_global(time).build())?,
            _ => {
                let request = request.body(body.unwrap_or_default())?;
                self.agent.run(self.agent.configure_request(request).timeout_global(time).build())?
            }
        };
        let status = response.status();
        let body =
            response.body_mut().with_config().limit(ANSWER_AT_MOST).lossy_utf8(true).read_to_string()?;
        Ok(Answer { status, body })
    }

    /// Nothing came of it.
    pub(crate) fn failed(&self, why: &str) -> Error {
        Error::Failed { registry: self.registry.clone(), why: why.into() }
    }

    /// The server does not want to.
    pub(crate) fn refused(&self, why: &str, hint: &'static str) -> Error {
        Error::Refused { registry: self.registry.clone(), why: why.into(), hint }
    }
}

/// The scheme of URLs that mean TLS, and the environment variables that name files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsNames {
    pub(crate) scheme: &'static str,
    pub(crate) authorities: &'static str,
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
}

/// Who is trusted, and who we are.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "then it is refused"))]
struct Tls {
    /// A file with the certificates that are trusted.
    authorities: Option<String>,
    /// Files with our certificate and its key.
    ours: Option<(String, String)>,
}

/// What Debian and Alpine have; others link to one of them.
#[cfg(feature = "tls")]
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

impl Tls {
    fn from_environment(names: &TlsNames) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            authorities: variable(names.authorities),
            ours: variable(names.certificate).zip(variable(names.key)),
        }
    }

    #[cfg(feature = "tls")]
    fn config(&self) -> Result<TlsConfig> {
        use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsProvider, parse_pem};

        let read = |path: &str| {
            let failed = |why: String| Error::Secret { what: path.to_owned(), why };
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(failed("there is no certificate in it".into()));
            }
            Ok(certificates)
        };
        let roots = read(self.authorities.as_deref().unwrap_or(SYSTEM))?;
        let ours = match &self.ours {
            Some((certificate, key)) => {
                let pem = std::fs::read(key)
                    .map_err(|error| Error::Secret { what: key.clone(), why: error.to_string() })?;
                let private = PrivateKey::from_pem(&pem)
                    .map_err(|error| Error::Secret { what: key.clone(), why: error.to_string() })?;
                Some(ClientCert::new_with_certs(&read(certificate)?, private))
            }
            None => None,
        };
        Ok(TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(ours)
            .build())
    }
}
