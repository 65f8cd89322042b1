//! The client's side of a connection to a monitor.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use gracefully_core::event::Progress;
use gracefully_core::policy::Request;
use gracefully_core::report::Report;
use gracefully_core::signal::Signal;
use rustix::fs::{Mode, OFlags, open};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::{Error, Result};

use super::home::Home;
use super::protocol::{self, Answer, Ask};

/// How long a monitor may take to answer what it can answer at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the monitor of one container.
#[derive(Debug)]
pub struct Control {
    id: String,
    stream: BufReader<UnixStream>,
}

impl Control {
    /// `None`: nobody listens, because the monitor is starting, leaving or dead.
    pub(super) async fn connect(home: &Home) -> Result<Option<Self>> {
        // The path may be longer than an address of a socket may be (108 bytes, unix(7)).
        let dir = open(home.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let Ok(dir) = dir else { return Ok(None) };
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join("control.sock");
        match UnixStream::connect(path).await {
            Ok(stream) => {
                Ok(Some(Self { id: home.id().to_owned(), stream: BufReader::with_capacity(4096, stream) }))
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(source) => {
                Err(Error::Io { what: "connect to", path: home.path().join("control.sock"), source })
            }
        }
    }

    /// Has the monitor stop, or restart, the container, and returns its report. The monitor goes on if the caller dies.
    ///
    /// Fails with [`Error::NotRunning`] if the container had ended before the request arrived.
    pub async fn stop(
        mut self,
        request: &Request,
        onlooker: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Report> {
        self.ask(&Ask::Stop(*request)).await?;
        loop {
            match self.answer().await? {
                Answer::Progress(progress) => onlooker(progress),
                Answer::Report(report) => return Ok(*report),
                other => return Err(self.misunderstood(other)),
            }
        }
    }

    pub(super) async fn signal(mut self, signal: Signal) -> Result<()> {
        self.ask(&Ask::Signal(signal)).await?;
        let late = |_| Error::Timeout { who: "the monitor".to_owned(), after: PATIENCE };
        match timeout(PATIENCE, self.answer()).await.map_err(late)?? {
            Answer::Done => Ok(()),
            other => Err(self.misunderstood(other)),
        }
    }

    /// The exit code, when the container is not running any more.
    pub(super) async fn wait(mut self) -> Result<i64> {
        self.ask(&Ask::Wait).await?;
        match self.answer().await? {
            Answer::Exited(code) => Ok(code),
            other => Err(self.misunderstood(other)),
        }
    }

    async fn ask(&mut self, ask: &Ask) -> Result<()> {
        protocol::write(&mut self.stream, ask).await.map_err(|_| self.not_running())
    }

    /// A monitor that leaves closes the connection: then the container has ended.
    async fn answer(&mut self) -> Result<Answer> {
        match protocol::read(&mut self.stream).await {
            Some(Answer::NotRunning) | None => Err(self.not_running()),
            Some(Answer::Failed(why)) => {
                Err(Error::System { what: "the monitor's work".to_owned(), source: io::Error::other(why) })
            }
            Some(answer) => Ok(answer),
        }
    }

    fn not_running(&self) -> Error {
        Error::NotRunning { id: self.id.clone() }
    }

    fn misunderstood(&self, answer: Answer) -> Error {
        Error::System {
            what: "talking to the monitor".to_owned(),
            source: io::Error::other(format!("{answer:?}")),
        }
    }
}
