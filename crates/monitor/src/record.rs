//! What is written down about a container: `state.json`.
//!
//! Only whoever is in charge of the container writes it (see `Home` in the engine), everybody reads it. The record is written
//! before the fact where a crash in between would lose a process: the PID is in it before the program is executed.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use gracefully_core::event::ExitStatus;
use gracefully_core::policy::{Settings, Source, Sourced, Timeout};
use gracefully_core::signal::Signal;
use gracefully_core::time::Timestamp;
use gracefully_linux::process::StartTime;
use gracefully_linux::{PidFd, pidfd};
use serde::{Deserialize, Serialize};

/// The version of the record. A record of another version is not ours.
const VERSION: u32 = 1;

/// Longer ones are not ours either.
pub(crate) const LIMIT: usize = 16 * 1024 * 1024;

/// Its file.
pub const FILE: &str = "state.json";

/// Everything that outlives the monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// The name.
    pub name: String,
    /// When `run` was called.
    pub created: Timestamp,
    /// What was asked for.
    pub spec: RunSpec,
    /// The whole environment, as `K=V`.
    pub env: Vec<String>,
    /// Where the program starts; absolute, in the container's root.
    pub workdir: String,
    /// What it was doing when that changed last.
    pub status: Status,
    /// When it was last started.
    pub started: Option<Timestamp>,
    /// When it last ended.
    pub finished: Option<Timestamp>,
    /// How it last ended.
    pub exit: Option<ExitStatus>,
    /// How often the restart policy has started it again.
    pub restarts: u32,
    /// Why it could not be started the last time.
    pub error: Option<String>,
    /// Bytes of output that could not be written to the log.
    pub lost_output: u64,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Status {
    /// Never started.
    Created,
    /// Its PID 1 exists.
    Running(Main),
    /// Its PID 1 has ended, and will be started again.
    Restarting,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
}

/// A PID 1, so that it cannot be taken for a later process with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Main {
    /// The PID on this host.
    pub pid: u32,
    /// When it was started, in clock ticks since the machine was.
    pub start_ticks: u64,
}

impl Main {
    /// The process that is held.
    pub fn of(process: &PidFd) -> Self {
        Self { pid: process.pid(), start_ticks: process.start_time().ticks() }
    }

    /// Takes hold of the process, if it still exists.
    pub fn hold(self) -> Result<PidFd, pidfd::OpenError> {
        PidFd::open_expecting(self.pid, StartTime::from_ticks(self.start_ticks))
    }
}

/// What `run` is to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// `--name`; `None`: one is made up.
    pub name: Option<String>,
    /// The command and its arguments; at least one word.
    pub command: Vec<String>,
    /// `-e`, in order; later ones win.
    pub env: Vec<(String, String)>,
    /// `-w`
    pub workdir: Option<String>,
    /// `-u`: `user[:group]` by name or number.
    pub user: Option<String>,
    /// `--stop-signal`
    pub stop_signal: Option<Signal>,
    /// `--stop-timeout`, in seconds; negative: for ever.
    pub stop_timeout: Option<i64>,
    /// `--restart`
    pub restart: Restart,
    /// `--rm`
    pub auto_remove: bool,
    /// `--rootfs`; `None`: the host's.
    pub rootfs: Option<String>,
}

/// The restart policy, as `--restart` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name", content = "max")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it ends with another exit code than zero, at most this often if there is a number.
    OnFailure(Option<u32>),
    /// Whenever it ends without having been stopped.
    Always,
}

