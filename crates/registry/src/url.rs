//! The URLs that name registries: `SCHEME://HOST:PORT,HOST:PORT/PATH?NAME=VALUE&…`.

use std::time::Duration;

use crate::{Error, Result};

/// The parts of a URL, as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    text: &'a str,
    pub(crate) scheme: &'a str,
    /// `HOST:PORT`, several of them with commas in between, or nothing.
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
        Error::Url { url: self.name(), why: why.into() }
    }

    /// How it is called in messages: without its settings.
    pub(crate) fn name(&self) -> String {
        self.text.split('?').next().unwrap_or_default().to_owned()
    }

    /// The servers, each with a port; at least one.
    pub(crate) fn servers(&self, usual_port: u16) -> Result<Vec<String>> {
        let server = |text: &str| {
            // An IPv6 address is in brackets, so that its colons are none before a port.
            let (host, port) = match text.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
                _ => (text, usual_port),
            };
            let is_host = !host.is_empty() && (!host.contains(':') || host.starts_with('['));
            is_host.then(|| format!("{host}:{port}"))
        };
        let servers: Option<Vec<String>> = self.authority.split(',').map(server).collect();
        servers.ok_or_else(|| {
            self.error(&format!("{:?} is no HOST:PORT, nor several of them with commas", self.authority))
        })
    }

    /// One of its settings, and the URL without it.
    pub(crate) fn without(&self, name: &str) -> (Option<&'a str>, String) {
        let (mut value, mut left) = (None, Vec::new());
        for setting in self.query.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some((known, text)) if known == name && !text.is_empty() => value = Some(text),
                _ => left.push(setting),
            }
        }
        let question = if left.is_empty() { "" } else { "?" };
        (value, format!("{}{question}{}", self.name(), left.join("&")))
    }

    /// What stands behind the question mark.
    pub(crate) fn settings(&self) -> Result<Settings<'_>> {
        let mut left = Vec::new();
        for setting in self.query.split('&').filter(|setting| !setting.is_empty()) {
            let pair = setting.split_once('=').filter(|(_, value)| !value.is_empty());
            left.push(pair.ok_or_else(|| self.error(&format!("the setting {setting:?} is not NAME=VALUE")))?);
        }
        Ok(Settings { url: self, left, known: Vec::new() })
    }
}

/// The settings of a URL: each is asked for once, and what nobody has asked for is a mistake.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    url: &'a Url<'a>,
    left: Vec<(&'a str, &'a str)>,
    known: Vec<String>,
}

impl<'a> Settings<'a> {
    /// The value of this one; `form` says what it looks like.
    pub(crate) fn text(&mut self, name: &str, form: &str) -> Option<&'a str> {
        self.known.push(format!("{name}={form}"));
        let at = self.left.iter().position(|(known, _)| *known == name)?;
        Some(self.left.remove(at).1)
    }

    /// A time in whole seconds.
    pub(crate) fn seconds(&mut self, name: &str) -> Result<Option<Duration>> {
        let Some(text) = self.text(name, "SECONDS") else { return Ok(None) };
        match text.parse::<u32>() {
            Ok(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
            Err(_) => Err(self.url.error(&format!("{name}={text} is no number of seconds"))),
        }
    }

    /// How long a registration lives without a heartbeat.
    pub(crate) fn ttl(&mut self, usual: Duration, least: Duration) -> Result<Duration> {
        let ttl = self.seconds("ttl")?.unwrap_or(usual);
        if ttl < least {
            return Err(self.url.error(&format!("a ttl of less than {} s is too short", least.as_secs())));
        }
        Ok(ttl)
    }

    /// One of these words, with what each of them means; the first one unless something is said.
    pub(crate) fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Result<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let chosen = self.text(name, &words.join("|")).unwrap_or(words[0]);
        choices
            .iter()
            .find_map(|&(word, meaning)| (word == chosen).then_some(meaning))
            .ok_or_else(|| self.url.error(&format!("{name}={chosen} is none of {}", words.join(", "))))
    }

    /// Were these all?
    pub(crate) fn end(self) -> Result<()> {
        let Some((name, _)) = self.left.first() else { return Ok(()) };
        let known =
            if self.known.is_empty() { "none".to_owned() } else { format!("only {}", self.known.join(", ")) };
        // Its value may be what somebody takes for a password.
        Err(self.url.error(&format!("there is no setting {name:?}, {known}")))
    }
}

