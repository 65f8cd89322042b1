//! `inspect`, in the shape of docker's.

use gracefully_core::policy::Timeout;
use gracefully_core::signal::Signal;
use gracefully_core::time::Timestamp;
use gracefully_monitor::record::{Record, Restart};
use serde_json::{Value, json};

use crate::container::State;

use super::exit_code;
use super::home::Home;
use super::record::state;

/// Docker's word for a time that has not come yet.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn inspect(home: &Home, record: &Record, note: Option<&str>) -> Value {
    let state = state(record);
    let is = |wanted: State| state == wanted;
    let moment = |at: Option<Timestamp>| at.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
    let (policy, retries) = match record.spec.restart {
        Restart::No => ("no", 0),
        Restart::OnFailure(most) => ("on-failure", most.unwrap_or(0)),
        Restart::Always => ("always", 0),
    };
    let command = &record.spec.command;
    let settings = record.settings();
    let stop_timeout = settings.timeout.map(|timeout| match timeout.value {
        Timeout::After(limit) => i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        Timeout::Never => -1,
    });
    json!({
        "Id": record.id,
        "Created": record.created.to_string(),
        "Path": command.first(),
        "Args": command.get(1..).unwrap_or_default(),
        "State": {
            "Status": state.name(),
            "Running": is(State::Running) || is(State::Restarting),
            "Paused": false,
            "Restarting": is(State::Restarting),
            "OOMKilled": false,
            "Dead": is(State::Dead),
            "Pid": record.main().map_or(0, |main| main.pid),
            "ExitCode": record.exit.map_or(0, exit_code),
            "Error": record.error.as_deref().or(note).unwrap_or_default(),
            "StartedAt": moment(record.started),
            "FinishedAt": moment(record.finished),
        },
        "Image": record.spec.rootfs.as_deref().unwrap_or("/"),
        "LogPath": home.path().join("log"),
        "Name": format!("/{}", record.name),
        "RestartCount": record.restarts,
        "Driver": "local",
        "Platform": "linux",
        "HostConfig": {
            "RestartPolicy": { "Name": policy, "MaximumRetryCount": retries },
            "AutoRemove": record.spec.auto_remove,
            "NetworkMode": "host",
            "LogConfig": { "Type": "cri", "Config": {} },
        },
        "Config": {
            "Env": record.env,
            "Cmd": command,
            "StopSignal": settings.signal.map_or(Signal::TERM, |signal| signal.value).to_string(),
            "StopTimeout": stop_timeout,
            "User": record.spec.user.as_deref().unwrap_or_default(),
            "WorkingDir": record.workdir,
        },
        "LostOutput": record.lost_output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::record::tests::record;

    #[test]
    fn dockers_keys() {
        let home = Home::at(std::path::Path::new("/state/containers/a1")).unwrap();
        let value = inspect(&home, &record("a1"), None);
        let keys: Vec<&str> = value["State"].as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "Status",
            "Running",
            "Paused",
            "Restarting",
            "OOMKilled",
            "Dead",
            "Pid",
            "ExitCode",
            "Error",
            "StartedAt",
            "FinishedAt",
        ];
        assert_eq!(keys, expected);
        assert_eq!(value["State"]["Pid"], 42);
        assert_eq!(value["State"]["ExitCode"], 137);
        assert_eq!(value["State"]["FinishedAt"], NEVER);
        assert_eq!(value["Name"], "/web");
        assert_eq!(value["Args"], json!(["app.py"]));
        assert_eq!(
            value["HostConfig"]["RestartPolicy"],
            json!({"Name": "on-failure", "MaximumRetryCount": 3})
        );
        assert_eq!(value["Config"]["StopSignal"], "SIGQUIT");
        assert_eq!(value["Config"]["StopTimeout"], 30);
        assert_eq!(value["LogPath"], "/state/containers/a1/log");
    }
}
