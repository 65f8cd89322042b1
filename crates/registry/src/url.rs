//! The URLs that name registries: `SCHEME://HOST:PORT/PATH?NAME=VALUE&…`.

use std::time::Duration;

use crate::{Error, Result};

/// The parts of a URL, as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    text: &'a str,
    pub(crate) scheme: &'a str,
    /// `HOST:PORT`, or nothing.
    pub(crate) authority: &'a str,
    /// With its slash.
    pub(crate) path: &'a str,
    query: &'a str,
}

impl<'a> Url<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let error = |why: &str| {
            // What looks like a password is not repeated.
            let url = text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned();
            Err(Error::Url { url, why: why.into() })
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return error("it has the form SCHEME://HOST:PORT/PATH");
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        if authority.contains('@') {
            return error("a user and a password are no part of it; they come from the environment");
        }
        Ok(Self { text, scheme, authority, path, query })
    }

    pub(crate) fn error(&self, why: &str) -> Error {
        Error::Url { url: self.text.into(), why: why.into() }
    }

    /// How long a registration lives without a heartbeat; it is the only setting that there is.
    pub(crate) fn ttl(&self, usual: Duration, least: Duration) -> Result<Duration> {
        let mut ttl = usual;
        for setting in self.query.split('&').filter(|setting| !setting.is_empty()) {
            let Some(("ttl", seconds)) = setting.split_once('=') else {
                return Err(self.error(&format!("there is no setting {setting:?}, only ttl=SECONDS")));
            };
            ttl = seconds
                .parse()
                .map(Duration::from_secs)
                .map_err(|_| self.error(&format!("ttl={seconds} is no number of seconds")))?;
        }
        if ttl < least {
            return Err(self.error(&format!("a ttl of less than {} s is too short", least.as_secs())));
        }
        Ok(ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);
    const TWO: Duration = Duration::from_secs(2);

    #[test]
    fn the_parts() {
        let url = Url::parse("etcd://[::1]:2379/services/web?ttl=30").unwrap();
        assert_eq!((url.scheme, url.authority, url.path), ("etcd", "[::1]:2379", "/services/web"));
        assert_eq!(url.ttl(TEN, TWO).unwrap().as_secs(), 30);
        let url = Url::parse("file:///run/services").unwrap();
        assert_eq!((url.authority, url.path), ("", "/run/services"));
        assert_eq!(url.ttl(TEN, TWO).unwrap(), TEN);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_shown() {
        for (text, named) in [
            ("etcd:host", "SCHEME://"),
            ("etcd://root:secret@host:2379/", "environment"),
            ("etcd://host/?ttl=soon", "ttl=soon"),
            ("etcd://host/?ttl=1", "too short"),
            ("etcd://host/?tll=10", "\"tll=10\""),
        ] {
            let why = Url::parse(text).and_then(|url| url.ttl(TEN, TWO)).unwrap_err().to_string();
            assert!(why.contains(named) && !why.contains("secret"), "{why}");
        }
    }
}
