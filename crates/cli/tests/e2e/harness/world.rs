//! One engine, with containers that belong to one test.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use gracefully_linux::netns::NetNs;
use serde_json::Value;

use super::{Outcome, Running, Skip, clean, eventually, gracefully, run, start};

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// gracefully on the private docker daemon.
    Docker,
    /// The same with the daemon's bridge and published ports, where the test makes use of the network.
    Bridge,
    /// gracefully on the socket of a private Podman, which speaks docker's API.
    Podman,
    /// gracefully's own engine.
    Local,
    /// gracefully on plain processes of this host.
    Process,
    /// The docker CLI, first in PATH, on the same daemon: what the others are measured by.
    Reference,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "docker" => Self::Docker,
            "bridge" => Self::Bridge,
            "podman" => Self::Podman,
            "local" => Self::Local,
            "process" => Self::Process,
            "reference" => Self::Reference,
            other => panic!("no engine is called {other}"),
        }
    }
}

/// One engine and what this test has started on it; all of that is removed in the end.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) kind: Kind,
    docker: String,
    /// Where the daemon's host network is.
    network: Option<NetNs>,
    directory: tempfile::TempDir,
    made: RefCell<Vec<String>>,
    has_disk: Cell<bool>,
    children: RefCell<Vec<(u32, Child)>>,
    kept: RefCell<Vec<Box<dyn std::fmt::Debug>>>,
}

/// Something to be stopped: the name as one types it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
}

impl Target {
    /// The line that a successful command prints.
    pub(crate) fn line(&self) -> String {
        format!("{}\n", self.name)
    }
}

impl World {
    /// An engine that can be used here, or why it cannot.
    pub(crate) fn open(kind: Kind) -> Result<Self, Skip> {
        let docker = match kind {
            Kind::Docker | Kind::Reference => host("DOCKER")?,
            Kind::Bridge => {
                host("DOCKER").and_then(|host| match std::env::var("GRACEFULLY_TEST_NO_BRIDGE") {
                    Ok(why) => Err(Skip(why)),
                    Err(_) => Ok(host),
                })?
            }
            Kind::Podman => host("PODMAN")?,
            Kind::Local if !rustix::process::geteuid().is_root() => {
                return Err(Skip("the local engine's namespaces need root".to_string()));
            }
            Kind::Local | Kind::Process => String::new(),
        };
        let directory = tempfile::Builder::new().prefix("gracefully-e2e-").tempdir().expect("a directory");
        fs::copy(victim()?, directory.path().join("victim")).expect("a victim of our own");
        Ok(Self {
            kind,
            docker,
            network: match kind {
                Kind::Docker | Kind::Bridge | Kind::Reference => network_of_docker(),
                Kind::Podman | Kind::Local | Kind::Process => None,
            },
            directory,
            made: RefCell::default(),
            has_disk: Cell::default(),
            children: RefCell::default(),
            kept: RefCell::default(),
        })
    }

