//! `ps` as docker shows it, with the engine as the last column.

use std::fmt::Write as _;
use std::time::SystemTime;

use gracefully_core::diagnosis::printable;
use gracefully_engine::{Container, Kind, State};
use serde_json::{Value, json};

use super::time::ago;

/// Whether identifiers and commands are cut to docker's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truncate {
    Yes,
    No,
}

const HEADER: [&str; 8] =
    ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES", "ENGINE"];

/// The whole table, the header first, without line feeds.
pub(crate) fn table(containers: &[(Kind, Container)], truncate: Truncate, now: SystemTime) -> Vec<String> {
    let row = |(kind, container): &(Kind, Container)| {
        cells(*kind, container, truncate, now).map(|cell| printable(&cell))
    };
    let rows = containers.iter().map(row);
    let rows: Vec<[String; 8]> = std::iter::once(HEADER.map(str::to_owned)).chain(rows).collect();
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
        .collect();
    rows.iter().map(|row| padded(row, &widths)).collect()
}

/// A container as `docker ps --format json` shows it, and its engine.
pub(crate) fn json_row(kind: Kind, container: &Container, truncate: Truncate, now: SystemTime) -> Value {
    let [id, image, command, created, status, ports, names, engine] = cells(kind, container, truncate, now);
    let created_at = container.created.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    json!({
        "Command": command,
        "CreatedAt": created_at,
        "Engine": engine,
        "ID": id,
        "Image": image,
        "Names": names,
        "Ports": ports,
        "RunningFor": created,
        "State": container.state.name(),
        "Status": status,
    })
}

/// The first twelve digits of an identifier.
pub(crate) fn short_id(id: &str, truncate: Truncate) -> &str {
    match truncate {
        Truncate::Yes => id.get(..12).unwrap_or(id),
        Truncate::No => id,
    }
}

fn cells(kind: Kind, container: &Container, truncate: Truncate, now: SystemTime) -> [String; 8] {
    let command = command_line(&container.command);
    let command = match truncate {
        Truncate::Yes => ellipsis(&command, 20),
        Truncate::No => command,
    };
    [
        short_id(&container.id, truncate).to_owned(),
        container.image.clone(),
        format!("{command:?}"),
        container.created.map_or_else(String::new, |created| format!("{} ago", ago(created, now))),
        status(container, now),
        container.ports.clone(),
        container.name.clone(),
        kind.name().to_owned(),
    ]
}

/// A command as docker lists it: arguments with a space in single quotes, and nothing else.
fn command_line(command: &[String]) -> String {
    let quoted = |word: &String| if word.contains(' ') { format!("'{word}'") } else { word.clone() };
    command.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Docker's STATUS.
fn status(container: &Container, now: SystemTime) -> String {
    let since = |time: Option<SystemTime>| time.map_or_else(|| "some time".to_owned(), |time| ago(time, now));
    let code = container.exit_code.unwrap_or_default();
    let mut status = match container.state {
        State::Created => "Created".to_owned(),
        State::Running => format!("Up {}", since(container.started)),
        State::Paused => format!("Up {} (Paused)", since(container.started)),
        State::Restarting => format!("Restarting ({code}) {} ago", since(container.finished)),
        State::Removing => "Removal In Progress".to_owned(),
        State::Exited => format!("Exited ({code}) {} ago", since(container.finished)),
        State::Dead => "Dead".to_owned(),
    };
    if let (State::Running, Some(health)) = (container.state, &container.health) {
        let health = if health == "starting" { "health: starting" } else { health };
        let _ = write!(status, " ({health})");
    }
    if let Some(note) = &container.note {
        let _ = write!(status, " ({note})");
    }
    status
}

/// Cuts to `width` characters, the last of which is then an ellipsis.
fn ellipsis(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text.chars().take(width - 1).chain(['…']).collect(),
    }
}

