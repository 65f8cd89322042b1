//! How many TCP connections a process has: for the diagnosis when it did not end in time.
//!
//! `/proc/PID/net/tcp` and `tcp6` list the sockets of the process's network namespace with their inodes (field 10,
//! `proc_pid_net(5)`); the links in `/proc/PID/fd` say which of these inodes the process has open. The latter needs
//! the right to trace the process. A connection that several processes share counts for each of them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use gracefully_core::diagnosis::Family;

use crate::holders::{Object, open_objects};
use crate::procfs::{ProcessDir, lines, number, words};

/// How much of a socket table is read: about 100,000 sockets.
const TABLE: usize = 16 * 1024 * 1024;

/// `TCP_ESTABLISHED` of `include/net/tcp_states.h`, as the table writes it.
const ESTABLISHED: &[u8] = b"01";

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

/// The inodes of the established connections in the network namespace of a process; `None` if the table cannot be
/// read or is too long.
fn established(dir: &ProcessDir) -> Option<BTreeSet<u64>> {
    let mut inodes = BTreeSet::new();
    for table in ["net/tcp", "net/tcp6"] {
        match dir.read(table, TABLE) {
            Ok(text) if text.len() < TABLE => inodes.extend(parse(&text)),
            // IPv6 may be missing.
            Err(_) if table == "net/tcp6" => {}
            // Half a table would make a wrong number.
            Ok(_) | Err(_) => return None,
        }
    }
    Some(inodes)
}

fn parse(table: &[u8]) -> impl Iterator<Item = u64> {
    lines(table).skip(1).filter_map(|line| {
        let mut fields = words(line);
        let state = fields.nth(3)?;
        let inode = fields.nth(5).and_then(number)?;
        (state == ESTABLISHED).then_some(inode)
    })
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
    use std::net::{Ipv6Addr, TcpListener, TcpStream};

    #[test]
    fn established_sockets_of_a_table() {
        let table = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0000 100\n   \
            1: 0100007F:1F90 0100007F:D4C8 01 00000000:00000000 00:00000000 00000000  1000        0 5678 1 0000 20\n   \
            2: 0100007F:1F90 0100007F:D4C9 06 00000000:00000000 03:00000F00 00000000     0        0 0 3 0000\n";
        assert_eq!(parse(table).collect::<Vec<_>>(), [5678]);
        for bad in
            [&b""[..], b"header only\n", b"h\nx\n", b"h\n0: a b 01\n", b"h\n0: a b 01 q t r u o x\xff 9\n"]
        {
            assert_eq!(parse(bad).count(), 0, "{bad:?}");
        }
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