    /// Does something where the daemon's host network is: what the test starts, and its clients, are there, too.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.network {
            Some(network) => network.inside(work).expect("we may go into the namespace of our own daemon"),
            None => work(),
        }
    }

    /// A directory of this test. Every process of it has the path in its command line.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The local engine's state.
    pub(crate) fn state_directory(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Puts a small disk under the state directory, as long as this world lives.
    #[track_caller]
    pub(crate) fn small_disk(&self, bytes: &str) -> PathBuf {
        let at = self.state_directory();
        fs::create_dir_all(&at).expect("a directory");
        let options = format!("size={bytes},mode=0700");
        let mount = run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at));
        assert_eq!(mount.code, 0, "{mount:#?}");
        self.has_disk.set(true);
        at
    }

    /// This test's copy of the victim.
    pub(crate) fn victim(&self) -> String {
        self.directory.path().join("victim").display().to_string()
    }

    /// The program under test with these arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.kind {
            Kind::Reference => return self.docker(args),
            Kind::Docker | Kind::Bridge | Kind::Podman => {
                gracefully(&["--engine", "docker", "--host", &self.docker])
            }
            Kind::Local => gracefully(&["--engine", "local"]),
            Kind::Process => gracefully(&[]),
        };
        command.args(args).env("GRACEFULLY_STATE_DIR", self.state_directory());
        command
    }

    /// The program under test, or another one, as a user without any rights runs it.
    pub(crate) fn as_nobody(&self, program: &Path) -> Command {
        // Nobody may not read our target directory; a copy of the program is.
        let name = program.file_name().expect("a program").display();
        let copy = self.directory().join(format!("nobodys-{name}"));
        fs::set_permissions(self.directory(), fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::copy(program, &copy).expect("a copy");
        let mut command = clean(Path::new("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(copy);
        command
    }

    /// Another program of ours on this local engine, with these arguments.
    pub(crate) fn other(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = clean(program);
        command.args(["--engine", "local"]).args(args).env("GRACEFULLY_STATE_DIR", self.state_directory());
        command
    }

    /// Runs the program under test.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(args))
    }

    /// Starts the program under test.
    #[track_caller]
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        start(&mut self.command(args))
    }

    /// The docker CLI on the private daemon; it speaks to Podman, too.
    pub(crate) fn docker(&self, args: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.args(["--host", &self.docker]).args(args).env_remove("DOCKER_CONTEXT");
        docker
    }

    /// The path of the daemon's socket.
    pub(crate) fn docker_socket(&self) -> &str {
        self.docker.trim_start_matches("unix://")
    }

    /// Starts the victim in this mode and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(&self, mode: &str) -> Target {
        self.start_with(&[], mode)
    }

    /// The same with options for `run`.
    #[track_caller]
    pub(crate) fn start_with(&self, options: &[&str], mode: &str) -> Target {
        let target = self.start_unready(options, mode);
        eventually("the program says that it has started", || {
            self.log(&target).contains("started").then_some(())
        });
        target
    }

    /// The same without waiting, for modes that do not say that they are ready.
    #[track_caller]
    pub(crate) fn start_unready(&self, options: &[&str], mode: &str) -> Target {
        if self.kind == Kind::Process {
            let words: Vec<String> = mode.split_whitespace().map(ToString::to_string).collect();
            return self.start_process(&mut Command::new(self.victim()), &words);
        }
        let name = new_name();
        self.own(&name);
        let outcome = run(&mut self.run_detached(&name, options, mode));
        assert_eq!(outcome.code, 0, "{outcome:#?}");
        Target { name }
    }

    /// Starts a container of docker's from another image than the victim's, and waits for its first words.
    #[track_caller]
    pub(crate) fn start_image(&self, options: &[&str], image: &str, command: &[&str]) -> Target {
        let target = Target { name: new_name() };
        self.own(&target.name);
        let mut docker =
            self.docker(&["run", "--detach", "--pull=never", "--net=none", "--name", &target.name]);
        let outcome = run(docker.args(options).arg(image).args(command));
        assert_eq!(outcome.code, 0, "{outcome:#?}");
        eventually("it has started", || (!self.log(&target).is_empty()).then_some(()));
        target
    }

    /// Starts a program of this host, which finds the directory of this test where we see it.
    #[track_caller]
    pub(crate) fn start_program(&self, options: &[&str], command: &[String]) -> Target {
        if self.kind == Kind::Process {
            return self.start_process(&mut Command::new(&command[0]), &command[1..]);
        }
        let target = Target { name: new_name() };
        self.own(&target.name);
        let mut run_it = match self.kind {
            Kind::Docker | Kind::Bridge | Kind::Podman | Kind::Reference => {
                let at = self.directory().display();
                let mut docker = self.docker(&["run", "--detach", "--pull=never", "--name", &target.name]);
                docker.args(options).args(["--volume", "/usr:/usr:ro", "--volume", &format!("{at}:{at}")]);
                docker.arg("gracefully-test/host");
                docker
            }
            Kind::Local => {
                let mut local = self.command(&["run", "-d", "--name", &target.name]);
                local.args(options).arg("--");
                local
            }
            Kind::Process => unreachable!("it is not run by an engine"),
        };
        let outcome = run(run_it.args(command));
        assert_eq!(outcome.code, 0, "{outcome:#?}");
        target
    }

    /// The command that starts a container.
    pub(crate) fn run_detached(&self, name: &str, options: &[&str], mode: &str) -> Command {
        let mode = mode.split_whitespace();
        match self.kind {
            Kind::Docker | Kind::Bridge | Kind::Podman | Kind::Reference => {
                let mut docker = self.docker(&["run", "--detach", "--pull=never", "--name", name]);
                // Without a network a container is made in a third of the time.
                if !options.iter().any(|option| option.starts_with("--net=")) {
                    docker.arg("--net=none");
                }
                docker.args(options).arg("gracefully-test/victim").args(mode);
                docker
            }
            Kind::Local => {
                let mut local = self.command(&["run", "-d", "--name", name]);
                local.args(options).args(["--", &self.victim()]).args(mode);
                local
            }
            Kind::Process => unreachable!("a process is not run by an engine"),
        }
    }

    fn start_process(&self, command: &mut Command, args: &[String]) -> Target {
        let log = fs::File::create(self.directory().join("log")).expect("a log");
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        self.adopt(child)
    }

    /// Makes a child of the test's own a target, and ends it when the test ends.
    pub(crate) fn adopt(&self, child: Child) -> Target {
        let pid = child.id();
        self.children.borrow_mut().push((pid, child));
        Target { name: format!("pid:{pid}") }
    }

    /// The main process, as this host numbers it.
    pub(crate) fn main_pid(&self, target: &Target) -> u32 {
        let pid = target.name.strip_prefix("pid:").map(str::to_string);
        let pid = pid.unwrap_or_else(|| self.field(target, "/State/Pid").to_string());
        pid.parse().expect("a PID")
    }

    /// Drops this when the test has ended, after the containers.
    pub(crate) fn keep(&self, it: Box<dyn std::fmt::Debug>) {
        self.kept.borrow_mut().push(it);
    }

    /// Removes this container, too, when the test ends.
    pub(crate) fn own(&self, name: &str) {
        self.made.borrow_mut().push(name.to_string());
    }

    /// The process that looks after a container of the local engine: the parent of its main process.
    #[track_caller]
    pub(crate) fn monitor(&self, target: &Target) -> u32 {
        let main = self.main_pid(target);
        let status = fs::read_to_string(format!("/proc/{main}/status")).expect("its status");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
        let parent: u32 = parent.trim().parse().expect("a PID");
        assert_ne!(parent, 1, "nobody watches {main}");
        parent
    }

    /// The last stop's report, as it is written down on the local engine.
    #[track_caller]
    pub(crate) fn report(&self, target: &Target) -> Value {
        let id = self.field(target, "/Id");
        let id = id.as_str().expect("an identifier");
        let file = self.state_directory().join("containers").join(id).join("report.json");
        // Whoever has not asked for the stop may see the program end before the conductor has written it.
        eventually("there is a report", || file.exists().then_some(()));
        read_report(&file)
    }

    /// Everything the container has written.
    #[track_caller]
    pub(crate) fn log(&self, target: &Target) -> String {
        let outcome = match self.kind {
            Kind::Process => {
                return fs::read_to_string(self.directory().join("log")).expect("the log of the process");
            }
            Kind::Docker | Kind::Bridge | Kind::Podman | Kind::Reference => {
                run(&mut self.docker(&["logs", &target.name]))
            }
            Kind::Local => self.run(&["logs", &target.name]),
        };
        assert_eq!(outcome.code, 0, "{outcome:#?}");
        outcome.stdout()
    }

    /// A field of `inspect`, by its JSON pointer, as docker itself (or, locally, we) tell it.
    #[track_caller]
    pub(crate) fn field(&self, target: &Target, pointer: &str) -> Value {
        let outcome = match self.kind {
            Kind::Process => unreachable!("a process has no record"),
            Kind::Docker | Kind::Bridge | Kind::Podman | Kind::Reference => {
                run(&mut self.docker(&["inspect", &target.name]))
            }
            Kind::Local => self.run(&["inspect", &target.name]),
        };
        assert_eq!(outcome.code, 0, "{outcome:#?}");
        let all: Value = serde_json::from_slice(&outcome.stdout).expect("inspect prints JSON");
        all[0].pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {all:#}")).clone()
    }

    /// `.State.Status`
    #[track_caller]
    pub(crate) fn status(&self, target: &Target) -> String {
        self.field(target, "/State/Status").as_str().expect("a word").to_string()
    }

    /// The exit code, once it is not running any more.
    #[track_caller]
    pub(crate) fn exit_code(&self, target: &Target) -> i64 {
        use std::os::unix::process::ExitStatusExt;
        if self.kind == Kind::Process {
            let mut children = self.children.borrow_mut();
            let (_, child) = children
                .iter_mut()
                .find(|(pid, _)| target.name == format!("pid:{pid}"))
                .expect("a process of this test");
            let status = eventually("the process has ended", || child.try_wait().expect("our own child"));
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            return code.expect("exited or killed").into();
        }
        eventually("the container has ended", || (self.status(target) == "exited").then_some(()));
        self.field(target, "/State/ExitCode").as_i64().expect("a number")
    }

    /// Is there such a container?
    pub(crate) fn exists(&self, target: &Target) -> bool {
        let outcome = match self.kind {
            Kind::Process => return Path::new(&target.name.replace("pid:", "/proc/")).exists(),
            Kind::Docker | Kind::Bridge | Kind::Podman | Kind::Reference => {
                run(&mut self.docker(&["inspect", &target.name]))
            }
            Kind::Local => self.run(&["inspect", &target.name]),
        };
        outcome.code == 0
    }

    /// What is said of a name that nobody has. Podman has words of its own, which are passed on like docker's.
    pub(crate) fn no_such(&self, name: &str) -> String {
        match self.kind {
            Kind::Podman => format!("no container with name or ID \"{name}\" found: no such container\n"),
            Kind::Docker | Kind::Bridge | Kind::Local | Kind::Process | Kind::Reference => {
                format!("No such container: {name}\n")
            }
        }
    }

    /// What is said of a container that a signal cannot be sent to.
    pub(crate) fn not_running(&self) -> &'static str {
        match self.kind {
            Kind::Podman => "can only kill running containers",
            Kind::Docker | Kind::Bridge | Kind::Local | Kind::Process | Kind::Reference => "is not running",
        }
    }

    /// What is said of the beginning of several identifiers.
    pub(crate) fn ambiguous(&self, prefix: &str) -> String {
        match self.kind {
            Kind::Podman => format!("more than one result for container ID {prefix}"),
            Kind::Docker | Kind::Bridge | Kind::Local | Kind::Process | Kind::Reference => {
                format!("Multiple IDs found with provided prefix: {prefix}")
            }
        }
    }

    /// Processes of the host that belong to this test: the victims, and on the local engine what conducts them.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let needle = self.directory.path().display().to_string();
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| {
                let line = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).ok()?)
                    .replace('\0', " ");
                line.contains(&needle).then_some((pid, line))
            })
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (_, mut child) in self.children.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let made = self.made.take();
        let names = made.iter().map(String::as_str);
        let mut remove = match self.kind {
            Kind::Docker | Kind::Bridge | Kind::Podman | Kind::Reference => self.docker(&["rm", "--force"]),
            Kind::Local => self.command(&["rm", "-f"]),
            Kind::Process => return,
        };
        if !made.is_empty() {
            let _ = remove.args(names).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        // Only now: without their state nobody could remove the containers.
        if self.has_disk.get() {
            let _ = Command::new("umount").arg("--lazy").arg(self.state_directory()).status();
        }
    }
}

