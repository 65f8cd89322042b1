//! A process with everything that descends from it.
//!
//! The kernel knows for each thread which children it has (`/proc/PID/task/TID/children`, if built with
//! `CONFIG_PROC_CHILDREN`) and for each process who its parent is. A child whose parent ends is given to the nearest
//! ancestor that asked for orphans (`PR_SET_CHILD_SUBREAPER`), else to PID 1 of its namespace. So everything in a
//! container descends from its PID 1, while what a plain program leaves behind when it ends is lost from its family.
//!
//! A family is a snapshot: children that are born while it is taken may be missing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use gracefully_core::diagnosis::Family;
use rustix::fs::{Access, access};

use crate::process::{read_dir, read_stat};
use crate::procfs::{ProcessDir, number, pids, words};

/// How many descendants are looked at; a fork bomb must not stop the stop.
const DESCENDANTS: usize = 10_000;

/// How much of a list of children is read: enough for `DESCENDANTS` numbers.
const CHILDREN: usize = 128 * 1024;

/// The process and all its descendants, in the order of their PIDs. `None` if it is gone.
pub fn family(pid: u32) -> Option<Family> {
    let main = crate::process::read(pid)?;
    let related = descendants(pid);
    let members: BTreeSet<u32> = related.iter().copied().chain([pid]).collect();
    let descendants = related.iter().filter_map(|&pid| {
        let dir = ProcessDir::open(pid).ok()?;
        let stat = read_stat(&dir)?;
        // Else the number belongs to somebody else by now.
        members.contains(&stat.parent).then(|| read_dir(pid, &dir, &stat))?
    });
    Some(Family { main, descendants: descendants.collect() })
}

/// The PIDs of all descendants, in order.
pub fn descendants(pid: u32) -> Vec<u32> {
    if access("/proc/thread-self/children", Access::EXISTS).is_ok() {
        collect(pid, listed_children)
    } else {
        let children = all_children();
        collect(pid, |parent| children.get(&parent).cloned().unwrap_or_default())
    }
}

/// The parent of a process, its parent and so on, the nearest first. Ends with PID 1, or where the parent is outside
/// our PID namespace.
pub fn ancestors(pid: u32) -> Vec<u32> {
    let mut line = Vec::new();
    let mut last = pid;
    while let Some(stat) = crate::process::stat(last) {
        // The parent may end, and its number be given away, while we look: then there could be a circle.
        if stat.parent == 0 || stat.parent == pid || line.contains(&stat.parent) {
            break;
        }
        last = stat.parent;
        line.push(last);
    }
    line
}

fn collect(pid: u32, children: impl Fn(u32) -> Vec<u32>) -> Vec<u32> {
    let mut found = BTreeSet::new();
    let mut unvisited = Vec::from([pid]);
    while let Some(parent) = unvisited.pop() {
        for child in children(parent) {
            if child != pid && found.len() < DESCENDANTS && found.insert(child) {
                unvisited.push(child);
            }
        }
    }
    found.into_iter().collect()
}

/// The children of every thread of a process, by the kernel's own lists.
fn listed_children(pid: u32) -> Vec<u32> {
    let Ok(dir) = ProcessDir::open(pid) else { return Vec::new() };
    let threads = dir.numbers("task").unwrap_or_default();
    let lists =
        threads.iter().filter_map(|thread| dir.read(&format!("task/{thread}/children"), CHILDREN).ok());
    lists.flat_map(|list| words(&list).filter_map(number).collect::<Vec<_>>()).collect()
}

/// The children of every process, by asking every process for its parent.
fn all_children() -> BTreeMap<u32, Vec<u32>> {
    let mut children = BTreeMap::<u32, Vec<u32>>::new();
    for pid in pids().unwrap_or_default() {
        if let Some(stat) = crate::process::stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PidFd;
    use crate::testing::{Program, eventually, installed};
    use gracefully_core::signal::Signal;
    use std::string::String;

    /// Ends the processes that a test's program leaves behind.
    struct Leftovers(Vec<u32>);

    impl Drop for Leftovers {
        fn drop(&mut self) {
            for pidfd in self.0.iter().filter_map(|&pid| PidFd::open(pid).ok()) {
                let _ = pidfd.send(Signal::KILL);
            }
        }
    }

    #[test]
    fn children_and_grandchildren_by_list_and_by_scan() {
        let (shell, grandchild) = Program::shell("(sleep 100 & echo $!; wait) & wait");
        let grandchild: u32 = grandchild.parse().unwrap();
        let _leftovers = Leftovers(descendants(shell.pid()));
        eventually("it is executed", || crate::process::stat(grandchild).unwrap().name == "sleep");

        let listed = collect(shell.pid(), listed_children);
        let children = all_children();
        let scanned = collect(shell.pid(), |pid| children.get(&pid).cloned().unwrap_or_default());
        assert_eq!(listed, scanned);
        assert_eq!(listed.len(), 2);
        assert!(listed.contains(&grandchild));

        let family = family(shell.pid()).unwrap();
        assert_eq!(family.main.pid, shell.pid());
        let names: Vec<_> = family.descendants.iter().map(|p| (p.pid, p.name.as_str())).collect();
        assert!(names.contains(&(grandchild, "sleep")), "{names:?}");

        let line = ancestors(grandchild);
        assert_eq!(line[1..3], [shell.pid(), std::process::id()]);
        assert_eq!(ancestors(std::process::id()), line[3..]);
    }

    #[test]
    fn children_of_every_thread() {
        let thread = std::thread::spawn(|| Program::start("sleep", &["100"]));
        let sleep = thread.join().unwrap();
        assert!(descendants(std::process::id()).contains(&sleep.pid()));
    }

    #[test]
    fn pid_1_of_a_namespace_has_the_orphans_too() {
        if !rustix::process::geteuid().is_root() || !installed("unshare") {
            std::eprintln!("SKIPPED: needs root and unshare");
            return;
        }
        // The middle shell ends, and its child is given to PID 1 of the namespace.
        let script = "sh -c 'sleep 100 & echo orphan'; echo ready; wait; read x";
        let mut unshare = Program::start("unshare", &["--fork", "--pid", "--kill-child", "sh", "-c", script]);
        assert_eq!((unshare.line(), unshare.line()), ("orphan".into(), String::from("ready")));
        let init = listed_children(unshare.pid())[0];
        let orphan = listed_children(init)[0];
        eventually("it is executed", || crate::process::stat(orphan).unwrap().name == "sleep");
        let family = family(init).unwrap();
        assert_eq!((family.main.inner_pid, family.main.is_namespace_init()), (1, true));
        let orphans: Vec<_> = family.descendants.iter().map(|p| (p.pid, p.name.as_str())).collect();
        assert_eq!(orphans, [(orphan, "sleep")]);
        assert_eq!(crate::process::stat(orphan).unwrap().parent, init);
    }

    #[test]
    fn who_has_nobody_and_who_is_gone() {
        let mut sleep = Program::start("sleep", &["100"]);
        assert_eq!(family(sleep.pid()).unwrap().descendants, []);
        sleep.end();
        assert_eq!(family(sleep.pid()), None);
        assert_eq!(descendants(sleep.pid()), [0; 0]);
        assert_eq!(ancestors(sleep.pid()), [0; 0]);
    }

    #[test]
    fn a_circle_ends() {
        assert_eq!(collect(1, |pid| Vec::from([pid % 3 + 1])), [2, 3]);
    }

    #[test]
    fn a_fork_bomb_is_cut_off() {
        assert_eq!(collect(0, |pid| Vec::from([pid + 1])).len(), DESCENDANTS);
    }
}
