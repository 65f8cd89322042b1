//! Which connections ended in the middle of a request.
//!
//! The last look before the end shows what was under way, a look after it what the kernel is still finishing. A program that
//! closes a connection without having answered has cut it. What ended in the millisecond between the two looks has left no trace
//! in the kernel; there decides what was heard on the wire, and where nothing can be heard the way in which the program ended:
//! one that exited by itself is believed to have answered first, one that was killed is not.

use gracefully_core::traffic::Why;
use gracefully_linux::connection::{Connection, Sender};
use gracefully_linux::sock_diag::TcpSocket;

/// What a look after the end shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing.
    Gone {
        /// Was it heard that the program said something since the look before? `None`: nothing can be heard.
        said: Option<bool>,
    },
    /// The kernel is still finishing it.
    There {
        /// The program has sent something since the look before.
        answered: bool,
        /// Bytes that the peer has not confirmed, a FIN counting as one.
        unconfirmed: u32,
    },
}

impl After {
    pub(crate) fn of(before: &Connection, socket: &TcpSocket) -> Self {
        Self::There { answered: before.has_answered_since(socket), unconfirmed: socket.send_queue }
    }
}

/// What became of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// It lives, as ever.
    Lives,
    /// It lives and has got its stop signal, or is about to.
    Ending,
    /// It exited, or its stop signal ended it.
    Exited,
    /// It was killed.
    Killed,
}

/// Was this connection cut? It was busy, for this reason, at the look before its end.
pub(crate) fn was_cut(before: &Connection, why: Why, after: After, program: Program) -> bool {
    let killed = program == Program::Killed;
    match (why, after) {
        (Why::Unclear, _) if before.last() == Sender::Nobody => false,
        (Why::Connecting | Why::Unaccepted | Why::Unread | Why::Unanswered, After::Gone { said }) => {
            match program {
                // It was the peer who gave up.
                Program::Lives | Program::Ending => false,
                Program::Exited => said == Some(false),
                Program::Killed => said != Some(true),
            }
        }
        (Why::Unclear, After::Gone { said }) => killed && said != Some(true),
        (
            Why::Connecting | Why::Unaccepted | Why::Unread | Why::Unanswered | Why::Unclear,
            After::There { answered, .. },
        ) => !answered,
        // An answer in one piece was over, only not for long enough to be sure before.
        // Of anything but a stream, what the peer has not confirmed was the whole answer.
        (Why::Answering | Why::Undelivered, After::Gone { .. }) => {
            matches!(program, Program::Exited | Program::Killed) && before.is_stream()
        }
        // A stream that the program closes of its own accord is over.
        (Why::Answering, After::There { .. }) => program != Program::Lives && before.is_stream(),
        // The kernel goes on sending, as long as the network is there.
        (Why::Undelivered, After::There { unconfirmed, .. }) => {
            killed && (unconfirmed > 1 || before.is_stream())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gracefully_linux::sock_diag::{State, TcpInfo};
    use std::time::Duration;

    #[test]
    fn what_ended_how() {
        use After::{Gone, There};
        let address = "127.0.0.1:80".parse().unwrap();
        let socket = TcpSocket {
            state: State::Established,
            local: address,
            peer: address,
            cookie: 1,
            inode: 1,
            receive_queue: 0,
            send_queue: 0,
            retransmits: 0,
            dropped: 0,
            info: Some(TcpInfo { received: 1, ..TcpInfo::default() }),
        };
        let asked = Connection::new(&socket, Duration::ZERO);
        let mut stream = asked;
        for n in 1..4 {
            let info = Some(TcpInfo { received: 1, confirmed: n, ..TcpInfo::default() });
            stream.look(&TcpSocket { info, ..socket }, Duration::from_millis(50 * n));
        }
        let silent = There { answered: false, unconfirmed: 1 };
        let unheard = Gone { said: None };
        let table = [
            (asked, Why::Unanswered, unheard, [false, false, false, true]),
            (asked, Why::Unanswered, Gone { said: Some(false) }, [false, false, true, true]),
            (asked, Why::Unanswered, Gone { said: Some(true) }, [false, false, false, false]),
            (asked, Why::Unanswered, silent, [true, true, true, true]),
            (asked, Why::Unanswered, There { answered: true, unconfirmed: 1 }, [false, false, false, false]),
            (asked, Why::Unaccepted, unheard, [false, false, false, true]),
            (asked, Why::Unaccepted, silent, [true, true, true, true]),
            (asked, Why::Unaccepted, There { answered: true, unconfirmed: 1 }, [false, false, false, false]),
            (asked, Why::Answering, silent, [false, false, false, false]),
            (stream, Why::Answering, silent, [false, true, true, true]),
            (stream, Why::Answering, unheard, [false, false, true, true]),
            (asked, Why::Undelivered, unheard, [false, false, false, false]),
            (stream, Why::Undelivered, unheard, [false, false, true, true]),
            (asked, Why::Undelivered, There { answered: false, unconfirmed: 7 }, [false, false, false, true]),
        ];
        for (before, why, after, cut) in table {
            for (program, cut) in
                [Program::Lives, Program::Ending, Program::Exited, Program::Killed].into_iter().zip(cut)
            {
                assert_eq!(was_cut(&before, why, after, program), cut, "{why:?} {after:?} {program:?}");
            }
        }
    }
}
