//! One process, as /proc shows it.

mod awaited;
mod stat;
mod status;

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use gracefully_core::diagnosis::Process;
use rustix::time::{ClockId, clock_gettime};

use self::awaited::Awaited;
use self::status::Status;
use crate::procfs::{ProcessDir, SMALL};

pub use self::stat::{StartTime, Stat, exit_status};

/// How much of a command line is kept. Nobody reads more, and it may be megabytes.
const COMMAND_LINE: usize = 4096;

/// Everything about one process but its connections. `None` if it is gone, or hidden from us (`hidepid`).
///
/// What only those may see who may trace the process (ptrace(2)) is left out for others: the wait channel, and what
/// it waits for in sigwait(3); then `awaited_hidden` is set.
pub fn read(pid: u32) -> Option<Process> {
    let dir = ProcessDir::open(pid).ok()?;
    read_dir(pid, &dir, &read_stat(&dir)?)
}

/// What `/proc/PID/stat` says. `None` if the process is gone, or hidden from us (`hidepid`).
pub fn stat(pid: u32) -> Option<Stat> {
    read_stat(&ProcessDir::open(pid).ok()?)
}

/// When the process was started. `None` if it is gone.
pub fn start_time(pid: u32) -> Option<StartTime> {
    Some(stat(pid)?.start_time)
}

/// The path of what it runs, as the kernel writes it: ` (deleted)` is appended if it was removed. `None` if it is
/// gone, a zombie, a kernel thread, or if we may not trace it.
pub fn executable(pid: u32) -> Option<String> {
    let path = ProcessDir::open(pid).ok()?.link("exe").ok()?;
    Some(String::from_utf8_lossy(&path).into_owned())
}

/// The user that it runs as, or root if it is protected from its user (`PR_SET_DUMPABLE`). `None` if it is gone.
pub fn owner(pid: u32) -> Option<u32> {
    ProcessDir::open(pid).ok()?.owner().ok()
}

/// The age of the machine, on the clock that start times are counted on (`CLOCK_BOOTTIME`).
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

pub(crate) fn read_stat(dir: &ProcessDir) -> Option<Stat> {
    Stat::parse(&dir.read("stat", SMALL).ok()?)
}

pub(crate) fn read_dir(pid: u32, dir: &ProcessDir, stat: &Stat) -> Option<Process> {
    let status = Status::parse(&dir.read("status", SMALL).ok()?)?;
    let (awaited, awaited_hidden) = match Awaited::read(dir, &status) {
        Awaited::Exactly(signals) => (signals, false),
        Awaited::AtLeast(signals) => (signals, true),
    };
    Some(Process {
        pid,
        inner_pid: status.inner_pid.unwrap_or(pid),
        name: stat.name.clone(),
        command: command(&dir.read("cmdline", COMMAND_LINE).unwrap_or_default()),
        state: stat.state,
        wait_channel: wait_channel(dir),
        age: since_boot().saturating_sub(stat.start_time.since_boot()),
        caught: status.caught,
        ignored: status.ignored,
        awaited,
        awaited_hidden,
        connections: None,
    })
}

/// The kernel function in which it sleeps. The kernel writes `0`, or nothing, if it runs or if we may not trace it.
fn wait_channel(dir: &ProcessDir) -> Option<String> {
    let text = dir.read("wchan", SMALL).ok()?;
    (!matches!(&text[..], b"" | b"0")).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// The words of `/proc/PID/cmdline`. Programs that change their title (setproctitle) write it over the first word
/// and fill the rest with zeros.
fn command(text: &[u8]) -> Vec<String> {
    let end = text.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    if end == 0 {
        return Vec::new();
    }
    text[..end].split(|&b| b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests;
