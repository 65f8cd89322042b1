//! Looking at a container, and putting its record right if its monitor was killed.

use gracefully_core::event::ExitStatus;
use gracefully_linux::PidFd;
use gracefully_monitor::record::{Record, Status};
use gracefully_monitor::{cgroup, removal};

use crate::container::{Container, Network, State};
use crate::error::{Error, Result};
use crate::now;
use gracefully_core::policy::Settings;

use super::home::{Home, Lock};
use super::names;
use super::paths::StateRoot;
use super::record::to_container;

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
    record.finished = Some(now());
    // What is left of it. It can also be removed later.
    let _ = cgroup::remove(home.id());
    // A full disk must keep nobody from removing what fills it: whoever looks next finds the same out again.
    let note = home.save(&record).map_or_else(
        |error| format!("its end could not be written down: {error}"),
        |()| "its monitor did not write down its end".to_owned(),
    );
    Ok(nobody(record, Some(&note)))
}

/// As all engines show it; also if its record cannot be used.
pub(super) fn container(root: &StateRoot, home: &Home) -> Result<Container> {
    match settle(root, home) {
        Ok(seen) => Ok(to_container(&seen.record, seen.note)),
        Err(error @ Error::State { .. }) => Ok(unusable(root, home.id(), &error)),
        Err(error) => Err(error),
    }
}

/// Removes everything that belongs to a container: processes, control groups, names, files.
pub(super) fn remove(root: &StateRoot, home: &Home, _in_charge: &Lock) -> Result<()> {
    removal::remove(root.open_dir()?, home.id()).map_err(|failure| Error::Io {
        what: failure.what,
        path: failure.whom.into(),
        source: failure.errno.into(),
    })
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
        labels: std::collections::BTreeMap::new(),
        auto_remove: false,
        note: Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::record::tests::record;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Whoever has just looked it up opens its lock, again and again.
    #[test]
    fn a_container_is_removed_while_others_look_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::open(&dir.path().join("state")).unwrap();
        for n in 0..50 {
            let (home, lock) = Home::create(&root.containers(), &record(&format!("a{n}"))).unwrap();
            let done = AtomicBool::new(false);
            let looks = || {
                while !done.load(Ordering::Relaxed) {
                    drop(home.try_lock());
                }
            };
            let removed = std::thread::scope(|others| {
                for _ in 0..3 {
                    others.spawn(looks);
                }
                let removed = remove(&root, &home, &lock);
                done.store(true, Ordering::Relaxed);
                removed
            });
            removed.unwrap();
        }
        assert_eq!(std::fs::read_dir(root.containers()).unwrap().count(), 0);
    }
}
