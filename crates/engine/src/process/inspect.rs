//! What is known about a process, in the shape of `docker inspect` where that has a place for it.

use std::time::SystemTime;

use gracefully_core::diagnosis::{Process, State as Doing};
use gracefully_core::signal::Signal;
use gracefully_linux::{connections, family, process};
use serde_json::{Value, json};

use crate::Container;

/// Docker's way to write "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

/// `None` if the process is gone.
pub(super) fn describe(container: &Container, pid: u32) -> Option<Value> {
    let mut family = family::family(pid)?;
    connections::count(&mut family);
    let main = &family.main;
    let stat = process::stat(pid)?;
    Some(json!({
        "Id": container.id,
        "Name": container.name,
        "Created": time(container.created),
        "Path": main.command.first().unwrap_or(&container.image),
        "Args": main.command.get(1..).unwrap_or_default(),
        "Image": container.image,
        "State": {
            "Status": container.state.name(),
            "Running": container.state.is_up(),
            "Paused": false,
            "Restarting": false,
            "Dead": false,
            "Pid": container.pid.unwrap_or(0),
            "ExitCode": container.exit_code.unwrap_or(0),
            "StartedAt": time(container.started),
            "FinishedAt": time(container.finished),
        },
        "Process": {
            "Name": main.name,
            "Parent": stat.parent,
            "User": process::owner(pid),
            "NamespacePid": main.inner_pid,
            "State": doing(main.state),
            "WaitChannel": main.wait_channel,
            "SignalsCaught": signals(main.caught),
            "SignalsAwaited": signals(main.awaited),
            "SignalsAwaitedHidden": main.awaited_hidden,
            "SignalsIgnored": signals(main.ignored),
            "Connections": main.connections,
            "Descendants": family.descendants.iter().map(relative).collect::<Vec<_>>(),
        },
    }))
}

fn relative(process: &Process) -> Value {
    json!({
        "Pid": process.pid,
        "Name": process.name,
        "Command": process.command,
        "State": doing(process.state),
        "Connections": process.connections,
    })
}

fn time(time: Option<SystemTime>) -> String {
    time.map_or(NEVER.to_owned(), |time| humantime::format_rfc3339_nanos(time).to_string())
}

fn signals(mask: u64) -> Vec<String> {
    Signal::all().filter(|signal| mask & signal.mask() != 0).map(|signal| signal.to_string()).collect()
}

fn doing(state: Doing) -> &'static str {
    match state {
        Doing::Running => "running",
        Doing::Sleeping => "sleeping",
        Doing::Uninterruptible => "uninterruptible",
        Doing::Stopped => "stopped",
        Doing::Zombie => "zombie",
    }
}
