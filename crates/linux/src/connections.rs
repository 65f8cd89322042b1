//! How many TCP connections a process has: for the diagnosis when it did not end in time, and to see cheaply that there is
//! none to wait for.
//!
//! The [socket table](crate::tcp_table) of the process's network namespace has the inodes of all connections there; the
//! links in `/proc/PID/fd` say which of these the process has open. The latter needs the right to trace the process. A
//! connection that several processes share counts for each of them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use gracefully_core::diagnosis::Family;
use rustix::fs::CWD;

use crate::holders::{Object, open_objects};
use crate::procfs::{ProcessDir, SMALL, lines, number, read_file, value, words};
use crate::tcp_table;

/// Sets the number of connections of every member that we may look at. Members in the same network namespace, the
/// usual case, cost one reading of the table.
pub fn count(family: &mut Family) {
    let mut tables = Vec::<(Vec<u8>, Option<BTreeSet<u64>>)>::new();
    for process in core::iter::once(&mut family.main).chain(&mut family.descendants) {
        process.connections = ProcessDir::open(process.pid).ok().and_then(|dir| {
            let namespace = dir.link("ns/net").ok()?;
            let known = tables.iter().position(|(known, _)| *known == namespace);
            let known = known.unwrap_or_else(|| {
                tables.push((namespace, established(&dir)));
                tables.len() - 1
            });
            count_open(&dir, tables[known].1.as_ref()?)
        });
    }
}

/// Has nobody in the network namespace of this process a TCP socket, not even a listening one? `None`: the kernel does not say.
///
/// It counts them itself (`/proc/PID/net/sockstat`, `proc_pid_net(5)`), so this costs two small files, where a walk through
/// its table of sockets costs time for those of the whole machine.
pub fn none_around(pid: u32) -> Option<bool> {
    let dir = ProcessDir::open(pid).ok()?;
    let in_use = |file, protocol| {
        let text = dir.read(file, SMALL).ok()?;
        let line = value(&text, protocol)?;
        words(line).skip_while(|word| *word != b"inuse").nth(1).and_then(number::<u32>)
    };
    // A kernel without IPv6 has no file for it.
    Some(in_use("net/sockstat", "TCP:")? == 0 && in_use("net/sockstat6", "TCP6:").unwrap_or(0) == 0)
}

/// How many connections were ever accepted by the kernel for the programs in our network namespace (`PassiveOpens`, RFC 4022).
/// `None`: the kernel does not say.
pub fn accepted_ever() -> Option<u64> {
    let text = read_file(CWD, "/proc/self/net/snmp", SMALL).ok()?;
    // A line of names, and one of numbers.
    let mut tcp = lines(&text).filter_map(|line| line.strip_prefix(b"Tcp:"));
    let place = words(tcp.next()?).position(|name| name == b"PassiveOpens")?;
    words(tcp.next()?).nth(place).and_then(number)
}

/// The inodes of the established connections in the network namespace of a process.
fn established(dir: &ProcessDir) -> Option<BTreeSet<u64>> {
    Some(tcp_table::read(dir)?.into_iter().map(|row| row.inode).collect())
}

fn count_open(dir: &ProcessDir, established: &BTreeSet<u64>) -> Option<u32> {
    // The same socket may be open under several numbers.
    let open: BTreeSet<u64> = open_objects(dir)
        .ok()?
        .filter_map(|(_, object)| match object {
            Object::Socket(inode) => Some(inode),
            Object::Pipe(_) => None,
        })
        .collect();
    u32::try_from(open.intersection(established).count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Program, installed};
    use alloc::format;
    use std::net::{Ipv6Addr, TcpListener, TcpStream};

    #[test]
    fn a_namespace_with_and_without_sockets() {
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(none_around(std::process::id()), Some(false));
        if !rustix::process::geteuid().is_root() || !installed("unshare") || !installed("python3") {
            std::eprintln!("SKIPPED: needs root, unshare and python3");
            return;
        }
        for (family, none) in [("None", true), ("socket.AF_INET", false), ("socket.AF_INET6", false)] {
            let script = format!(
                "import socket, sys\nif {family}:\n s = socket.socket({family})\n s.bind(('', 0))\n s.listen()\n\
                 print(flush=True)\nsys.stdin.read()"
            );
            let mut unshare = Program::start("unshare", &["--net", "python3", "-c", &script]);
            unshare.line();
            assert_eq!(none_around(unshare.pid()), Some(none), "{family}");
        }
    }

    #[test]
    fn every_accepted_connection_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = accepted_ever().unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // Other tests of this process connect, too.
        assert!(accepted_ever().unwrap() > before);
    }

    #[test]
    fn the_connections_of_a_program() {
        if !installed("python3") {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = "import socket, sys, os\n\
            c = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(3)]\n\
            os.dup(c[0].fileno())\n\
            print(flush=True)\nos.read(0, 1)";
        let port = std::format!("{}", listener.local_addr().unwrap().port());
        let mut python = Program::start("python3", &["-c", script, &port]);
        python.line();
        let mut family = crate::family::family(python.pid()).unwrap();
        assert_eq!(family.main.connections, None);
        count(&mut family);
        assert_eq!(family.main.connections, Some(3));
    }

    #[test]
    fn connections_of_both_address_families_count() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let _v4 = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let server6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
        let _v6 = server6.as_ref().ok().map(|s| TcpStream::connect(s.local_addr().unwrap()).unwrap());
        let expected = 1 + u32::from(server6.is_ok());
        let mut family = crate::family::family(std::process::id()).unwrap();
        family.descendants.clear();
        count(&mut family);
        // Other tests of this process may have connections as well.
        assert!(family.main.connections.unwrap() >= expected, "{:?}", family.main.connections);
    }

    #[test]
    fn who_is_gone_has_an_unknown_number() {
        let mut sleep = Program::start("sleep", &["100"]);
        let mut family = crate::family::family(sleep.pid()).unwrap();
        sleep.end();
        count(&mut family);
        assert_eq!(family.main.connections, None);
    }
}
