//! A daemon's address, as `-H`, `DOCKER_HOST` and contexts write it.

use std::fmt;
use std::path::PathBuf;

use crate::{Error, Result};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const DEFAULT_PORT: &str = "2375";
const DEFAULT_TLS_PORT: &str = "2376";

/// A daemon's address. It prints as the docker CLI prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A host and a port; an IPv6 address is in brackets.
    Tcp {
        /// The name or the address, without brackets.
        name: String,
        /// The port.
        port: u16,
    },
}

impl Host {
    /// From `-H` or `DOCKER_HOST`. Empty means the default, which is the local socket, or TLS on this machine; a text
    /// without a scheme is a path if it looks like one and a TCP address otherwise. The default port is 2375, even
    /// with TLS.
    pub(super) fn from_option(text: &str, tls: bool) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() && tls {
            return parse_tcp(&format!("localhost:{DEFAULT_TLS_PORT}"), text);
        }
        match text {
            "" => Ok(Self::Unix(DEFAULT_SOCKET.into())),
            path if path.starts_with('/') || path.starts_with("./") => Ok(Self::Unix(path.into())),
            address if !address.contains("://") => parse_tcp(address, address),
            url => Self::from_url(url),
        }
    }

    /// From a context's file, where the scheme is always there.
    pub(super) fn from_url(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(Error::Endpoint { why: format!("unable to parse docker host `{url}`") });
        };
        match scheme {
            "unix" if rest.is_empty() => Ok(Self::Unix(DEFAULT_SOCKET.into())),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" | "http" | "https" => parse_tcp(rest, url),
            "ssh" => Err(Error::Unsupported {
                what: format!(
                    "{url}: ssh is not built in. Forward the socket, ssh -nNT -L /tmp/docker.sock:{DEFAULT_SOCKET} HOST, \
                     and use -H unix:///tmp/docker.sock"
                ),
            }),
            "npipe" | "fd" => Err(Error::Unsupported {
                what: format!("{url}: {scheme}:// does not exist on Linux clients; use unix:// or tcp://"),
            }),
            _ => Err(Error::Endpoint { why: format!("invalid bind address format: {url}") }),
        }
    }

    /// Is the daemon reached over a network?
    pub(super) fn is_remote(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tcp { .. } => true,
        }
    }

    /// For the `Host` header.
    pub(in crate::docker) fn authority(&self) -> String {
        match self {
            // A server must ignore it (RFC 9112, 3.2); Go's refuses a path.
            Self::Unix(_) => "docker".into(),
            Self::Tcp { name, port } if name.contains(':') => format!("[{name}]:{port}"),
            Self::Tcp { name, port } => format!("{name}:{port}"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { .. } => write!(f, "tcp://{}", self.authority()),
        }
    }
}

fn parse_tcp(address: &str, whole: &str) -> Result<Host> {
    let invalid = || Error::Endpoint { why: format!("invalid bind address format: {whole}") };
    let address = address.strip_suffix('/').unwrap_or(address);
    if address.contains('/') {
        return Err(Error::Unsupported {
            what: format!(
                "{whole}: a path in front of the Engine API is not supported; give only the host and port"
            ),
        });
    }
    let (name, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']').ok_or_else(invalid)?;
            (name, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(invalid)?) })
        }
        None => match address.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(invalid()),
            Some((name, port)) => (name, Some(port)),
            None => (address, None),
        },
    };
    let port = port.filter(|port| !port.is_empty()).unwrap_or(DEFAULT_PORT);
    let port = port.parse().ok().filter(|&port: &u16| port > 0).ok_or_else(invalid)?;
    if name.chars().any(|c| c.is_whitespace() || c.is_control() || "@?#%\\".contains(c)) {
        return Err(invalid());
    }
    let name = if name.is_empty() { "localhost" } else { name };
    Ok(Host::Tcp { name: name.into(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Host::from_option(text, false).map_or_else(|error| format!("error: {error}"), |host| host.to_string())
    }

    #[test]
    fn an_option_is_completed_as_docker_completes_it() {
        for (text, expected) in [
            ("", "unix:///var/run/docker.sock"),
            ("  ", "unix:///var/run/docker.sock"),
            ("unix://", "unix:///var/run/docker.sock"),
            ("unix:///run/user/1000/docker.sock", "unix:///run/user/1000/docker.sock"),
            ("/tmp/d.sock", "unix:///tmp/d.sock"),
            ("./d.sock", "unix://./d.sock"),
            ("example.test", "tcp://example.test:2375"),
            ("example.test:99", "tcp://example.test:99"),
            ("tcp://", "tcp://localhost:2375"),
            ("tcp://:77", "tcp://localhost:77"),
            ("tcp://127.0.0.1:1/", "tcp://127.0.0.1:1"),
            ("tcp://[::1]:8", "tcp://[::1]:8"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
        ] {
            assert_eq!(parsed(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for text in [
            "udp://x",
            "tcp://x:port",
            "tcp://x:0",
            "tcp://x:70000",
            "tcp://::1",
            "tcp://[::1]x",
            "tcp://u@h",
        ] {
            assert_eq!(parsed(text), format!("error: invalid bind address format: {text}"));
        }
    }

    #[test]
    fn tls_without_a_host_is_this_machine() {
        let host = Host::from_option("", true).unwrap();
        assert_eq!(host.to_string(), "tcp://localhost:2376");
    }

    #[test]
    fn ssh_is_refused_with_what_to_do_instead() {
        let error = Host::from_option("ssh://me@host", false).unwrap_err();
        assert!(matches!(&error, Error::Unsupported { what } if what.contains("ssh -nNT -L")), "{error}");
    }
}
