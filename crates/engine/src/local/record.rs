//! A container's [`Record`] as the engine shows it.

use std::time::{SystemTime, UNIX_EPOCH};

use gracefully_core::time::Timestamp;
use gracefully_monitor::record::{Record, Status};

use crate::container::{Container, Network, State};

use super::exit_code;

/// As all engines show containers.
pub(super) fn to_container(record: &Record, note: Option<String>) -> Container {
    Container {
        id: record.id.clone(),
        name: record.name.clone(),
        image: record.spec.rootfs.clone().unwrap_or_else(|| "/".to_owned()),
        command: record.spec.command.clone(),
        state: state(record),
        health: None,
        created: Some(system_time(record.created)),
        started: record.started.map(system_time),
        finished: record.finished.map(system_time),
        exit_code: record.exit.map(exit_code),
        pid: record.main().map(|main| main.pid),
        ports: String::new(),
        network: Network::default(),
        settings: record.settings(),
        labels: std::collections::BTreeMap::new(),
        auto_remove: record.spec.auto_remove,
        note,
    }
}

pub(super) fn state(record: &Record) -> State {
    match record.status {
        Status::Created => State::Created,
        Status::Running(_) => State::Running,
        Status::Restarting => State::Restarting,
        Status::Exited => State::Exited,
        Status::Removing => State::Removing,
    }
}

pub(super) fn system_time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + time.duration()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::now;
    use gracefully_core::event::ExitStatus;
    use gracefully_core::signal::Signal;
    use gracefully_monitor::record::{Main, Restart, RunSpec};
    use std::time::Duration;

    pub(in crate::local) fn record(id: &str) -> Record {
        let spec = RunSpec {
            command: vec!["python3".into(), "app.py".into()],
            stop_signal: Some(Signal::QUIT),
            stop_timeout: Some(30),
            restart: Restart::OnFailure(Some(3)),
            ..RunSpec::default()
        };
        let mut record = Record::new(id.into(), "web".into(), now(), spec, Vec::new(), "/".into());
        record.status = Status::Running(Main { pid: 42, start_ticks: 4711 });
        record.started = Some(record.created);
        record.exit = Some(ExitStatus::Signal(Signal::KILL));
        record
    }

    #[test]
    fn an_end_of_which_nobody_knows_is_no_success() {
        let mut record = record("a1");
        record.exit = Some(ExitStatus::Unknown);
        assert_eq!(to_container(&record, None).exit_code, Some(255));
        record.exit = None;
        assert_eq!(to_container(&record, None).exit_code, None, "it never ended");
    }

    #[test]
    fn what_is_written_down_is_shown() {
        let container = to_container(&record("a1"), Some("note".into()));
        assert_eq!(
            (container.state, container.pid, container.exit_code),
            (State::Running, Some(42), Some(137))
        );
        assert_eq!((&*container.image, container.finished), ("/", None));
        let now = SystemTime::now();
        let age = now.duration_since(container.created.unwrap()).unwrap();
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}
