//! Network namespaces (`network_namespaces(7)`).
//!
//! A socket belongs for ever to the namespace in which its thread was when it was opened. To look into another one, a
//! thread goes there, opens a socket and comes back; the socket goes on telling about the other side. Going there needs
//! `CAP_SYS_ADMIN` in both (setns(2)).

use alloc::format;
use alloc::vec::Vec;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Result;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, which stays as long as this is held, also when its last process has ended.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
    id: Id,
}

/// What tells one namespace from another: device and inode of its file (namespaces(7)).
type Id = (u64, u64);

impl NetNs {
    /// That of a process. Needs the right to trace it.
    pub fn of(pid: u32) -> Result<Self> {
        Self::open(&format!("/proc/{pid}/ns/net"))
    }

    /// That of the calling thread.
    pub fn ours() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Does something in this namespace and comes back.
    ///
    /// # Panics
    /// If there is no way back: the thread must not go on in the wrong namespace.
    pub fn inside<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let ours = Self::ours()?;
        if ours == *self {
            return Ok(work());
        }
        enter(&self.fd)?;
        let done = work();
        enter(&ours.fd).expect("a thread may return to the namespace from which it came");
        Ok(done)
    }

    fn open(path: &str) -> Result<Self> {
        let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Self { fd, id: (stat.st_dev, stat.st_ino) })
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for NetNs {}

/// The different ones among some namespaces.
pub fn distinct(namespaces: impl IntoIterator<Item = NetNs>) -> Vec<NetNs> {
    let mut found = Vec::new();
    for namespace in namespaces {
        if !found.contains(&namespace) {
            found.push(namespace);
        }
    }
    found
}

fn enter(namespace: impl AsFd) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sock_diag::{SockDiag, States, Which};
    use crate::testing::{Program, installed};
    use std::net::TcpListener;

    #[test]
    fn our_own_is_ours() {
        let ours = NetNs::ours().unwrap();
        assert_eq!(ours, NetNs::of(std::process::id()).unwrap());
        assert_eq!(ours.inside(|| 7), Ok(7));
        let both = distinct([NetNs::ours().unwrap(), NetNs::ours().unwrap()]);
        assert_eq!(both.len(), 1);
    }

    #[test]
    fn a_socket_tells_about_the_namespace_in_which_it_was_opened() {
        if !rustix::process::geteuid().is_root() || !installed("unshare") {
            std::eprintln!("SKIPPED: needs root and unshare");
            return;
        }
        let mut other = Program::start("unshare", &["--net", "sh", "-c", "echo there; read x"]);
        other.line();
        let there = NetNs::of(other.pid()).unwrap();
        let here = NetNs::ours().unwrap();
        assert_ne!(there, here);

        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let which = Which { states: States::LISTENING, ports: &[] };
        let mut diag = there.inside(|| SockDiag::open(which)).unwrap().unwrap();
        assert_eq!(NetNs::ours().unwrap(), here);
        let mut found = 0;
        diag.dump(|_| found += 1).unwrap();
        assert_eq!(found, 0, "nobody listens there");
    }
}
