//! Which sockets a program has open, and where.
//!
//! The kernel names a socket by its inode; the links in `/proc/PID/fd` of the program and everything that descends from
//! it say who has it open. A network namespace may belong to more than one program (`--net=host`, `--net=container:…`), and
//! several processes of one program may share a socket.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use gracefully_linux::{PidFd, family, holders};
use rustix::io::{Errno, Result};
use rustix::net::sockopt::socket_cookie;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

/// Where sockets are open, as far as we may look.
#[derive(Debug)]
pub(crate) struct Owners {
    main: u32,
    /// By inode: a process and its file descriptor.
    sockets: HashMap<u64, (u32, u32)>,
    /// The main process is not ours to trace: nothing is known.
    hidden: bool,
    held: HashMap<u32, PidFd>,
}

impl Owners {
    /// Those of a program; nothing is known before the first [`refresh`](Self::refresh).
    pub(crate) fn of(main: u32) -> Self {
        Self { main, sockets: HashMap::new(), hidden: false, held: HashMap::new() }
    }

    /// The main process.
    pub(crate) fn main(&self) -> u32 {
        self.main
    }

    /// Looks at the program's files: since the last time, processes and files may have come and gone.
    pub(crate) fn refresh(&mut self) {
        self.sockets.clear();
        self.hidden = false;
        for pid in std::iter::once(self.main).chain(family::descendants(self.main)) {
            match holders::sockets(pid) {
                Ok(sockets) => self.sockets.extend(sockets.into_iter().map(|(fd, inode)| (inode, (pid, fd)))),
                Err(Errno::ACCESS | Errno::PERM) if pid == self.main => self.hidden = true,
                // It is gone, or protected: what it alone has open is not seen.
                Err(_) => {}
            }
        }
    }

    /// May we not look?
    pub(crate) fn are_hidden(&self) -> bool {
        self.hidden
    }

    /// Has the program no socket open, as far as we see?
    pub(crate) fn have_none(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Has the program this socket open?
    pub(crate) fn have(&self, inode: u64) -> bool {
        self.sockets.contains_key(&inode)
    }

    /// A duplicate of the program's file descriptor for a socket. It must not be kept: as long as it is open, the program
    /// cannot close its connection.
    ///
    /// The number may be given away between the look-up and now, so the socket must have this cookie. Fails with `ESTALE` if
    /// it has another one, and with `EPERM` if we may not trace the program.
    pub(crate) fn duplicate(&mut self, inode: u64, cookie: u64) -> Result<OwnedFd> {
        let (pid, fd) = *self.sockets.get(&inode).ok_or(Errno::STALE)?;
        let process = match self.held.entry(pid) {
            std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(PidFd::open(pid).map_err(|_| Errno::SRCH)?)
            }
        };
        let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
        let socket = pidfd_getfd(&*process, fd, PidfdGetfdFlags::empty())?;
        match socket_cookie(&socket) {
            Ok(found) if found == cookie => Ok(socket),
            Ok(_) | Err(Errno::NOTSOCK) => Err(Errno::STALE),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn inode(socket: &impl AsRawFd) -> u64 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let link = link.to_str().unwrap().to_owned();
        link.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
    }

    #[test]
    fn our_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut owners = Owners::of(std::process::id());
        owners.refresh();
        assert!(!owners.are_hidden());
        assert!(owners.have(inode(&listener)) && owners.have(inode(&server)));

        let cookie = socket_cookie(&server).unwrap();
        let duplicate = owners.duplicate(inode(&server), cookie).unwrap();
        rustix::net::shutdown(&duplicate, rustix::net::Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "it is the same socket");
        assert_eq!(owners.duplicate(inode(&server), cookie + 1).unwrap_err(), Errno::STALE);

        let gone = inode(&server);
        drop((server, duplicate));
        // Whoever has the number now, it is not this socket.
        assert!(owners.duplicate(gone, cookie).is_err());
        owners.refresh();
        assert!(!owners.have(gone));
    }
}
