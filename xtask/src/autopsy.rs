//! What a daemon was doing when tests failed, for somebody who was not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::dockerd::{Dockerd, pause, signal};

/// How long dockerd may take to write its goroutines down.
const PATIENCE: Duration = Duration::from_secs(10);

/// The end of the daemon's log, and those of its goroutines that have waited for minutes.
pub(crate) fn of(daemon: &Dockerd) -> String {
    let host = daemon.host();
    let Some(home) = Path::new(host.trim_start_matches("unix://")).parent() else { return String::new() };
    let log = fs::read_to_string(home.join("log")).unwrap_or_default();
    let from = log.lines().count().saturating_sub(30);
    let mut said: Vec<String> = log.lines().skip(from).map(ToString::to_string).collect();
    // dockerd writes its goroutines down on SIGUSR1 (moby, daemon/debugtrap_unix.go).
    signal(daemon.pid(), Signal::USR1);
    if let Some(dump) = wait_for_dump(&home.join("exec")) {
        let stuck = dump.split("\n\n").filter(|goroutine| is_stuck(goroutine));
        said.extend(stuck.take(12).map(|it| it.lines().take(16).collect::<Vec<_>>().join("\n")));
    }
    said.join("\n")
}

fn wait_for_dump(directory: &Path) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    let is_dump = |path: &PathBuf| path.to_string_lossy().contains("goroutine-stacks");
    while Instant::now() < deadline {
        let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path());
        let dump = files.filter(is_dump).find_map(|path| fs::read_to_string(path).ok());
        if let Some(dump) = dump.filter(|dump| dump.ends_with('\n')) {
            return Some(dump);
        }
        pause();
    }
    None
}

/// Has it waited for minutes, for a lock or for somebody who does not read?
fn is_stuck(goroutine: &str) -> bool {
    let head = goroutine.lines().next().unwrap_or_default();
    head.contains("minutes") && ["semacquire", "chan send"].iter().any(|why| head.contains(why))
}

#[cfg(test)]
mod tests {
    use super::is_stuck;

    #[test]
    fn what_has_waited_for_minutes_is_stuck() {
        assert!(is_stuck("goroutine 7 [semacquire, 3 minutes]:\nsync.runtime_SemacquireMutex()"));
        assert!(!is_stuck("goroutine 7 [semacquire]:\nsync.runtime_SemacquireMutex()"));
        assert!(!is_stuck("goroutine 7 [IO wait, 3 minutes]:\ninternal/poll.runtime_pollWait()"));
    }
}
