//! The launcher: a process that makes one container with libcontainer and exits. It is started by the container's
//! monitor, which says why there is one (`gracefully_monitor`, `children`).
//!
//! **A monitor that dies leaves nothing behind.** The launcher asks the kernel for SIGKILL when its parent dies
//! (`PR_SET_PDEATHSIG`, prctl(2)), then makes sure that its parent is still the monitor, and then takes the container's `launch`
//! lock, which everything that it forks shares. PID 1 does the same shortly before it waits for the order to start
//! (`executor`). What is between the two ends when it finds the launcher's socket closed. So until the program is
//! executed a dead monitor means a dead container, and a free lock means that it is.

mod cgroup;
mod executor;
mod rootless;
mod spec;
mod user;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gracefully_core::exit::USAGE;
use gracefully_linux::PidFd;
use gracefully_monitor::protocol::{Launched, line};
use gracefully_monitor::record::Record;
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::fs::{FlockOperation, flock};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, geteuid, getppid, set_parent_process_death_signal};

use super::home::Home;

pub(super) use self::executor::DEFAULT_PATH;
use self::executor::{Executor, Failure};
use self::spec::Surroundings;

/// Why there is no container: an exit code of `run` and a text.
#[derive(Debug)]
struct Refusal {
    code: u8,
    message: String,
}

impl Refusal {
    /// The engine failed, not the command.
    fn ours(what: &str, error: impl std::fmt::Display) -> Self {
        Self { code: USAGE, message: format!("{what}: {error}") }
    }
}

/// The launcher's main function. `home` is the container's directory, `monitor` the PID of its monitor, standard input
/// the monitor's socket.
pub fn main(home: &Path, monitor_pid: u32) -> ExitCode {
    let Some(mut monitor) = Monitor::take_over_stdin() else { return ExitCode::FAILURE };
    let said = match launch(home, monitor_pid, &mut monitor) {
        Ok(()) => Launched::Started,
        Err(Refusal { code, message }) => Launched::Failed { code, message },
    };
    monitor.tell(&said);
    ExitCode::SUCCESS
}

fn launch(home: &Path, monitor_pid: u32, monitor: &mut Monitor) -> Result<(), Refusal> {
    let parent = watch_parent(monitor_pid)?;
    let home = Home::at(home).ok_or_else(|| Refusal::ours("launch", "no container's directory"))?;
    let _half_made = lock(&home)?;
    let record = home.record().map_err(|error| Refusal::ours("launch", error))?;
    reset_signals();

    let root = match &record.spec.rootfs {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from("/"),
    };
    let user = user::resolve(&root, record.spec.user.as_deref())?;
    check_workdir(&root, Path::new(&record.workdir))?;
    let surroundings = surroundings(&home, &user)?;

    let (failures, report) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Refusal::ours("pipe", errno))?;
    let executor = Executor::new(report, parent, &record, &user);
    let created = create(&home, &record, &user, &surroundings, executor);
    let mut failures = File::from(failures);
    let mut container = created.map_err(|error| match Failure::read(&mut failures, &record) {
        Some(refusal) => refusal,
        None => error,
    })?;

    let pid = container.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok());
    let pid = pid.ok_or_else(|| Refusal::ours("create", "libcontainer knows no pid"))?;
    monitor.tell(&Launched::Created(pid));
    monitor.wait_for_line()?;

    container.start().map_err(|error| Refusal::ours("start", chain(&error)))?;
    // The end of the pipe: everything is executed or gone. libcontainer has marked it close-on-exec.
    match Failure::read(&mut failures, &record) {
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

/// From here on we die with our monitor, and it is still there. That our parent is the monitor says that the PID has not
/// been given to another process: a parent's cannot be.
fn watch_parent(monitor: u32) -> Result<PidFd, Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::ours("the monitor cannot be watched", error);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|errno| failed(&errno))?;
    let held = PidFd::open(monitor).map_err(|error| failed(&error))?;
    let parent = getppid().map(|parent| parent.as_raw_nonzero().get().cast_unsigned());
    if parent == Some(monitor) { Ok(held) } else { Err(failed(&"it is gone")) }
}

