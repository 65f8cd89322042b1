//! From the daemon's JSON to [`Container`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use gracefully_core::policy::Settings;

use super::api;
use crate::{Container, Network, Published, State};

/// A container as the daemon describes it.
pub(super) fn container(inspect: api::Inspect, settings: Settings) -> Container {
    let state = inspect.state.unwrap_or_default();
    let config = inspect.config.unwrap_or_default();
    let network = inspect.network_settings.unwrap_or_default();
    let ports = network.ports.unwrap_or_default();
    let current = status(&state);
    let finished = time(state.finished_at.as_deref());
    Container {
        id: inspect.id,
        name: inspect.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.unwrap_or_default(),
        command: inspect.path.into_iter().chain(inspect.args.unwrap_or_default()).collect(),
        state: current,
        health: state
            .health
            .and_then(|health| health.status)
            .filter(|health| current == State::Running && !health.is_empty() && health != "none"),
        created: time(inspect.created.as_deref()),
        started: time(state.started_at.as_deref()),
        finished,
        exit_code: state.exit_code.filter(|_| finished.is_some()),
        pid: state.pid.filter(|&pid| pid > 0),
        network: Network { published: bindings(&ports), addresses: addresses(network.networks) },
        ports: published(&ports),
        settings,
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        auto_remove: inspect.host_config.and_then(|host| host.auto_remove).unwrap_or(false),
        note: None,
    }
}

/// Podman has more words than docker. One that nobody knows is judged by whether it runs.
pub(super) fn status(state: &api::State) -> State {
    match state.status.as_deref() {
        Some("created" | "configured" | "initialized") => State::Created,
        Some("running" | "stopping") => State::Running,
        Some("paused") => State::Paused,
        Some("restarting") => State::Restarting,
        Some("removing") => State::Removing,
        Some("exited" | "stopped") => State::Exited,
        Some("dead") => State::Dead,
        Some(_) | None if state.running == Some(true) => State::Running,
        Some(_) | None => State::Exited,
    }
}

/// RFC 3339 with `Z` or an offset; year 1 is docker's "never".
fn time(text: Option<&str>) -> Option<SystemTime> {
    let text = text?;
    if let Ok(time) = humantime::parse_rfc3339(text) {
        return Some(time);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let offset_by =
        Duration::from_secs(hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60);
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    match offset.chars().next()? {
        '+' => local.checked_sub(offset_by),
        '-' => local.checked_add(offset_by),
        _ => None,
    }
}

type Ports = BTreeMap<String, Option<Vec<api::Binding>>>;

/// One line of what a container offers: ordered as `docker ps` orders it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Port<'a> {
    private: u16,
    ip: &'a str,
    public: u16,
    protocol: &'a str,
}

/// The column PORTS of `docker ps`: neighbouring ports that are published under their own numbers, or only exposed,
/// are joined to ranges; those published under another number follow one by one.
fn published(ports: &Ports) -> String {
    let mut all: Vec<Port<'_>> =
        ports.iter().flat_map(|(key, bindings)| of_key(key, bindings.as_deref())).collect();
    all.sort();

    let mut ended = Vec::new();
    let mut mapped = Vec::new();
    // The range that is growing, for each address and protocol, in the order of their first ports.
    let mut growing: Vec<Range<'_>> = Vec::new();
    for port in all {
        if !port.ip.is_empty() && port.public != port.private {
            mapped.push(format!(
                "{}->{}/{}",
                join(port.ip, &port.public.to_string()),
                port.private,
                port.protocol
            ));
            continue;
        }
        let same = |range: &&mut Range<'_>| range.ip == port.ip && range.protocol == port.protocol;
        match growing.iter_mut().find(same) {
            None => growing.push(Range::new(&port)),
            Some(range) if range.last.checked_add(1) == Some(port.private) => range.last = port.private,
            Some(range) => ended.push(std::mem::replace(range, Range::new(&port)).to_string()),
        }
    }
    ended.extend(growing.iter().map(ToString::to_string));
    ended.extend(mapped);
    ended.join(", ")
}