/// A part of a path, or a value of its query: whatever means something else there is escaped (RFC 3986, section 2).
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A part of a URL as it is meant. What is no `%XX` stays as it is, and so does all of it if no text comes of it.
pub(crate) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        let hex = rest.get(..2).filter(|hex| *first == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        let (byte, after) = match hex {
            Some(byte) => (byte, &rest[2..]),
            None => (*first, rest),
        };
        bytes.push(byte);
        left = after;
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);
    const TWO: Duration = Duration::from_secs(2);

    fn ttl(url: &Url<'_>) -> Result<Duration> {
        let mut settings = url.settings()?;
        let ttl = settings.ttl(TEN, TWO)?;
        settings.choice("layout", &[("plain", ()), ("traefik", ())])?;
        settings.end()?;
        Ok(ttl)
    }

    #[test]
    fn the_parts() {
        let url = Url::parse("etcd://[::1]:2379/services/web?ttl=30&layout=traefik").unwrap();
        assert_eq!((url.scheme, url.authority, url.path), ("etcd", "[::1]:2379", "/services/web"));
        assert_eq!(ttl(&url).unwrap().as_secs(), 30);
        assert_eq!(url.name(), "etcd://[::1]:2379/services/web");
        let url = Url::parse("file:///run/services").unwrap();
        assert_eq!((url.authority, url.path), ("", "/run/services"));
        assert_eq!(ttl(&url).unwrap(), TEN);
    }

    #[test]
    fn a_setting_can_be_left_out() {
        let url = Url::parse("consul://a:1/?id=x&ttl=9").unwrap();
        assert_eq!(url.without("id"), (Some("x"), "consul://a:1/?ttl=9".into()));
        assert_eq!(url.without("ttl"), (Some("9"), "consul://a:1/?id=x".into()));
        assert_eq!(Url::parse("consul://a?id=x").unwrap().without("id"), (Some("x"), "consul://a".into()));
        assert_eq!(Url::parse("consul://a").unwrap().without("id"), (None, "consul://a".into()));
    }

    #[test]
    fn servers_have_ports() {
        let servers = |authority: &str| Url::parse(&format!("etcd://{authority}/")).unwrap().servers(2379);
        assert_eq!(servers("a").unwrap(), ["a:2379"]);
        assert_eq!(
            servers("a:1,[::1],[::1]:2,10.0.0.1").unwrap(),
            ["a:1", "[::1]:2379", "[::1]:2", "10.0.0.1:2379"]
        );
        for wrong in ["", "a,", ":1", "a:b", "a:70000", "::1"] {
            assert!(servers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_shown() {
        for (text, named) in [
            ("etcd:host", "SCHEME://"),
            ("etcd://root:secret@host:2379/", "environment"),
            ("etcd://host/?ttl=soon", "ttl=soon"),
            ("etcd://host/?ttl=1", "too short"),
            ("etcd://host/?ttl", "\"ttl\" is not NAME=VALUE"),
            ("etcd://host/?tll=secret", "\"tll\", only ttl=SECONDS, layout=plain|traefik"),
            ("etcd://host/?layout=round", "layout=round is none of plain, traefik"),
            ("etcd://host/?ttl=10&ttl=20", "no setting \"ttl\""),
        ] {
            let why = Url::parse(text).and_then(|url| ttl(&url)).unwrap_err().to_string();
            assert!(why.contains(named) && !why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn nothing_in_a_name_means_something_in_a_path() {
        assert_eq!(escaped("web-1.a_b~"), "web-1.a_b~");
        assert_eq!(escaped("a/b:c@d?e&f=g#h%i ä"), "a%2Fb%3Ac%40d%3Fe%26f%3Dg%23h%25i%20%C3%A4");
    }

    #[test]
    fn what_was_escaped_is_what_it_was() {
        for text in ["a/b c%&=ä", "", "%2F", "::1"] {
            assert_eq!(unescaped(&escaped(text)), text);
        }
        for text in ["50%", "%", "%4", "%zz", "%ff", "%+1"] {
            assert_eq!(unescaped(text), text);
        }
    }
}
