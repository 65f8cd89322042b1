//! The instances behind a gateway: `examples/orders`.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_registry::{Deadline, Instance as Entry, Registry, open};

use crate::eventually;
use crate::server::free;

/// What they are instances of.
pub const SERVICE: &str = "orders";

/// How an instance is started.
#[derive(Clone, Debug)]
pub struct Service {
    program: PathBuf,
    url: String,
    /// Its registration is somebody else's, who does not hear of its end.
    is_held_by_another: bool,
    environment: Vec<(&'static str, String)>,
}

/// A running instance. Dropping it kills it.
#[derive(Debug)]
pub struct Instance {
    child: Child,
    pidfd: PidFd,
    at: SocketAddr,
    /// Who holds its registration, if it does not do so itself.
    holder: Option<Box<dyn Registry>>,
    _book: tempfile::TempDir,
}

impl Service {
    /// The service as it is: it registers itself there.
    pub fn registered(program: &Path, url: &str) -> Self {
        Self { program: program.into(), url: url.into(), is_held_by_another: false, environment: Vec::new() }
    }

    /// With this in its environment.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Registered by somebody else, who does not hear of its end.
    #[must_use]
    pub fn held_by_another(self) -> Self {
        Self { is_held_by_another: true, ..self }
    }

    /// Starts an instance, and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(&self) -> Instance {
        self.start_at(free())
    }

    /// The same, where another one was.
    ///
    /// # Panics
    /// If it does not listen.
    pub fn start_at(&self, at: SocketAddr) -> Instance {
        let book = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).arg("serve").arg(at.to_string());
        command.arg(book.path().join("book"));
        if !self.is_held_by_another {
            command.args(["--register", &self.url]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("the service starts");
        let pidfd = PidFd::open(child.id()).expect("it has not been waited for");
        let mut instance = Instance { child, pidfd, at, holder: None, _book: book };
        eventually("it listens", || TcpStream::connect(at).ok());
        if self.is_held_by_another {
            let mut holder = open(&self.url).expect("a registry");
            let entry = Entry::new(SERVICE, &at.ip().to_string(), at.port());
            holder.register(&entry, soon()).expect("it can be registered");
            instance.holder = Some(holder);
        }
        instance
    }
}

impl Instance {
    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Asks it to end, or kills it.
    pub fn signal(&self, signal: Signal) {
        // One that has ended hears nothing.
        let _ = self.pidfd.send(signal);
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let began = Instant::now();
        while !self.has_ended() {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
            park_timeout(Duration::from_millis(1));
        }
        self.take_out();
    }

    /// What is left of its registration, for who has been killed cannot do it.
    pub(crate) fn take_out(&mut self) {
        if let Some(mut holder) = self.holder.take() {
            let _ = holder.deregister(soon());
        }
    }

    /// Has it ended?
    ///
    /// # Panics
    /// If it is not our child.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn soon() -> Deadline {
    Deadline::within(Duration::from_secs(5))
}
