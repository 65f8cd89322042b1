//! The proof: a registry, a gateway that repeats nothing, two instances of a service behind it, clients, and one of the instances ends.
//!
//! Sixteen clients keep their connections and ask as fast as they are answered; six requests that take two seconds are under way when the
//! end begins. Whatever a client does not get is counted.

use std::fmt::Debug;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use gracefully_load::{Client, Load, Outcome, Tally};

use crate::server::free;

/// What sends requests to whoever it was told of.
pub trait Gateway: Debug + Send + Sync + 'static {
    /// Where clients reach it.
    fn at(&self) -> SocketAddr;

    /// How many instances it may know at once; their places have the numbers from 1 on.
    fn places(&self) -> usize;

    /// This place is for this instance now.
    fn put(&self, place: usize, at: SocketAddr);

    /// No new request to this place.
    fn take(&self, place: usize);

    /// How many requests it has sent there.
    fn requests(&self, place: usize) -> u64;
}

/// The program of the instances, and what is different from its usual ways.
#[derive(Clone, Debug)]
pub struct Service {
    /// `examples/orders`.
    pub program: PathBuf,
    /// Where it registers itself; `None`: somebody else does.
    pub registry: Option<String>,
    /// Whatever else it is told.
    pub environment: Vec<(&'static str, String)>,
}

/// A running instance. Dropping it kills it.
#[derive(Debug)]
pub struct Instance {
    child: Child,
    pidfd: PidFd,
    at: SocketAddr,
    _book: tempfile::TempDir,
}

impl Service {
    /// The service as it is, registered there.
    pub fn registered(program: &Path, registry: String) -> Self {
        Self { program: program.into(), registry: Some(registry), environment: Vec::new() }
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
        if let Some(url) = &self.registry {
            command.args(["--register", url]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("the service starts");
        let pidfd = PidFd::open(child.id()).expect("it has not been waited for");
        let instance = Instance { child, pidfd, at, _book: book };
        wait_until("it listens", || TcpStream::connect(at).is_ok());
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

/// What clients have seen of one end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// What happened to quick requests.
    pub quick: Tally,
    /// Slow requests that were asked, and those that were not answered.
    pub slow: u64,
    /// Of these, how many were lost.
    pub slow_lost: u64,
    /// From the signal until the last new request was sent to the instance.
    pub last_request: Duration,
    /// From the signal until it had ended.
    pub ended: Duration,
}

impl Seen {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.quick.requests() + self.slow
    }

    /// Those that were not answered.
    pub fn failed(&self) -> u64 {
        self.quick.failed() + self.quick.raced + self.slow_lost
    }
}

/// How long clients ask before the end begins, and after it is over.
const BEFORE: Duration = Duration::from_millis(400);
const AFTER: Duration = Duration::from_millis(300);

/// Slow requests are under way so long before the end begins.
const SLOW_BEFORE: Duration = Duration::from_millis(200);
const SLOW: u64 = 6;

/// Clients ask, and an instance gets this signal. `place` is its place in the gateway.
///
/// # Panics
/// If it does not end.
pub fn end<G: Gateway>(gateway: &G, instance: &mut Instance, place: usize, signal: Signal) -> Seen {
    let clients = load(gateway);
    park_for(BEFORE);
    let slow = ask_slowly(gateway.at());
    park_for(SLOW_BEFORE);
    let began = Instant::now();
    instance.signal(signal);
    let (mut requests, mut last_request) = (gateway.requests(place), Duration::ZERO);
    while !instance.has_ended() {
        let now = gateway.requests(place);
        if now != requests {
            (requests, last_request) = (now, began.elapsed());
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
        park_timeout(Duration::from_millis(1));
    }
    let ended = began.elapsed();
    let slow_lost = slow.into_iter().map(|asked| asked.join().expect("no panic")).filter(|ok| !ok).count();
    park_for(AFTER);
    let quick = clients.stop();
    Seen { quick, slow: SLOW, slow_lost: slow_lost as u64, last_request, ended }
}

/// Sixteen clients that keep their connections.
pub fn load<G: Gateway>(gateway: &G) -> gracefully_load::Running {
    Load { keep_alive: true, ..Load::new(gateway.at(), 16) }.start()
}

fn ask_slowly(gateway: SocketAddr) -> Vec<JoinHandle<bool>> {
    let ask = move || Client::new(gateway, false).ask("/slow/2000").0 == Outcome::Answered;
    (0..SLOW).map(|_| thread::spawn(ask)).collect()
}

/// Waits until it is so.
///
/// # Panics
/// If it is not so after twenty seconds.
#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        park_timeout(Duration::from_millis(1));
    }
}

fn park_for(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        park_timeout(left);
    }
}