/// Docker's columns: three spaces between, none narrower than ten.
fn padded(row: &[String; 8], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width_) in row.iter().zip(widths) {
        line += cell;
        let pad = (width_ + 3).max(10) - width(cell);
        line += &" ".repeat(pad);
    }
    line.truncate(line.trim_end().len());
    line
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gracefully_core::policy::Settings;
    use gracefully_engine::Network;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn container(state: State) -> Container {
        let earlier = |seconds| NOW.checked_sub(Duration::from_secs(seconds));
        Container {
            id: "0123456789ab".repeat(5) + "cdef",
            name: "web".into(),
            image: "app:1".into(),
            command: vec!["python3".into(), "-m".into(), "http.server".into()],
            state,
            health: None,
            created: earlier(300),
            started: earlier(3),
            finished: earlier(120),
            exit_code: Some(137),
            pid: None,
            ports: "127.0.0.1:80->80/tcp".into(),
            network: Network::default(),
            settings: Settings::default(),
            labels: std::collections::BTreeMap::new(),
            auto_remove: false,
            note: None,
        }
    }

    #[test]
    fn the_table_is_dockers_with_the_engine_behind() {
        let containers =
            [(Kind::Docker, container(State::Running)), (Kind::Local, container(State::Created))];
        assert_eq!(
            table(&containers, Truncate::Yes, NOW),
            [
                "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS                  NAMES     ENGINE",
                "0123456789ab   app:1     \"python3 -m http.ser…\"   5 minutes ago   Up 3 seconds   127.0.0.1:80->80/tcp   web       docker",
                "0123456789ab   app:1     \"python3 -m http.ser…\"   5 minutes ago   Created        127.0.0.1:80->80/tcp   web       local",
            ]
        );
    }

    #[test]
    fn an_empty_table_is_its_header() {
        assert_eq!(
            table(&[], Truncate::Yes, NOW),
            ["CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES     ENGINE"]
        );
    }

    #[test]
    fn statuses_are_dockers() {
        for (state, expected) in [
            (State::Created, "Created"),
            (State::Running, "Up 3 seconds"),
            (State::Paused, "Up 3 seconds (Paused)"),
            (State::Restarting, "Restarting (137) 2 minutes ago"),
            (State::Removing, "Removal In Progress"),
            (State::Exited, "Exited (137) 2 minutes ago"),
            (State::Dead, "Dead"),
        ] {
            assert_eq!(status(&container(state), NOW), expected);
        }
        let health = |health: &str| Container { health: Some(health.into()), ..container(State::Running) };
        assert_eq!(status(&health("healthy"), NOW), "Up 3 seconds (healthy)");
        assert_eq!(status(&health("starting"), NOW), "Up 3 seconds (health: starting)");
        let lost = Container { note: Some("monitor lost".into()), ..container(State::Running) };
        assert_eq!(status(&lost, NOW), "Up 3 seconds (monitor lost)");
    }

    #[test]
    fn nothing_that_is_listed_can_write_to_the_terminal() {
        let container = Container { image: "/evil\u{1b}[2J".into(), ..container(State::Exited) };
        let rows = table(&[(Kind::Local, container)], Truncate::Yes, NOW);
        assert!(rows[1].contains(r"/evil\u{1b}[2J"), "{rows:?}");
    }

    #[test]
    fn arguments_with_spaces_are_quoted_as_docker_does() {
        assert_eq!(command_line(&["sh".into(), "-c".into(), "a b".into()]), "sh -c 'a b'");
    }

    #[test]
    fn nothing_is_cut_without_truncation() {
        let row = cells(Kind::Local, &container(State::Exited), Truncate::No, NOW);
        assert_eq!(row[0].len(), 64);
        assert_eq!(row[2], "\"python3 -m http.server\"");
    }

    #[test]
    fn an_ellipsis_counts_characters_not_bytes() {
        assert_eq!(ellipsis("ääääääääääääääääääää", 20), "ääääääääääääääääääää");
        assert_eq!(ellipsis("äääääääääääääääääääää", 20), "äääääääääääääääääää…");
    }
}
