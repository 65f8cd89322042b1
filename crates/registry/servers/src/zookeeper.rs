//! ZooKeeper, one server alone, and its own command line client.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::bridge::Change;
use crate::server::{find, free};
use crate::{Missing, Server};

/// With what it needs; Debian's package has no file in `PATH`.
const JAR: &str = "/usr/share/java/zookeeper.jar";

/// The same with a logger that writes on standard error: why it does not start, if it does not.
const AND_LOGGER: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar";

/// Sessions last between twice and twenty times this; it is looked for those that have run out as often.
const TICK: Duration = Duration::from_millis(500);

/// It answers within this time if it does.
const PATIENCE: Duration = Duration::from_millis(500);

/// A node that is called so and says so: whoever reads it after something else knows that this was all.
const END: &str = "end-of-answer";

/// The word of a watch, which ends with it.
const CHANGED: &str = "NodeChildrenChanged";

/// A running ZooKeeper.
#[derive(Debug)]
pub struct ZooKeeper {
    server: Server,
    at: SocketAddr,
    client: Mutex<Client>,
}

impl ZooKeeper {
    /// Starts one, and a client.
    ///
    /// # Errors
    /// If it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Result<Self, Missing> {
        let java = find("java", "default-jre-headless")?;
        find(JAR, "zookeeper")?;
        let at = free();
        let arguments = |directory: &Path, command: &mut Command| {
            let settings = directory.join("zoo.cfg");
            fs::write(&settings, configuration(at, directory)).expect("a file");
            // Nothing here has to outlive a loss of power.
            machine(command).arg("-Dzookeeper.forceSync=no").args(["-cp", AND_LOGGER]);
            command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(settings);
        };
        // It says `imok` to `ruok` before it takes sessions.
        let answers = |_: &Path| word(at, "srvr").is_ok_and(|said| said.contains("Mode: "));
        let server = Server::start(&java, arguments, answers);
        let client = Client::start(&java, at, server.directory());
        let zookeeper = Self { server, at, client: Mutex::new(client) };
        zookeeper.ctl(&[&format!("create /{END} {END}")]);
        Ok(zookeeper)
    }

    /// Where it listens.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Its process and its directory.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The lines that `zkCli.sh` says to these commands: a client that is not ours. What goes wrong it says elsewhere.
    ///
    /// # Panics
    /// If it has ended.
    pub fn ctl(&self, commands: &[&str]) -> Vec<String> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.say(commands).unwrap_or_else(|error| {
            panic!("{commands:?}: {error}: {}", fs::read_to_string(&client.errors).unwrap_or_default())
        })
    }

    /// The paths of all nodes from this one on, downwards.
    pub fn nodes(&self, from: &str) -> Vec<String> {
        let lines = self.ctl(&[&format!("ls -R {from}")]);
        lines.into_iter().filter(|line| line.starts_with(from)).collect()
    }

    /// Tells of every node below this one that there is, and of every change, on a thread that ends with the server. Nodes are as Curator
    /// writes them.
    ///
    /// # Panics
    /// If there is no such client.
    pub fn watch(&self, parent: &str, mut tell: impl FnMut(Change) + Send + 'static) {
        let java = find("java", "default-jre-headless").expect("it runs on it");
        let mut client = Client::start(&java, self.at, self.server.directory());
        let parent = parent.to_owned();
        // The one that is to be watched has to be there; whoever registers makes it anew if the servers have removed it.
        let (above, _) = parent.rsplit_once('/').unwrap_or_default();
        self.ctl(&[&format!("create {above}"), &format!("create {parent}")]);
        thread::spawn(move || {
            let mut known = BTreeMap::new();
            // An error is the end of the server.
            while let Ok(found) = client.children(&parent, &known) {
                let gone = known.keys().filter(|id| !found.contains_key(*id)).cloned().map(Change::Gone);
                let put = found.iter().filter(|(id, at)| known.get(*id) != Some(*at));
                let put = put.map(|(id, at)| Change::Put(id.clone(), *at));
                gone.chain(put).collect::<Vec<_>>().into_iter().for_each(&mut tell);
                known = found;
                if client.hears().is_err() {
                    return;
                }
            }
        });
    }

    /// How many sessions there are, ours among them.
    ///
    /// # Panics
    /// If it does not say.
    pub fn sessions(&self) -> usize {
        let monitor = word(self.at, "mntr").expect("it answers");
        let count = monitor.lines().find_map(|line| line.strip_prefix("zk_global_sessions\t"));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("{monitor}"))
    }
}

