//! An init under test, in one of the ways in which inits run.

#[path = "../../../../xtask/skip.rs"]
mod counted;

use std::io::{BufRead, BufReader, PipeWriter, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_linux::PidFd;
use rustix::process::Pid;

/// Nothing that is waited for takes longer. An init that fails a case is not waited for so long by those who expect that.
fn patience() -> Duration {
    let seconds = std::env::var("GRACEFULLY_TEST_PATIENCE").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}

/// In which way the init runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As PID 1 of a namespace, as root.
    Pid1,
    /// As PID 1, as nobody without any capability, with `no_new_privs`, on a root that cannot be written to.
    Unprivileged,
    /// Not as PID 1.
    Subreaper,
}

/// Which init runs.
pub(crate) fn init() -> PathBuf {
    std::env::var_os("GRACEFULLY_TEST_INIT")
        .map_or_else(|| env!("CARGO_BIN_EXE_gracefully-init").into(), PathBuf::from)
}

/// Whether it is ours; another one is only asked what it does.
pub(crate) fn is_ours() -> bool {
    init().file_name().is_some_and(|name| name == "gracefully-init")
}

/// Does the init under test have this option, to the same effect?
fn is_known(option: &str) -> bool {
    let name = init();
    let known: &[&str] = match name.file_name().and_then(std::ffi::OsStr::to_str) {
        Some("tini") => &["-s", "-p", "-g", "-e", "-e143", "-v", "-w"],
        Some("dumb-init") => &["-r", "--rewrite", "-c", "-v"],
        Some("catatonit") => &["-g"],
        _ => return true,
    };
    known.contains(&option)
}

pub(crate) fn app() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/app.py")
}

/// A command that runs [`app`] with these words.
pub(crate) fn python(words: &str) -> Vec<String> {
    ["python3", app()].into_iter().chain(words.split_whitespace()).map(str::to_owned).collect()
}

pub(crate) fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

/// How an init is to be started.
#[derive(Debug)]
pub(crate) struct Setup {
    way: Way,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    /// Runs in front of it, as `sh -c 'SCRIPT; exec "$@"'`.
    before: Option<String>,
    stdin: Option<Stdio>,
}

impl Setup {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, options: Vec::new(), variables: Vec::new(), before: None, stdin: None }
    }

    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn before(mut self, script: &str) -> Self {
        self.before = Some(script.to_owned());
        self
    }

    pub(crate) fn stdin(mut self, stdin: Stdio) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// A `read` in its program lasts until this is dropped.
    pub(crate) fn read_from(self) -> (Self, PipeWriter) {
        let (reads, end) = std::io::pipe().expect("a pipe");
        (self.stdin(reads.into()), end)
    }

    /// Starts it in front of this command. Another init that has not an option of this case cannot pass it; that is counted as
    /// skipped, so that it is told from one that does something else.
    pub(crate) fn start(self, command: &[impl AsRef<str>]) -> Running {
        if let Some(option) = self.options.iter().find(|option| option.starts_with('-') && !is_known(option))
        {
            skip("it has no such option");
            panic!("it has no option {option}");
        }
        let mut words: Vec<String> = Vec::new();
        let mut add = |more: &[&str]| words.extend(more.iter().map(|&word| word.to_owned()));
        match self.way {
            Way::Pid1 => add(&["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]),
            Way::Unprivileged => add(&[
                "unshare",
                "--fork",
                "--pid",
                "--mount-proc",
                "--kill-child",
                "sh",
                "-c",
                "mount -o remount,ro,bind / && exec \"$@\"",
                "sh",
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--bounding-set=-all",
                "--inh-caps=-all",
                "--no-new-privs",
            ]),
            Way::Subreaper => {}
        }
        if let Some(script) = &self.before {
            add(&["bash", "-c", &format!("{script}; exec \"$@\""), "bash"]);
        }
        words.push(binary().display().to_string());
        words.extend(self.options);
        words.push("--".to_owned());
        words.extend(command.iter().map(|word| word.as_ref().to_owned()));

        let mark = new_mark();
        let mut starter = Command::new(&words[0]);
        starter
            .args(&words[1..])
            .env_remove("GRACEFULLY_GRACE")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env(MARK, &mark)
            .envs(self.variables)
            .stdin(self.stdin.unwrap_or_else(Stdio::null))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let began = Instant::now();
        let mut starter = starter.spawn().expect("unshare, setpriv and bash are there");
        let out = lines(starter.stdout.take().expect("it is piped"));
        let err = lines(starter.stderr.take().expect("it is piped"));
        Running {
            starter,
            way: self.way,
            mark,
            lines: out,
            errors: err,
            began,
            init: None,
            said: Vec::new(),
            patience: patience(),
        }
    }
}

/// The binary where nobody needs rights to read it.
fn binary() -> &'static Path {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::OnceLock;
    static BINARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BINARY.get_or_init(|| {
        let dir = tempfile::Builder::new()
            .prefix("init-suite-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a directory");
        let path = dir.path().join(init().file_name().expect("a file"));
        // By another process: if this one wrote it, a test that forks at that moment would keep it from being executed.
        let copied = Command::new("cp").arg(init()).arg(&path).status().expect("cp is there");
        assert!(copied.success(), "the init can be copied");
        (dir, path)
    });
    path
}

/// Every line as it comes.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    told
}

/// An init that runs.
#[derive(Debug)]
pub(crate) struct Running {
    starter: Child,
    way: Way,
    /// In the environment of everything that it has started.
    mark: String,
    lines: Receiver<String>,
    errors: Receiver<String>,
    began: Instant,
    init: Option<Pid>,
    said: Vec<String>,
    patience: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// 128 + n if a signal ended it.
    pub(crate) code: i32,
    /// What was said on standard output, also before.
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
    /// Since it was started, or since [`Running::restart_clock`].
    pub(crate) took: Duration,
}