fn of_key<'a>(key: &'a str, bindings: Option<&'a [api::Binding]>) -> Vec<Port<'a>> {
    let (private, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let Ok(private) = private.parse() else { return Vec::new() };
    match bindings {
        None | Some([]) => vec![Port { private, ip: "", public: 0, protocol }],
        Some(bindings) => bindings
            .iter()
            .map(|binding| Port {
                private,
                ip: binding.host_ip.as_deref().unwrap_or_default(),
                public: binding.host_port.as_deref().and_then(|port| port.parse().ok()).unwrap_or(0),
                protocol,
            })
            .collect(),
    }
}

/// The published TCP ports.
fn bindings(ports: &Ports) -> Vec<Published> {
    let all = ports.iter().flat_map(|(key, bindings)| of_key(key, bindings.as_deref()));
    let tcp = all.filter(|port| port.protocol == "tcp" && port.public != 0);
    // Podman leaves the address out where all are meant.
    let parsed = tcp.filter_map(|port| {
        let ip = if port.ip.is_empty() { IpAddr::from([0, 0, 0, 0]) } else { port.ip.parse().ok()? };
        Some(Published { outside: SocketAddr::new(ip, port.public), inside: port.private })
    });
    parsed.collect()
}

fn addresses(networks: Option<BTreeMap<String, Option<api::Endpoint>>>) -> Vec<IpAddr> {
    let endpoints = networks.into_iter().flatten().filter_map(|(_, endpoint)| endpoint);
    let texts = endpoints.flat_map(|endpoint| [endpoint.ip_address, endpoint.global_ipv6_address]);
    texts.flatten().filter_map(|text| text.parse().ok()).collect()
}

struct Range<'a> {
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl<'a> Range<'a> {
    fn new(port: &Port<'a>) -> Self {
        Self { ip: port.ip, protocol: port.protocol, first: port.private, last: port.private }
    }
}

impl std::fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        if !self.ip.is_empty() {
            write!(f, "{}->", join(self.ip, &numbers))?;
        }
        write!(f, "{numbers}/{}", self.protocol)
    }
}

/// `127.0.0.1:80`, `[::1]:80`.
fn join(ip: &str, port: &str) -> String {
    match ip.parse() {
        Ok(IpAddr::V6(_)) => format!("[{ip}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{ip}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(json: &str) -> String {
        published(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn ports_read_as_in_docker_ps() {
        for (json, expected) in [
            ("{}", ""),
            (r#"{"80/tcp":null}"#, "80/tcp"),
            (
                r#"{"8001/tcp":null,"8000/tcp":null,"8003/tcp":null,"53/udp":null}"#,
                "8000-8001/tcp, 53/udp, 8003/tcp",
            ),
            (
                r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}"#,
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                r#"{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"80"}],"81/tcp":[{"HostIp":"127.0.0.1","HostPort":"81"}],"9/udp":null}"#,
                "9/udp, 127.0.0.1:80-81->80-81/tcp",
            ),
            (
                r#"{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"80"},{"HostIp":"127.0.0.1","HostPort":"90"}],"22/tcp":null}"#,
                "22/tcp, 127.0.0.1:80->80/tcp, 127.0.0.1:90->80/tcp",
            ),
        ] {
            assert_eq!(ports(json), expected, "{json}");
        }
    }

    #[test]
    fn times_are_read_with_either_kind_of_zone() {
        let at = |seconds, nanos| Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
        assert_eq!(time(Some("1970-01-02T00:00:01.5Z")), at(86_401, 500_000_000));
        assert_eq!(time(Some("1970-01-02T01:00:00.25+01:00")), at(86_400, 250_000_000));
        assert_eq!(time(Some("1970-01-01T18:30:00-05:30")), at(86_400, 0));
        for never in ["0001-01-01T00:00:00Z", "", "soon", "+00:00", "1970-01-01T00:00:00\u{e9}:00"] {
            assert_eq!(time(Some(never)), None, "{never:?}");
        }
    }

    #[test]
    fn every_word_for_a_state_is_understood() {
        let of = |word: Option<&str>, running| {
            status(&api::State {
                status: word.map(Into::into),
                running: Some(running),
                ..api::State::default()
            })
        };
        for state in [
            State::Created,
            State::Running,
            State::Paused,
            State::Restarting,
            State::Removing,
            State::Exited,
            State::Dead,
        ] {
            assert_eq!(of(Some(state.name()), false), state);
        }
        assert_eq!(of(Some("stopping"), true), State::Running);
        assert_eq!(of(Some("hibernating"), true), State::Running);
        assert_eq!(of(None, false), State::Exited);
    }

    #[test]
    fn a_container_is_read_from_what_there_is() {
        let inspect = serde_json::from_str(
            r#"{"Id":"0123","Created":"2026-11-23T22:50:11.5Z","Name":"/web","Path":"/gt","Args":["slow","3"],
                "State":{"Status":"running","Running":true,"Pid":6751,"ExitCode":0,
                  "StartedAt":"2026-11-23T22:50:12Z","FinishedAt":"0001-01-01T00:00:00Z","Health":{"Status":"healthy"}},
                "Config":{"Image":"gt:1","Labels":null},"HostConfig":{"AutoRemove":true},"NetworkSettings":{"Ports":null}}"#,
        )
        .unwrap();
        let container = container(inspect, Settings::default());
        assert_eq!((container.id.as_str(), container.name.as_str()), ("0123", "web"));
        assert_eq!(container.command, ["/gt", "slow", "3"]);
        assert_eq!((container.pid, container.exit_code, container.finished), (Some(6751), None, None));
        assert_eq!(container.health.as_deref(), Some("healthy"));
        assert!(container.auto_remove && container.started > container.created);

        let bare = super::container(serde_json::from_str(r#"{"Id":"9"}"#).unwrap(), Settings::default());
        assert_eq!((bare.state, bare.pid, bare.started), (State::Exited, None, None));
    }
}