fn lock(home: &Home) -> Result<File, Refusal> {
    let path = home.path().join("launch");
    let failed = |error: io::Error| Refusal::ours(&format!("lock {}", path.display()), error);
    let file = File::create(&path).map_err(failed)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| failed(errno.into()))?;
    Ok(file)
}

/// An ignored signal stays ignored across execve(2), a caught one gets its default again. Rust ignores SIGPIPE, nohup
/// SIGHUP, a shell without job control SIGINT and SIGQUIT for what it runs in the background. So that the program
/// starts with the defaults, everything that is ignored is caught. Blocked signals are unblocked by the executor.
fn reset_signals() {
    let ignored = gracefully_linux::process::read(std::process::id()).map_or(0, |process| process.ignored);
    for number in (1..=64).filter(|number| ignored & (1 << (number - 1)) != 0) {
        // It fails for the few that nobody can ignore.
        let _ = signal_hook::flag::register(number, Arc::new(AtomicBool::new(false)));
    }
}

/// What of the host is fit for use.
fn surroundings(home: &Home, user: &user::User) -> Result<Surroundings, Refusal> {
    if geteuid().is_root() {
        if !cgroup::make(home.id()) {
            cgroup::hide()
                .map_err(|error| Refusal::ours("cannot hide the cgroups, which are not writable", error))?;
        }
        return Ok(Surroundings::Root);
    }
    rootless::enter(user)?;
    Ok(Surroundings::OwnUserNamespace)
}

/// libcontainer says of a missing directory only that a system call failed.
fn check_workdir(root: &Path, dir: &Path) -> Result<(), Refusal> {
    user::open_in(root, dir, rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY).map(drop).map_err(
        |errno| Refusal {
            code: USAGE,
            message: format!("the working directory {} cannot be used: {errno}", dir.display()),
        },
    )
}

fn create(
    home: &Home,
    record: &Record,
    user: &user::User,
    surroundings: &Surroundings,
    executor: Executor,
) -> Result<Container, Refusal> {
    let (bundle, oci) = (home.path().join("bundle"), home.path().join("oci"));
    clear(&oci.join(home.id()))
        .map_err(|error| Refusal::ours("clear the directory of libcontainer", error))?;
    fs::create_dir_all(&bundle)
        .map_err(|error| Refusal::ours(&format!("create {}", bundle.display()), error))?;
    let spec = spec::build(record, home, user, surroundings).map_err(|error| Refusal::ours("spec", error))?;
    let config = bundle.join("config.json");
    spec.save(&config)
        .map_err(|error| Refusal::ours(&format!("write {}", config.display()), chain(&error)))?;
    ContainerBuilder::new(home.id().to_owned(), SyscallType::default())
        .with_root_path(oci)
        .map(|builder| builder.with_executor(executor))
        .and_then(ContainerBuilder::validate_id)
        .and_then(|builder| {
            builder.as_init(bundle).with_systemd(false).with_detach(true).as_sibling(true).build()
        })
        .map_err(|error| {
            let message = chain(&error);
            // libcontainer does not always say which of its own files it was.
            if is_full_disk(&error) && !message.contains('/') {
                Refusal::ours(&format!("make the container in {}", home.path().display()), message)
            } else {
                Refusal { code: USAGE, message }
            }
        })
}

/// What the last start has left.
fn clear(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn is_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::StorageFull)
}

/// libcontainer's errors say little, their causes more.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The socket to the monitor.
struct Monitor(File);

impl Monitor {
    /// The program gets /dev/null in its place.
    fn take_over_stdin() -> Option<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).ok()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null").ok()?).ok()?;
        Some(Self(socket.into()))
    }

    fn tell(&mut self, said: &Launched) {
        // If nobody hears it, the monitor is dead, and so are we.
        let _ = self.0.write_all(&line(said));
    }

    fn wait_for_line(&mut self) -> Result<(), Refusal> {
        let mut line = Vec::new();
        let mut from = BufReader::with_capacity(1, (&self.0).take(1));
        from.read_until(b'\n', &mut line).map_err(|error| Refusal::ours("the monitor", error))?;
        if line == b"\n" { Ok(()) } else { Err(Refusal::ours("the monitor", "it is gone")) }
    }
}
