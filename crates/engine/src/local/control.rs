//! The client's side of a connection to a monitor.

use std::future::pending;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use gracefully_core::event::Progress;
use gracefully_core::policy::Request;
use gracefully_core::report::Report;
use gracefully_core::signal::Signal;
use gracefully_monitor::protocol::{Answer, Ask};
use rustix::fs::{Mode, OFlags, open};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::{Error, Result};

use super::home::Home;
use super::{Local, lines};

/// How long a monitor may take to answer what it can answer at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the monitor of one container.
#[derive(Debug)]
pub struct Control {
    engine: Local,
    id: String,
    stream: UnixStream,
}

impl Control {
    /// `None`: nobody listens, because the monitor is starting, leaving or dead.
    pub(super) async fn connect(engine: &Local, home: &Home) -> Result<Option<Self>> {
        // The path may be longer than an address of a socket may be (108 bytes, unix(7)).
        let dir = open(home.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let Ok(dir) = dir else { return Ok(None) };
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join("control.sock");
        match UnixStream::connect(path).await {
            Ok(stream) => Ok(Some(Self { engine: engine.clone(), id: home.id().to_owned(), stream })),
            Err(error) if is_nobody(&error) => Ok(None),
            Err(source) => {
                Err(Error::Io { what: "connect to", path: home.path().join("control.sock"), source })
            }
        }
    }

    /// Has the monitor stop, or restart, the container, and returns its report. The monitor goes on if the caller dies.
    /// When `abort` is ready the program is left alone, if it is not too late and nobody else has asked.
    ///
    /// Fails with [`Error::NotRunning`] if the container had ended before the request arrived, with [`Error::System`] if
    /// the monitor was killed meanwhile, with [`Error::Timeout`] if it hangs.
    pub async fn stop(
        mut self,
        request: &Request,
        abort: impl Future<Output = ()>,
        onlooker: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Report> {
        self.ask(&Ask::Stop(request.clone())).await;
        let Self { engine, id, stream } = &mut self;
        let (from, mut to) = stream.split();
        let mut from = BufReader::with_capacity(4096, from);
        let listen = async {
            // How long it takes is the container's affair; but that it has begun is said at once.
            let mut answer = within(PATIENCE, read_answer(&mut from, id)).await?;
            loop {
                match answer {
                    Some(Answer::Progress(progress)) => onlooker(understand(&progress)?),
                    Some(Answer::Report(report)) => return understand(&report),
                    Some(other) => return Err(misunderstood(&other)),
                    None => return Err(engine.monitor_lost(id).await),
                }
                answer = read_answer(&mut from, id).await?;
            }
        };
        let take_back = async {
            abort.await;
            let _ = lines::write(&mut to, &Ask::Abort).await;
            pending::<()>().await;
        };
        tokio::select! {
            report = listen => report,
            () = take_back => unreachable!("it is pending for ever"),
        }
    }

    /// `None`: the monitor left, or was killed, before it answered.
    pub(super) async fn signal(mut self, signal: Signal) -> Result<Option<()>> {
        self.ask(&Ask::Signal(signal)).await;
        match within(PATIENCE, self.answer()).await? {
            Some(Answer::Done) => Ok(Some(())),
            Some(other) => Err(misunderstood(&other)),
            None => Ok(None),
        }
    }

    /// The exit code, when the container is not running any more. `None`: the monitor left, or was killed, before it
    /// answered.
    pub(super) async fn wait(mut self) -> Result<Option<i64>> {
        self.ask(&Ask::Wait).await;
        match self.answer().await? {
            Some(Answer::Exited(code)) => Ok(Some(code)),
            Some(other) => Err(misunderstood(&other)),
            None => Ok(None),
        }
    }

    async fn ask(&mut self, ask: &Ask) {
        // If nobody reads it, there is no answer either.
        let _ = lines::write(&mut self.stream, ask).await;
    }

    /// The only answer, or the last.
    async fn answer(&mut self) -> Result<Option<Answer>> {
        read_answer(&mut BufReader::with_capacity(4096, &mut self.stream), &self.id).await
    }
}

/// What the monitor of this container says next; `None`: nothing any more.
async fn read_answer(from: &mut (impl AsyncBufRead + Unpin), id: &str) -> Result<Option<Answer>> {
    match lines::read(from).await {
        Some(Answer::NotRunning) => Err(Error::NotRunning { id: id.to_owned() }),
        Some(Answer::Failed(why)) => {
            Err(Error::System { what: "the monitor's work".to_owned(), source: io::Error::other(why) })
        }
        answered => Ok(answered),
    }
}

/// Does nobody listen? The connection is reset if whoever listened has gone before it was accepted.
fn is_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset)
}

/// A monitor answers within this time, or it hangs.
async fn within<T>(time: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(time, answer).await.map_err(|_| Error::Timeout { who: "the monitor".to_owned(), after: time })?
}

/// What a conductor has said, handed on by the monitor.
fn understand<T: DeserializeOwned>(said: &RawValue) -> Result<T> {
    serde_json::from_str(said.get()).map_err(|error| talking(format!("{said} ({error})")))
}

fn misunderstood(answer: &Answer) -> Error {
    talking(format!("{answer:?}"))
}

fn talking(why: String) -> Error {
    Error::System { what: "talking to the monitor".to_owned(), source: io::Error::other(why) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_monitor_that_dies_while_we_connect_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Local::open_at(&dir.path().join("state")).unwrap();
        let home = engine.root.home("a1");
        fs::create_dir_all(home.path()).unwrap();
        let monitor = UnixListener::bind(home.path().join("control.sock")).unwrap();
        let mut connecting = pin!(Control::connect(&engine, &home));
        let begun = std::future::poll_fn(|context| Poll::Ready(connecting.as_mut().poll(context)));
        assert!(begun.await.is_pending());
        drop(monitor);
        assert!(connecting.await.unwrap().is_none());
    }
}