/// A name that no other test has.
pub(crate) fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A docker container that was never started; the local engine has none.
pub(crate) fn created(world: &World) -> Target {
    let name = new_name();
    world.own(&name);
    let create = ["create", "--net=none", "--name", &name, "gracefully-test/victim", "slow", "0", "0"];
    assert_eq!(run(&mut world.docker(&create)).code, 0);
    Target { name }
}

/// The address of the private DOCKER or PODMAN, or why there is none.
fn host(engine: &str) -> Result<String, Skip> {
    let of = |what: String| std::env::var(format!("GRACEFULLY_TEST_{what}"));
    of(format!("{engine}_HOST")).map_err(|_| {
        let why = of(format!("NO_{engine}"));
        Skip(why.unwrap_or_else(|_| format!("no private {}: run cargo xtask test", engine.to_lowercase())))
    })
}

/// The network namespace of the private daemon, which is the host to its containers.
fn network_of_docker() -> Option<NetNs> {
    let pid = std::env::var("GRACEFULLY_TEST_DOCKER_PID").ok()?;
    Some(NetNs::of(pid.parse().expect("a PID")).expect("the daemon runs, and we are root"))
}

/// A report that was written to a file.
#[track_caller]
pub(crate) fn read_report(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).expect("a report")).expect("JSON")
}

/// The static victim.
fn victim() -> Result<PathBuf, Skip> {
    std::env::var_os("GRACEFULLY_TEST_VICTIM")
        .map(PathBuf::from)
        .ok_or_else(|| Skip("the victim is not built: run cargo xtask test".to_string()))
}