impl Running {
    /// The next line on standard output.
    pub(crate) fn line(&mut self) -> String {
        let line = self
            .lines
            .recv_timeout(patience())
            .unwrap_or_else(|_| panic!("nothing more was said: {:?}", self.said));
        self.said.push(line.clone());
        line
    }

    /// Waits until this line is said on standard output.
    pub(crate) fn says(&mut self, wanted: &str) {
        while self.line() != wanted {}
    }

    /// The next line on standard error.
    pub(crate) fn complaint(&mut self) -> String {
        self.errors.recv_timeout(patience()).expect("something is said on standard error")
    }

    /// The PID of the init as we see it.
    pub(crate) fn pid(&mut self) -> Pid {
        *self.init.get_or_insert_with(|| {
            let starter = Pid::from_child(&self.starter);
            let pid = if self.way == Way::Subreaper { starter } else { child_of(starter) };
            // What comes before it is another program with the same PID.
            let exe = format!("/proc/{}/exe", pid.as_raw_nonzero());
            eventually("it is the init", || std::fs::read_link(&exe).is_ok_and(|exe| exe == binary()));
            pid
        })
    }

    /// The PID of main as we see it: the first child of the init.
    pub(crate) fn main(&mut self) -> Pid {
        child_of(self.pid())
    }

    /// Sends the init a signal, from outside.
    pub(crate) fn signal(&mut self, number: i32) {
        send(self.pid(), number);
    }

    pub(crate) fn restart_clock(&mut self) {
        self.began = Instant::now();
    }

    /// Has it ended?
    pub(crate) fn has_ended(&mut self) -> bool {
        self.starter.try_wait().expect("it is our child").is_some()
    }

    /// It may take its time, whoever it is.
    pub(crate) fn patiently(mut self) -> Self {
        self.patience = Duration::from_secs(20);
        self
    }

    /// Was this line said already?
    pub(crate) fn said(&self, line: &str) -> bool {
        self.said.iter().any(|said| said == line)
    }

    /// Waits for its end, and gives the exit code.
    pub(crate) fn end_quickly(mut self) -> i32 {
        self.wait()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let code = self.wait();
        let took = self.began.elapsed();
        let mut out = std::mem::take(&mut self.said);
        // Whoever outlives the init and holds its output would keep us here.
        let rest = |from: &Receiver<String>| {
            std::iter::from_fn(|| from.recv_timeout(Duration::from_millis(300)).ok()).collect::<Vec<_>>()
        };
        out.extend(rest(&self.lines));
        let err = rest(&self.errors);
        Ended { code, out, err, took }
    }

    fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let mut ended = None;
        within(self.patience, "it ends", || {
            ended = self.starter.try_wait().expect("it is our child");
            ended.is_some()
        });
        let status = ended.expect("it has ended");
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.starter.try_wait() {
            if let Some(init) = self.init {
                send(init, 9);
            }
            let _ = self.starter.kill();
            let _ = self.starter.wait();
        }
        if self.way == Way::Subreaper {
            // Without a PID namespace what it leaves behind goes on.
            for process in marked(&self.mark) {
                let _ = process.send(Signal::KILL);
            }
        }
    }
}

/// The variable that tells one init's processes from another's.
const MARK: &str = "GRACEFULLY_TEST_MARK";

fn new_mark() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Everything with this mark.
fn marked(mark: &str) -> Vec<PidFd> {
    let variable = format!("{MARK}={mark}");
    // It is held first, so that it is still the same when it is looked at.
    let is_marked = |process: &PidFd| {
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid()));
        environment.is_ok_and(|all| all.split(|byte| *byte == 0).any(|it| it == variable.as_bytes()))
    };
    let names = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| PidFd::open(pid).ok()).filter(is_marked).collect()
}

/// Between two looks at something that nobody tells us of.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(2));
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(patience(), what, holds);
}

fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        pause();
    }
}

/// Whether it goes on holding for a while.
pub(crate) fn stays(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if !holds() {
            return false;
        }
        pause();
    }
    true
}

/// Sends a process a signal, if it is there.
pub(crate) fn send(pid: Pid, number: i32) {
    let signal = Signal::from_number(number.into()).expect("a signal");
    if let Ok(pidfd) = PidFd::open(pid.as_raw_nonzero().get().cast_unsigned()) {
        let _ = pidfd.send(signal);
    }
}

/// The first child of a process.
fn child_of(parent: Pid) -> Pid {
    let path = format!("/proc/{0}/task/{0}/children", parent.as_raw_nonzero());
    let mut found = None;
    eventually("there is a child", || {
        let children = std::fs::read_to_string(&path).unwrap_or_default();
        found = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        found.is_some()
    });
    found.expect("there is a child")
}

/// One field of `/proc/PID/status`.
pub(crate) fn status(pid: Pid, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Children of a process.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Whether this machine lets inits run in this way; if not, says so and counts it as skipped.
pub(crate) fn can_run(way: Way) -> bool {
    let why = match way {
        Way::Subreaper => return true,
        Way::Pid1 | Way::Unprivileged if rustix::process::geteuid().is_root() => return true,
        Way::Pid1 | Way::Unprivileged => "a PID namespace needs root",
    };
    skip(why);
    false
}

/// Says that the test of this thread cannot run here, and counts it.
pub(crate) fn skip(why: &str) {
    counted::skip(std::thread::current().name().unwrap_or_default(), why);
}
