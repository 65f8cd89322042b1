//! A socket of which all reads and writes end by a deadline, however little comes or goes with each.
//!
//! The time-outs of a socket (`SO_RCVTIMEO`, socket(7)) are about one call: who sends a byte now and then never exceeds them. Here each call
//! has what is left of the whole.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::Deadline;

/// A socket that takes time-outs; zero is none that it takes.
pub(crate) trait Socket: Read + Write {
    fn read_within(&self, time: Duration) -> io::Result<()>;

    fn write_within(&self, time: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn read_within(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }

    fn write_within(&self, time: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(time))
    }
}

impl Socket for UnixStream {
    fn read_within(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }

    fn write_within(&self, time: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(time))
    }
}

/// A socket, and until when. After that calls fail with [`TimedOut`](io::ErrorKind::TimedOut).
#[derive(Debug)]
pub(crate) struct Timely<S> {
    pub(crate) socket: S,
    pub(crate) until: Deadline,
}

impl<S> Timely<S> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.left();
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl<S: Socket> Read for Timely<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read_within(self.left()?)?;
        self.socket.read(buffer).map_err(late)
    }
}

impl<S: Socket> Write for Timely<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_within(self.left()?)?;
        self.socket.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Of a socket with a time-out the kernel says `EAGAIN` when that is over.
fn late(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_dribbles_is_late() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let dribble = std::thread::spawn(move || {
            while theirs.write_all(b".").is_ok() {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        let began = Instant::now();
        let mut timely = Timely { socket: ours, until: Deadline::within(Duration::from_millis(200)) };
        let read = timely.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(read.kind(), io::ErrorKind::TimedOut);
        assert_eq!(timely.write(b".").unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(10));
        drop(timely);
        dribble.join().unwrap();
    }

    #[test]
    fn who_says_nothing_is_late() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut timely = Timely { socket: ours, until: Deadline::within(Duration::from_millis(20)) };
        assert_eq!(timely.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
