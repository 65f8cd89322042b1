//! The socket table of a network namespace as text: `/proc/PID/net/tcp` and `tcp6` (`proc_pid_net(5)`,
//! `Documentation/networking/proc_net_tcp.rst`).
//!
//! It costs more than [`sock_diag`](crate::sock_diag) and tells less, with two exceptions: it can be read for any process
//! that we see, whatever network namespace that is in; and it shows the kernel's idea of the conversation.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::connection::Connection;
use crate::procfs::{ProcessDir, lines, number, words};

/// How much of a table is read: about 100,000 sockets.
const LIMIT: usize = 16 * 1024 * 1024;

/// `TCP_ESTABLISHED` of `include/net/tcp_states.h`, as the table writes it.
const ESTABLISHED: &[u8] = b"01";

/// One established connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The inode under which it is open; zero: nobody has it open.
    pub(crate) inode: u64,
    /// Does the kernel hold it for interactive? See [`connection`](crate::connection).
    pub(crate) interactive: bool,
}

/// Lets the kernel's idea decide about those of these connections, each with its inode, that
/// [want it](Connection::wants_evidence). If none does, which is usual, nothing is read. `pid` is a process in their network
/// namespace.
pub fn clarify<'a>(pid: u32, connections: impl Iterator<Item = (u64, &'a mut Connection)>, now: Duration) {
    let unclear: Vec<_> = connections.filter(|(_, connection)| connection.wants_evidence(now)).collect();
    if unclear.is_empty() {
        return;
    }
    let Some(rows) = established(pid) else { return };
    let interactive: BTreeMap<u64, bool> = rows.iter().map(|row| (row.inode, row.interactive)).collect();
    for (inode, connection) in unclear {
        if let Some(&interactive) = interactive.get(&inode) {
            connection.is_interactive(interactive);
        }
    }
}

/// The established connections in the network namespace of a process; `None` if the tables cannot be read or are too
/// long: half a table would make a wrong number.
fn established(pid: u32) -> Option<Vec<Row>> {
    read(&ProcessDir::open(pid).ok()?)
}

pub(crate) fn read(dir: &ProcessDir) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    for table in ["net/tcp", "net/tcp6"] {
        match dir.read(table, LIMIT) {
            Ok(text) if text.len() < LIMIT => rows.extend(parse(&text)),
            // IPv6 may be missing.
            Err(_) if table == "net/tcp6" => {}
            Ok(_) | Err(_) => return None,
        }
    }
    Some(rows)
}

fn parse(table: &[u8]) -> impl Iterator<Item = Row> {
    lines(table).skip(1).filter_map(|line| {
        let mut fields = words(line);
        let state = fields.nth(3)?;
        let inode = fields.nth(5).and_then(number)?;
        // Reference count, address, time-outs of retransmission and confirmation; then `quick << 1 | pingpong`.
        let interactive = fields.nth(4).and_then(number::<u32>).is_some_and(|both| both & 1 == 1);
        (state == ESTABLISHED).then_some(Row { inode, interactive })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use crate::testing::eventually;

    #[test]
    fn established_sockets_of_a_table() {
        let table = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0000 100\n   \
            1: 0100007F:1F90 0100007F:D4C8 01 00000000:00000000 00:00000000 00000000  1000        0 5678 1 0000 20 4 1 10 -1\n   \
            2: 0100007F:1F90 0100007F:D4C7 01 00000000:00000000 00:00000000 00000000  1000        0 9 1 0000 20 4 30 10 -1\n   \
            3: 0100007F:1F90 0100007F:D4C9 06 00000000:00000000 03:00000F00 00000000     0        0 0 3 0000\n";
        let rows = [Row { inode: 5678, interactive: true }, Row { inode: 9, interactive: false }];
        assert_eq!(parse(table).collect::<Vec<_>>(), rows);
        for bad in
            [&b""[..], b"header only\n", b"h\nx\n", b"h\n0: a b 01\n", b"h\n0: a b 01 q t r u o x\xff 9\n"]
        {
            assert_eq!(parse(bad).count(), 0, "{bad:?}");
        }
    }

    /// What [`connection`](crate::connection) relies on.
    #[test]
    fn who_answers_at_once_is_interactive_until_a_request_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let inode = ProcessDir::open(std::process::id())
            .and_then(|dir| dir.link(&std::format!("fd/{}", std::os::fd::AsRawFd::as_raw_fd(&server))))
            .map(|link| match crate::holders::Object::parse(&link) {
                Some(crate::holders::Object::Socket(inode)) => inode,
                other => panic!("{other:?}"),
            })
            .unwrap();
        let interactive = || {
            let rows = established(std::process::id()).unwrap();
            rows.iter().find(|row| row.inode == inode).is_some_and(|row| row.interactive)
        };
        // Older kernels want to see it three times (`TCP_PINGPONG_THRESH`).
        for _ in 0..4 {
            client.write_all(b"ask").unwrap();
            server.read_exact(&mut [0; 3]).unwrap();
            server.write_all(b"answer").unwrap();
            client.read_exact(&mut [0; 6]).unwrap();
        }
        assert!(interactive());
        client.write_all(b"ask").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
        eventually("the kernel confirms by itself", || !interactive());
        server.write_all(b"answer").unwrap();
    }
}