impl Record {
    /// The record of a container that is `created` now and has not been started.
    pub fn new(
        id: String,
        name: String,
        created: Timestamp,
        spec: RunSpec,
        env: Vec<String>,
        workdir: String,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            name,
            created,
            spec,
            env,
            workdir,
            status: Status::Created,
            started: None,
            finished: None,
            exit: None,
            restarts: 0,
            error: None,
            lost_output: 0,
        }
    }

    /// Reads a record; the error says what is wrong with it.
    pub fn parse(text: &[u8], id: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if text.len() > LIMIT {
            return Err("state.json is too large".to_owned());
        }
        let torn = |error| format!("state.json is torn or not ours ({error})");
        let Versioned { version } = serde_json::from_slice(text).map_err(torn)?;
        if version != VERSION {
            return Err(format!("state.json has version {version}, this program reads version {VERSION}"));
        }
        let record: Self = serde_json::from_slice(text).map_err(torn)?;
        if record.id != id {
            return Err(format!("state.json belongs to container {}", record.id));
        }
        Ok(record)
    }

    /// As it is written.
    #[expect(clippy::missing_panics_doc, reason = "nothing of ours has a map with keys that are not strings")]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has no maps")
    }

    /// Stop signal and stop timeout, as configured.
    pub fn settings(&self) -> Settings {
        Settings {
            timeout: self
                .spec
                .stop_timeout
                .map(|seconds| Sourced::new(Timeout::from_seconds(seconds), Source::Container)),
            signal: self.spec.stop_signal.map(|signal| Sourced::new(signal, Source::Container)),
        }
    }

    /// Its PID 1, while it runs.
    pub fn main(&self) -> Option<Main> {
        match self.status {
            Status::Running(main) => Some(main),
            Status::Created | Status::Restarting | Status::Exited | Status::Removing => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::vec;
    use core::time::Duration;

    pub(crate) fn record(id: &str) -> Record {
        let spec = RunSpec {
            name: Some("web".into()),
            command: vec!["python3".into(), "app.py".into()],
            env: vec![("A".into(), "1".into())],
            workdir: None,
            user: Some("1000:1000".into()),
            stop_signal: Some(Signal::QUIT),
            stop_timeout: Some(30),
            restart: Restart::OnFailure(Some(3)),
            auto_remove: false,
            rootfs: None,
        };
        let created = Timestamp::since_1970(Duration::new(1_475_713_029, 669_794_202));
        let mut record = Record::new(id.into(), "web".into(), created, spec, vec!["A=1".into()], "/".into());
        record.status = Status::Running(Main { pid: 42, start_ticks: 4711 });
        record.started = Some(record.created);
        record.exit = Some(ExitStatus::Signal(Signal::KILL));
        record
    }

    #[test]
    fn what_is_written_can_be_read() {
        let record = record("a1");
        assert_eq!(Record::parse(&record.to_json(), "a1").unwrap(), record);
    }

    /// Whoever writes it by hand, or reads it with jq, finds the same names in every version.
    #[test]
    fn the_text_is_as_documented() {
        let text = String::from_utf8(record("a1").to_json()).unwrap();
        let expected = concat!(
            r#"{"version":1,"id":"a1","name":"web","created":"2016-10-06T00:17:09.669794202Z","#,
            r#""spec":{"name":"web","command":["python3","app.py"],"env":[["A","1"]],"workdir":null,"#,
            r#""user":"1000:1000","stop_signal":"SIGQUIT","stop_timeout":30,"#,
            r#""restart":{"name":"on-failure","max":3},"auto_remove":false,"rootfs":null},"#,
            r#""env":["A=1"],"workdir":"/","status":{"is":"running","pid":42,"start_ticks":4711},"#,
            r#""started":"2016-10-06T00:17:09.669794202Z","finished":null,"#,
            r#""exit":{"is":"signal","value":"SIGKILL"},"restarts":0,"error":null,"lost_output":0}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn every_torn_record_is_refused_with_a_reason() {
        let text = record("a1").to_json();
        for end in 0..text.len() {
            let why = Record::parse(&text[..end], "a1").expect_err("torn");
            assert!(why.starts_with("state.json is torn or not ours"), "{why}");
        }
    }

    #[test]
    fn foreign_records_are_refused() {
        let text = String::from_utf8(record("a1").to_json()).unwrap();
        let why = Record::parse(text.as_bytes(), "b2").unwrap_err();
        assert_eq!(why, "state.json belongs to container a1");
        let newer = text.replacen("\"version\":1", "\"version\":2", 1);
        let why = Record::parse(newer.as_bytes(), "a1").unwrap_err();
        assert_eq!(why, "state.json has version 2, this program reads version 1");
        assert!(Record::parse(b"[]", "a1").is_err());
        assert!(Record::parse(&vec![b' '; LIMIT + 1], "a1").is_err());
    }

    #[test]
    fn damaged_records_never_panic() {
        let good = record("a1").to_json();
        let mut random = crate::testing::Random::new(1);
        for _ in 0..20_000 {
            let mut text = good.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(text.len());
                text[at] = random.byte();
            }
            // A changed letter in a name is still a record; anything else is refused. Neither panics.
            if let Ok(record) = Record::parse(&text, "a1") {
                record.settings();
            }
        }
    }

    #[test]
    fn settings_come_from_the_container() {
        let settings = record("a1").settings();
        assert_eq!(settings.timeout, Some(Sourced::new(Timeout::from_seconds(30), Source::Container)));
        assert_eq!(settings.signal, Some(Sourced::new(Signal::QUIT, Source::Container)));
    }
}
