//! What is said on standard error and, where it was asked for, on standard output.
//!
//! Standard error belongs to the program, too. So what we say may not hurt it, nor ourselves:
//!
//! * **Nobody reads.** A pipe that is full would make PID 1 wait, and with it every signal. The write says that it will not
//!   wait (`RWF_NOWAIT`, pwritev2(2)); where a file knows no such thing it is asked first whether there is room (poll(2)),
//!   which for a line that is shorter than `PIPE_BUF` is as good unless the program takes the room at the same moment.
//! * **The reader is gone.** The write raises SIGPIPE, which stays pending because everything is blocked, and comes back to
//!   us as a signal from ourselves, which is not passed on.
//! * **It is a terminal, and we are in the background.** SIGTTOU is blocked, so the terminal lets us write (termios(3)).

use alloc::format;
use alloc::string::String;
use core::fmt;

use gracefully_linux::standard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, IoSlice, ReadWriteFlags, pwritev2, retry_on_intr, write};

use crate::FAILURE;

/// As much as a pipe takes in one piece (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

/// The current position of the file, for pwritev2(2).
const HERE: u64 = u64::MAX;

/// Says one line on standard error, if that is possible without waiting.
pub(crate) fn say(what: fmt::Arguments<'_>) {
    let mut line = format!("gracefully-init: {what}");
    truncate(&mut line);
    line.push('\n');
    let stderr = standard::error();
    let line = line.as_bytes();
    let written = pwritev2(stderr, &[IoSlice::new(line)], HERE, ReadWriteFlags::NOWAIT);
    // Files on disks and old kernels know no such thing, and a terminal is not asked that way.
    if matches!(written, Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::SPIPE)) {
        let mut fds = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
        let room =
            poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().contains(PollFlags::OUT);
        if room {
            let _ = retry_on_intr(|| write(stderr, line));
        }
    }
}

/// At most so much that it goes into a pipe in one piece.
fn truncate(line: &mut String) {
    let mut end = line.len().min(PIECE - 1);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
}

/// Writes what was asked for on standard output, and gives the exit code.
pub(crate) fn write_out(text: impl AsRef<str>) -> u8 {
    let mut rest = text.as_ref().as_bytes();
    while !rest.is_empty() {
        match retry_on_intr(|| write(standard::output(), rest)) {
            Ok(n) => rest = &rest[n..],
            Err(_) => return FAILURE,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_into_a_pipe_in_one_piece() {
        let mut line = "é".repeat(PIECE);
        truncate(&mut line);
        assert_eq!(line.len(), PIECE - 2, "no half characters, and room for the end of the line");
        let mut short = String::from("short");
        truncate(&mut short);
        assert_eq!(short, "short");
    }
}
