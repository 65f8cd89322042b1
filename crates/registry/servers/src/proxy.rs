//! What can go wrong between us and a server: a proxy on the loopback interface that passes everything on until it is told not to.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What the proxy does with every connection, those that there are and new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Passes on.
    None,
    /// Takes what comes and answers nothing.
    Silent,
    /// Answers what no protocol knows.
    Garbage,
    /// Answers 500 in HTTP, and a page.
    Error,
    /// Closes every connection.
    Closed,
}

const FAULTS: [Fault; 5] = [Fault::None, Fault::Silent, Fault::Garbage, Fault::Error, Fault::Closed];

const PAGE: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 26\r\nConnection: close\r\n\r\n<html>out of memory</html>";

/// A proxy before a server. Its threads end with the process.
#[derive(Debug)]
pub struct Proxy {
    at: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fault: AtomicU8,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy before the server at this address.
    ///
    /// # Panics
    /// If there is no free port.
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { fault: AtomicU8::new(0), open: Mutex::default() });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&theirs);
                // A client that leaves is no affair of ours.
                thread::spawn(move || drop(shared.serve(&client, server)));
            }
        });
        Self { at, shared }
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// From now on this goes wrong. Connections that there are are closed, so that it holds for everything.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.store(fault as u8, Ordering::SeqCst);
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream, server: SocketAddr) -> io::Result<()> {
        self.keep(client)?;
        let answer: &[u8] = match FAULTS[usize::from(self.fault.load(Ordering::SeqCst))] {
            Fault::None => {
                let server = TcpStream::connect(server)?;
                self.keep(&server)?;
                let (from, to) = (client.try_clone()?, server.try_clone()?);
                thread::spawn(move || pass_on(&from, &to));
                pass_on(&server, client);
                return Ok(());
            }
            Fault::Silent => b"",
            Fault::Garbage => b"\x15\x03\x01\x00\x02\x02\x16 what is this\r\n\r\n",
            Fault::Error => PAGE,
            Fault::Closed => return client.shutdown(Shutdown::Both),
        };
        let mut buffer = [0; 4096];
        while (&*client).read(&mut buffer)? > 0 {
            (&*client).write_all(answer)?;
            if !answer.is_empty() {
                return client.shutdown(Shutdown::Write);
            }
        }
        Ok(())
    }

    fn keep(&self, stream: &TcpStream) -> io::Result<()> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(stream.try_clone()?);
        Ok(())
    }
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
