//! Everybody who descends from us, besides main.
//!
//! Whatever a container runs descends from its PID 1, and what a process leaves behind is given to the nearest ancestor that
//! asked for orphans (`PR_SET_CHILD_SUBREAPER`), which we do also where we are not PID 1. So these are all processes for
//! which somebody waits here; what `docker exec` or a probe has put into the container is nobody's child and is not ours.
//!
//! Each of them is told once. It is held by a pidfd from the moment at which it is known to be one of ours, so that nobody
//! else can be met. Who is born later is its parent's to look after, as long as that lives; an orphan is told, too.
//!
//! Where /proc is missing, PID 1 can still reach everybody at once (kill(2) with -1), and who is not PID 1 only the process
//! group of main.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use gracefully_core::diagnosis::printable;
use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_linux::family::descendants;
use gracefully_linux::process::{StartTime, stat};
use gracefully_linux::spawn::{Child, send_to_everybody};

/// How often we look again for those who were born while the others were killed.
const ROUNDS: usize = 16;

/// The others.
#[derive(Debug)]
pub struct Relatives {
    us: u32,
    /// Those who have been told.
    told: BTreeSet<(u32, StartTime)>,
    /// How many were told here.
    count: usize,
}

impl Relatives {
    /// Those of this process.
    pub fn new(us: u32) -> Self {
        Self { us, told: BTreeSet::new(), count: 0 }
    }

    /// Whether /proc shows us who there is.
    fn visible(&self) -> bool {
        PidFd::open(self.us).is_ok()
    }

    /// Tells everybody who has not been told, but none of `except` nor of their descendants. SIGCONT follows, because a
    /// stopped process does not notice anything else.
    pub fn tell(&mut self, signal: Signal, main: Child, except: &[u32]) {
        if !self.visible() {
            for signal in [signal, Signal::CONT] {
                let _ = send_to_everybody(signal).or_else(|_| main.send_to_group(signal));
            }
            return;
        }
        let all = self.all();
        self.tell_these(signal, &all, except);
    }

    /// The same for those who were born meanwhile and have lost their parent. Others have one who has been told, and to whom they
    /// may be of use just now: whoever flushes may start a program for that.
    pub fn tell_orphans(&mut self, signal: Signal, except: &[u32]) {
        let orphan = |pidfd: &PidFd| stat(pidfd.pid()).is_some_and(|stat| stat.parent == self.us);
        let orphans: Vec<PidFd> = self.all().into_iter().filter(orphan).collect();
        self.tell_these(signal, &orphans, except);
    }

    fn tell_these(&mut self, signal: Signal, these: &[PidFd], except: &[u32]) {
        let excepted = with_descendants(except);
        for pidfd in these.iter().filter(|pidfd| !excepted.contains(&pidfd.pid())) {
            if self.told.insert((pidfd.pid(), pidfd.start_time())) && !pidfd.has_exited() {
                // It may have become another user.
                self.count += usize::from(pidfd.send(signal).is_ok());
                let _ = pidfd.send(Signal::CONT);
            }
        }
    }

    /// Is nobody left but these and their descendants?
    pub fn only(&self, these: &[u32]) -> bool {
        let these = with_descendants(these);
        self.visible() && self.all().iter().all(|pidfd| these.contains(&pidfd.pid()) || pidfd.has_exited())
    }

    /// This process has been told otherwise.
    pub fn was_told(&mut self, pid: u32) {
        self.told.extend(stat(pid).map(|stat| (pid, stat.start_time)));
    }

    /// Those whose process group has been told as a whole.
    pub fn group_was_told(&mut self, group: u32) {
        let member = |pid: &u32| stat(*pid).is_some_and(|stat| stat.group == group);
        for pid in descendants(self.us).into_iter().filter(member) {
            self.was_told(pid);
        }
    }

    /// Kills everybody, main included. What is in the namespace of a PID 1 would end with it in any case, so there the kernel does
    /// it at once, and nobody can fork faster.
    pub fn kill(&self, main: Option<Child>) {
        if send_to_everybody(Signal::KILL).is_ok() {
            return;
        }
        if let Some(main) = main {
            let _ = main.send(Signal::KILL);
        }
        for _ in 0..ROUNDS {
            let living: Vec<PidFd> = self.all().into_iter().filter(|pidfd| !pidfd.has_exited()).collect();
            if living.is_empty() {
                return;
            }
            for pidfd in living {
                let _ = pidfd.send(Signal::KILL);
            }
        }
    }

    /// How many were told by [`tell`](Self::tell).
    pub fn told(&self) -> usize {
        self.count
    }

    /// Who is still there, for people: `python3 (pid 7)`.
    pub fn left(&self) -> Vec<String> {
        let name = |pidfd: &PidFd| {
            stat(pidfd.pid()).map(|stat| format!("{} (pid {})", printable(&stat.name), pidfd.pid()))
        };
        self.all().iter().filter(|pidfd| !pidfd.has_exited()).filter_map(name).collect()
    }

    /// All that descend from us, held.
    fn all(&self) -> Vec<PidFd> {
        let all = descendants(self.us);
        // Else the number belongs to somebody else by now.
        let is_ours = |parent: u32| parent == self.us || all.binary_search(&parent).is_ok();
        let held = |&pid: &u32| {
            let pidfd = PidFd::open(pid).ok()?;
            stat(pid).filter(|stat| is_ours(stat.parent)).map(|_| pidfd)
        };
        all.iter().filter_map(held).collect()
    }
}

fn with_descendants(pids: &[u32]) -> BTreeSet<u32> {
    pids.iter().flat_map(|&pid| descendants(pid).into_iter().chain([pid])).collect()
}
