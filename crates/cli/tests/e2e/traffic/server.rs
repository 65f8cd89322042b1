//! A program that serves, and those who ask it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gracefully_linux::netns::NetNs;
use gracefully_load::{Client, Load, Outcome as Answer, Running as Clients, free_address};

use crate::harness::{Kind, Running, Target, World, eventually, new_name, run};

/// A server on a port of its own.
pub(crate) struct Server {
    pub(crate) target: Target,
    pub(crate) at: SocketAddr,
    /// Where its clients are, if not where we are.
    pub(crate) clients: Option<Neighbour>,
}

/// A container on the server's network.
pub(crate) struct Neighbour {
    pub(crate) network: String,
    pub(crate) name: String,
    namespace: NetNs,
}

/// By which way clients come to a container with a network of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// The host's loopback address: the engine's userland proxy accepts them.
    Proxy,
    /// Another address of the host: the kernel translates it to the container's.
    Nat,
    /// From another container to its own address.
    Neighbour,
}

/// Where the server listens in a container with a network of its own.
const INSIDE: &str = "0.0.0.0:8080";

impl Server {
    /// Another program that serves; `command` says how it is started to listen at an address.
    #[track_caller]
    pub(crate) fn start_program(world: &World, command: impl FnOnce(SocketAddr) -> Vec<String>) -> Self {
        let at = free_address().expect("a free port");
        let target = match world.kind {
            Kind::Bridge => {
                let publish = format!("{at}:8080");
                let inside = INSIDE.parse().expect("an address");
                world.start_program(&["--net=bridge", "--publish", &publish], &command(inside))
            }
            Kind::Docker | Kind::Podman | Kind::Reference => {
                world.start_program(&["--net=host"], &command(at))
            }
            Kind::Local | Kind::Process => world.start_program(&[], &command(at)),
        };
        Self { target, at, clients: None }
    }

    /// The victim serves HTTP without any handler for signals, or with what is said in `mode`.
    #[track_caller]
    pub(crate) fn start(world: &World, mode: &str) -> Self {
        if world.kind == Kind::Bridge {
            return Self::start_behind(world, mode, Way::Proxy);
        }
        let at = free_address().expect("a free port");
        let network: &[&str] = match world.kind {
            Kind::Docker | Kind::Bridge | Kind::Podman | Kind::Reference => &["--net=host"],
            Kind::Local | Kind::Process => &[],
        };
        let target = world.start_unready(network, &format!("{mode} {at}"));
        Self { target, at, clients: None }.when_it_listens(world)
    }

    /// The same in a container of the bridge.
    #[track_caller]
    pub(crate) fn start_behind(world: &World, mode: &str, way: Way) -> Self {
        let port = free_address().expect("a free port").port();
        let mode = format!("{mode} {INSIDE}");
        let published = |ip: Ipv4Addr, at: Ipv4Addr| {
            let publish = format!("{ip}:{port}:8080");
            let target = world.start_unready(&["--net=bridge", "--publish", &publish], &mode);
            Self { target, at: (at, port).into(), clients: None }
        };
        let server = match way {
            Way::Proxy => published(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST),
            Way::Nat => published(Ipv4Addr::UNSPECIFIED, GATEWAY),
            Way::Neighbour => {
                let network = BridgeNetwork::create(world);
                let net = format!("--net={}", network.name);
                let ip = Ipv4Addr::new(10, 231, network.number, 10);
                let target = world.start_unready(&[&net, "--ip", &ip.to_string()], &mode);
                let neighbour = world.start_with(&[&net], "slow 0 0");
                let namespace = NetNs::of(world.main_pid(&neighbour)).expect("its network namespace");
                let clients = Neighbour { network: network.name.clone(), name: neighbour.name, namespace };
                world.keep(Box::new(network));
                Self { target, at: (ip, 8080).into(), clients: Some(clients) }
            }
        };
        server.when_it_listens(world)
    }

    #[track_caller]
    pub(crate) fn when_it_listens(self, world: &World) -> Self {
        eventually("it listens", || world.log(&self.target).contains("listening").then_some(()));
        self
    }

    /// Does something where the clients are.
    pub(crate) fn there<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.clients {
            Some(neighbour) => neighbour.namespace.inside(work).expect("we are root"),
            None => work(),
        }
    }

    pub(crate) fn load(&self, path: &str, keep_alive: bool, think: Duration) -> Clients {
        let load = Load { path: path.into(), keep_alive, think, ..Load::new(self.at, 16) };
        self.there(|| load.start())
    }

    /// One request, beginning now.
    pub(crate) fn ask(&self, path: &'static str) -> JoinHandle<Answer> {
        let at = self.at;
        self.there(|| thread::spawn(move || Client::new(at, false).ask(path).0))
    }

    /// One request that the server has before this returns.
    pub(crate) fn ask_and_be_heard(&self, world: &World, path: &'static str) -> JoinHandle<Answer> {
        let main = world.main_pid(&self.target);
        let threads = || -> BTreeSet<OsString> {
            let threads = fs::read_dir(format!("/proc/{main}/task")).expect("it runs");
            threads.filter_map(|thread| Some(thread.ok()?.file_name())).collect()
        };
        let before = threads();
        let answer = self.ask(path);
        eventually("a thread answers it", || (!threads().is_subset(&before)).then_some(()));
        answer
    }

    /// A stop that drains for long: it has a minute, and waits for the one request, whose answer takes nine seconds.
    #[track_caller]
    pub(crate) fn begin_to_stop(&self, world: &World) -> (JoinHandle<Answer>, Running) {
        let answer = self.ask_and_be_heard(world, "/sleep/9000");
        let stop = world.spawn(&["stop", "-t", "60", &self.target.name]);
        self.answers(Answer::Refused);
        (answer, stop)
    }

    /// Waits until a new connection is not refused and not made: it is held.
    #[track_caller]
    pub(crate) fn holds(&self) {
        eventually("new connections wait", || {
            let connected = TcpStream::connect_timeout(&self.at, Duration::from_millis(50));
            connected.is_err_and(|error| error.kind() == ErrorKind::TimedOut).then_some(())
        });
    }

    /// Waits until a request on a new connection comes to this.
    #[track_caller]
    pub(crate) fn answers(&self, wanted: Answer) {
        eventually(&format!("a request is {wanted:?}"), || {
            (self.there(|| Client::new(self.at, false).ask("/").0) == wanted).then_some(())
        });
    }
}

/// The address of the host on the default bridge of the private daemon, whose network namespace is its own.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

/// A network of docker's with addresses that a test may give away.
#[derive(Debug)]
struct BridgeNetwork {
    name: String,
    number: u8,
    remove: Command,
}

impl BridgeNetwork {
    #[track_caller]
    fn create(world: &World) -> Self {
        let name = new_name();
        // Another test may be quicker with a number.
        let number = (1..=u8::MAX).find(|number| {
            let subnet = format!("10.231.{number}.0/24");
            run(&mut world.docker(&["network", "create", "--subnet", &subnet, &name])).code == 0
        });
        let remove = world.docker(&["network", "rm", &name]);
        Self { name, number: number.expect("a free subnet"), remove }
    }
}

impl Drop for BridgeNetwork {
    fn drop(&mut self) {
        let _ = self.remove.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