fn configuration(at: SocketAddr, directory: &Path) -> String {
    format!(
        "tickTime={}\ndataDir={}\nclientPortAddress={}\nclientPort={}\nadmin.enableServer=false\n4lw.commands.whitelist=*\n",
        TICK.as_millis(),
        directory.join("data").display(),
        at.ip(),
        at.port(),
    )
}

/// A Java machine that starts quickly and stays small.
fn machine(command: &mut Command) -> &mut Command {
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
}

/// What it says to one of its words of four letters.
fn word(at: SocketAddr, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    // What it is asked too early it may never answer.
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(word.as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// `zkCli.sh`, which reads commands for as long as it lives.
#[derive(Debug)]
struct Client {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    errors: std::path::PathBuf,
    /// Among its answers there was the word of a watch that has ended.
    has_heard: bool,
}

impl Client {
    fn start(java: &Path, server: SocketAddr, directory: &Path) -> Self {
        let errors = directory.join("client");
        // If we are killed, the kernel ends it.
        let mut command = Command::new("setpriv");
        machine(command.args(["--pdeathsig", "KILL", "--"]).arg(java)).args(["-cp", JAR]);
        command.args(["org.apache.zookeeper.ZooKeeperMain", "-waitforconnection"]);
        command.args(["-server", &server.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&errors).expect("a file"));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", java.display()));
        let commands = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, commands, answers, errors, has_heard: false }
    }

    fn say(&mut self, commands: &[&str]) -> io::Result<Vec<String>> {
        writeln!(self.commands, "{}\nget /{END}", commands.join("\n"))?;
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                END => return Ok(said),
                line => {
                    self.has_heard |= line.contains(CHANGED);
                    said.push(line.to_owned());
                }
            }
        }
    }
}

impl Client {
    /// The children of a node, and where they are; it will be told when they change. Those that are known are not read again.
    fn children(
        &mut self,
        parent: &str,
        known: &BTreeMap<String, SocketAddr>,
    ) -> io::Result<BTreeMap<String, SocketAddr>> {
        self.has_heard = false;
        let listed = self.say(&[&format!("ls -w {parent}")])?;
        let names = listed
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix('[')?.strip_suffix(']'))
            .unwrap_or_default();
        let mut found = BTreeMap::new();
        for name in names.split(", ").filter(|name| !name.is_empty()) {
            let at = if let Some(at) = known.get(name) {
                Some(*at)
            } else {
                let data = self.say(&[&format!("get {parent}/{name}")])?;
                data.iter().find_map(|line| address(line))
            };
            found.extend(at.map(|at| (name.to_owned(), at)));
        }
        Ok(found)
    }

    /// Waits until what is watched changes, if it has not already.
    fn hears(&mut self) -> io::Result<()> {
        let mut line = String::new();
        while !self.has_heard {
            line.clear();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.has_heard = line.contains(CHANGED);
        }
        Ok(())
    }
}

/// Where an instance is, by what Curator has written.
fn address(data: &str) -> Option<SocketAddr> {
    let data: Value = serde_json::from_str(data).ok()?;
    let port = data["port"].as_u64()?.try_into().ok()?;
    Some(SocketAddr::new(data["address"].as_str()?.parse().ok()?, port))
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
