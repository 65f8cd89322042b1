//! Looking at a container, and putting its record right if its monitor was killed.

use std::time::SystemTime;

use gracefully_core::event::ExitStatus;
use gracefully_linux::PidFd;

use crate::container::{Container, Network, State};
use crate::error::{Error, Result};
use gracefully_core::policy::Settings;

use super::home::{Home, Lock};
use super::paths::StateRoot;
use super::record::{Record, Status};
use super::{cgroup, names};

/// What a container is doing, and who looks after it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) record: Record,
    pub(super) charge: Charge,
    pub(super) note: Option<String>,
}

/// Who looks after a container.
#[derive(Debug)]
pub(super) enum Charge {
    /// A monitor, or half-made processes that will end by themselves.
    Monitor,
    /// Its monitor is dead, this is its PID 1.
    Orphan(PidFd),
    /// It is not up.
    Nobody,
}

/// Looks at a container. What is written down is true afterwards, unless the disk is full.
pub(super) fn settle(root: &StateRoot, home: &Home) -> Result<Seen> {
    let record = home.record()?;
    let nobody =
        |record, note: Option<&str>| Seen { record, charge: Charge::Nobody, note: note.map(str::to_owned) };
    match record.status {
        Status::Exited => return Ok(nobody(record, None)),
        Status::Created | Status::Running(_) | Status::Restarting | Status::Removing => {}
    }
    let Some(lock) = home.try_lock()? else {
        return Ok(Seen { record, charge: Charge::Monitor, note: None });
    };

    // Nobody else writes now. What was read before the lock may be old.
    let mut record = home.record()?;
    match record.status {
        Status::Exited => return Ok(nobody(record, None)),
        Status::Created => return Ok(nobody(record, Some("never started: its monitor was killed"))),
        Status::Removing => {
            remove(root, home, &lock)?;
            return Err(home.gone());
        }
        Status::Restarting => {}
        Status::Running(main) => {
            let held = main.hold().ok();
            match held.as_ref().map(|held| (held, held.exit_status())) {
                Some((_, None)) => {
                    let charge = held.map_or(Charge::Nobody, Charge::Orphan);
                    return Ok(Seen { record, charge, note: Some("monitor lost".to_owned()) });
                }
                Some((_, Some(status))) => record.exit = Some(status),
                None => record.exit = Some(ExitStatus::Unknown),
            }
        }
    }
    if record.spec.auto_remove {
        remove(root, home, &lock)?;
        return Err(home.gone());
    }
    record.status = Status::Exited;
    record.finished = Some(SystemTime::now());
    // What is left of it. It can also be removed later.
    let _ = cgroup::remove(home.id());
    // A full disk must keep nobody from removing what fills it: whoever looks next finds the same out again.
    let note = home.save(&record).map_or_else(
        |error| format!("its end could not be written down: {error}"),
        |()| "ended while its monitor was dead".to_owned(),
    );
    Ok(nobody(record, Some(&note)))
}

/// As all engines show it; also if its record cannot be used.
pub(super) fn container(root: &StateRoot, home: &Home) -> Result<Container> {
    match settle(root, home) {
        Ok(seen) => Ok(seen.record.to_container(seen.note)),
        Err(error @ Error::State { .. }) => Ok(unusable(root, home.id(), &error)),
        Err(error) => Err(error),
    }
}

/// Removes everything that belongs to a container: processes, control groups, names, files.
pub(super) fn remove(root: &StateRoot, home: &Home, in_charge: &Lock) -> Result<()> {
    cgroup::kill(home.id());
    cgroup::remove(home.id())?;
    let alone = root.alone()?;
    for name in names::of(root, home.id()) {
        names::release(root, &alone, &name, home.id())?;
    }
    home.remove(in_charge)
}

/// For a monitor with `--rm`: removes its container, which has ended.
pub fn remove_home(home: &Home, in_charge: &Lock) -> Result<()> {
    remove(&StateRoot::open(&home.root())?, home, in_charge)
}

fn unusable(root: &StateRoot, id: &str, error: &Error) -> Container {
    Container {
        id: id.to_owned(),
        name: names::of(root, id).into_iter().next().unwrap_or_default(),
        image: String::new(),
        command: Vec::new(),
        state: State::Dead,
        health: None,
        created: None,
        started: None,
        finished: None,
        exit_code: None,
        pid: None,
        ports: String::new(),
        network: Network::default(),
        settings: Settings::default(),
        auto_remove: false,
        note: Some(error.to_string()),
    }
}
