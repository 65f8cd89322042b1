//! Bad input and faults: what a user meets on a bad day.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::dockerd::{Dockerd, Options};
use crate::harness::{
    Kind, LONG, NOT_TEN, SECOND, Target, World, behaviours, eventually, gracefully, kill, new_name, run,
    skip_test, start,
};

behaviours! {
    14 daemon_absent [reference local];
    92 daemon_that_hangs_has_a_deadline [local];
    92 daemon_that_talks_nonsense [local];
    92 daemon_dies_during_a_stop [docker];
    92 socket_without_permission [local];
    92 disk_full_while_logging [local];
    92 disk_full_before_starting [local];
    92 disk_full_at_the_end [local];
    92 torn_state_breaks_nothing_else [local];
    92 state_is_private [local];
    92 long_state_directory [local];
    92 monitor_killed [local];
    92 monitor_killed_before_a_restart [local];
    92 killed_from_outside [local];
    92 line_of_one_megabyte [docker podman local];
    92 binary_log [local];
    92 main_process_forks_and_exits [docker podman local];
    92 program_that_stops_itself [process];
    92 process_that_is_gone [process];
    92 process_that_makes_no_sense [process];
    92 process_that_is_refused [process];
    92 uninterruptible_sleep [local process];
    92 sleep_that_not_even_sigkill_ends [local process];
}

/// A command that must end well before the test would give up, with an error and without a panic.
#[track_caller]
fn fails_soon(command: &mut Command) -> crate::harness::Outcome {
    let outcome = start(command).ended_within(LONG * 2);
    assert_eq!((outcome.code, &*outcome.stdout()), (1, ""), "{outcome:#?}");
    assert!(!outcome.stderr.is_empty() && !outcome.stderr.contains("panicked"), "{outcome:#?}");
    outcome
}

fn on_socket(socket: &Path, args: &[&str]) -> Command {
    let host = format!("unix://{}", socket.display());
    let mut command = gracefully(&["--engine", "docker", "--host", &host]);
    command.args(args);
    command
}

fn daemon_absent(world: &World) {
    let socket = world.directory().join("nobody.sock");
    let mut command = if world.kind == Kind::Reference {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(format!("unix://{}", socket.display())).args(["stop", "x"]);
        docker
    } else {
        on_socket(&socket, &["stop", "x"])
    };
    let complaint = format!(
        "Cannot connect to the Docker daemon at unix://{}. Is the docker daemon running?\n",
        socket.display()
    );
    run(&mut command).is(1, "").says(&complaint);
    if world.kind == Kind::Local {
        // Whoever says where it is means it to be there.
        let address = format!("unix://{}", socket.display());
        run(&mut gracefully(&["--host", &address, "ps"])).is(1, "").says(&complaint);
    }
}

/// A daemon that answers every request with `answer`, and then keeps the connection open or closes it.
fn fake_daemon(world: &World, answer: &'static [u8], keep_open: bool) -> PathBuf {
    let socket = world.directory().join(format!("fake-{}.sock", answer.len()));
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).and_then(|_| stream.write_all(answer));
            if keep_open {
                open.push(stream);
            }
        }
    });
    socket
}

fn daemon_that_hangs_has_a_deadline(world: &World) {
    let half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"Id\":";
    for answer in [&b""[..], half] {
        let socket = fake_daemon(world, answer, true);
        for verb in ["stop", "ps", "kill", "rm"] {
            let args: &[&str] = if verb == "ps" { &["ps"] } else { &[verb, "web"] };
            fails_soon(&mut on_socket(&socket, args)).says(&socket.display().to_string());
        }
    }
}

fn daemon_that_talks_nonsense(world: &World) {
    let answers: [&'static [u8]; 6] = [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<h1>oh</h",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"Id\":\"x\",\"State\":{\"Status\":\"of confusion\"}}      ",
        b"\xff\xfe\x00\x01",
    ];
    for answer in answers {
        let socket = fake_daemon(world, answer, false);
        fails_soon(&mut on_socket(&socket, &["stop", "web"]));
    }
}

/// The container goes on and docker would never kill it; we hold it by a pidfd, so our own deadline does.
fn daemon_dies_during_a_stop(world: &World) {
    let (daemon, _) = Dockerd::start(&Options::default()).expect("a second private daemon");
    let host = daemon.host();
    let docker = |args: &[&str]| {
        let mut docker = Command::new("docker");
        docker.args(["--host", &host]).args(args);
        docker
    };
    let image = world.directory().join("image.tar").display().to_string();
    assert_eq!(run(&mut world.docker(&["save", "--output", &image, "gracefully-test/victim"])).code, 0);
    assert_eq!(run(&mut docker(&["load", "--input", &image])).code, 0);
    let started =
        run(&mut docker(&["run", "-d", "--net=none", "--name", "web", "gracefully-test/victim", "ignore"]));
    assert_eq!(started.code, 0, "{started:#?}");
    let pid = run(&mut docker(&["inspect", "--format", "{{.State.Pid}}", "web"])).stdout().trim().to_string();
    eventually("it has started", || {
        run(&mut docker(&["logs", "web"])).stdout().contains("started").then_some(())
    });

    let stop = start(&mut gracefully(&["--engine", "docker", "--host", &host, "stop", "-t", "4", "web"]));
    eventually("the signal has arrived", || {
        run(&mut docker(&["logs", "web"])).stdout().contains("got 15").then_some(())
    });
    kill(daemon.pid());
    let outcome = stop.ended_within(LONG);
    outcome.is(0, "web\n").says("lost the Docker daemon").says(&host);
    eventually("the container is killed all the same", || {
        (!Path::new("/proc").join(&pid).exists()).then_some(())
    });
}

fn socket_without_permission(world: &World) {
    let socket = world.directory().join("closed.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("permissions");
    let mut command = world.as_nobody(Path::new(gracefully(&[]).get_program()));
    command.args(["--engine", "docker", "--host", &format!("unix://{}", socket.display()), "stop", "web"]);
    fails_soon(&mut command).says("permission denied").says("root");
}

fn disk_full_while_logging(world: &World) {
    let disk = world.small_disk("1m");
    let target = world.start_unready(&[], "line 3000000");
    // The log takes pieces of 16 KiB, with a head, whole or not at all; how much is left depends on the other files.
    eventually("the disk has no room for another piece of the log", || {
        let disk = rustix::fs::statvfs(&disk).expect("a file system");
        (disk.f_bavail * disk.f_frsize <= 16 * 1024).then_some(())
    });
    // The program gets past its line although the disk takes only a part of it: it can still be asked to stop. What it
    // says then is lost.
    let pid = world.main_pid(&target);
    eventually("it has a handler for SIGTERM", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & 1 << (15 - 1) != 0).then_some(())
    });
    assert_eq!(world.status(&target), "running");
    let outcome = world.run(&["stop", "-t", "5", &target.name]);
    outcome.is(0, &target.line()).took_less_than(5 * SECOND).says("o space left");
    world.run(&["rm", "-f", &target.name]).is(0, &target.line());
    assert_eq!(world.processes(), []);
}

fn disk_full_before_starting(world: &World) {
    let disk = world.small_disk("64k");
    fs::write(disk.join("filler"), vec![0; 1 << 20]).expect_err("the disk is full");
    let outcome = run(&mut world.run_detached(&new_name(), &[], "ignore"));
    outcome.is(125, "").says("o space left");
    assert_eq!(world.processes(), []);
}

/// The room for the record of the end is kept from the beginning.
fn disk_full_at_the_end(world: &World) {
    let disk = world.small_disk("512k");
    let target = world.start("slow 0 7");
    fs::write(disk.join("filler"), vec![0; 1 << 20]).expect_err("the disk is full");
    world.run(&["stop", &target.name]).is(0, &target.line());
    world.run(&["wait", &target.name]).is(0, "7\n");
    assert_eq!(world.exit_code(&target), 7);
    let listed = world.run(&["ps", "-a"]);
    assert!(listed.stdout().contains("Exited (7)") && !listed.stdout().contains("monitor"), "{listed:#?}");
}

fn torn_state_breaks_nothing_else(world: &World) {
    let (torn, whole) = (world.start("slow 0 0"), world.start("slow 0 0"));
    let id = world.field(&torn, "/Id").as_str().expect("an identifier").to_string();
    let pid = world.main_pid(&torn);
    let files = files_below(&world.state_directory());
    let json: Vec<_> = files
        .iter()
        .filter(|file| {
            file.to_string_lossy().contains(&id) && file.extension().is_some_and(|kind| kind == "json")
        })
        .collect();
    assert!(!json.is_empty(), "no state of {id} in {files:?}");
    for file in json {
        let text = fs::read(file).expect("the state");
        fs::write(file, &text[..text.len() / 2]).expect("half of it");
    }
    let all = world.run(&["ps", "-a"]);
    assert!(all.stdout().contains(&whole.name) && !all.stderr.contains("panicked"), "{all:#?}");
    world.run(&["stop", &whole.name]).is(0, &whole.line());
    // Nobody knows whether it runs, so nobody says that it was stopped.
    for args in
        [&["stop"][..], &["stop", "--dry-run"], &["restart"], &["kill"], &["wait"], &["inspect"], &["logs"]]
    {
        let broken = world.run(&[args, &[&id]].concat());
        assert_eq!(broken.code, 1, "{args:?}: {broken:#?}");
        assert!(broken.stderr.contains("cannot be used: state.json is torn"), "{args:?}: {broken:#?}");
    }
    let removed = world.run(&["rm", "-f", &id]);
    assert!(!removed.stderr.contains("panicked"), "{removed:#?}");
    kill(pid);
    eventually("nothing is left", || world.processes().is_empty().then_some(()));
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path()),
            _ => vec![entry.path()],
        })
        .collect()
}

fn state_is_private(world: &World) {
    let _target = world.start("slow 0 0");
    let mode = fs::metadata(world.state_directory()).expect("the state directory").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// A UNIX socket's path may have 107 bytes; a state directory may be longer.
fn long_state_directory(world: &World) {
    let long = world.directory().join("d".repeat(120));
    let name = new_name();
    let run_there = |args: &[&str]| run(world.command(args).env("GRACEFULLY_STATE_DIR", &long));
    let started = run_there(&["run", "-d", "--name", &name, "--", &world.victim(), "slow", "0", "0"]);
    assert_eq!(started.code, 0, "{started:#?}");
    eventually("it has started", || run_there(&["logs", &name]).stdout().contains("started").then_some(()));
    run_there(&["stop", &name]).is(0, &format!("{name}\n"));
    run_there(&["rm", "-f", &name]).is(0, &format!("{name}\n"));
}

fn monitor_killed(world: &World) {
    let target = world.start("ignore");
    let main = world.main_pid(&target);
    kill(world.monitor(&target));
    // Either the container went with it, or it is shown and can be stopped; never is it forgotten.
    let all = world.run(&["ps", "-a"]);
    assert!(all.stdout().contains(&target.name), "{all:#?}");
    world.run(&["rm", "-f", &target.name]).is(0, &target.line());
    // Whoever inherited it may not have reaped it yet.
    assert!(matches!(state_of(main), None | Some('Z' | 'X')), "{main} is alive");
    assert!(!world.exists(&target));
}

fn monitor_killed_before_a_restart(world: &World) {
    let target = world.start("slow 0 0");
    let monitor = world.monitor(&target);
    kill(monitor);
    eventually("it is gone", || matches!(state_of(monitor), None | Some('Z' | 'X')).then_some(()));
    world
        .run(&["restart", &target.name])
        .is(0, &target.line())
        .took_less_than(NOT_TEN)
        .says("graceful: restarted");
    assert_eq!(world.status(&target), "running");
}

fn killed_from_outside(world: &World) {
    let target = world.start("ignore");
    kill(world.main_pid(&target));
    assert_eq!(world.exit_code(&target), 137);
}

fn line_of_one_megabyte(world: &World) {
    let target = world.start("line 1000000");
    let log = world.log(&target);
    let line = log.lines().next().expect("a line");
    assert!(line.len() == 1_000_000 && line.bytes().all(|byte| byte == b'x'), "{} bytes", line.len());
    let outcome = world.run(&["logs", "--tail", "1", &target.name]);
    assert_eq!(outcome.stdout(), "started line 1000000\n");
}

/// Docker's own json-file driver replaces what is not UTF-8, so there is nothing to test there.
fn binary_log(world: &World) {
    let target = world.start_unready(&[], "bytes");
    let all: Vec<u8> = (0..=u8::MAX).collect();
    eventually("every byte is in the log", || {
        (world.run(&["logs", &target.name]).stdout == all).then_some(())
    });
    world.run(&["stop", &target.name]).is(0, &target.line());
    assert_eq!(world.run(&["logs", &target.name]).stdout, all);
}

fn main_process_forks_and_exits(world: &World) {
    let target = world.start_unready(&[], "orphan");
    assert_eq!(world.exit_code(&target), 0);
    let left: Vec<_> =
        world.processes().into_iter().filter(|(_, line)| line.contains("victim ignore")).collect();
    assert_eq!(left, [], "the end of PID 1 is the end of its namespace");
}

/// A stopped process cannot act on its stop signal; it is continued, so that it can. (As PID 1 of a container a program
/// is immune to its own SIGSTOP; for one from outside see `diagnosis`.)
fn program_that_stops_itself(world: &World) {
    let target = world.start("sigstop");
    let pid = world.main_pid(&target);
    eventually("it is stopped", || (state_of(pid)? == 'T').then_some(()));
    world.run(&["stop", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.exit_code(&target), 0);
}

/// The state letter of `proc_pid_stat(5)`.
fn state_of(pid: u32) -> Option<char> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()?.rsplit(") ").next()?.chars().next()
}

fn process_that_is_gone(world: &World) {
    let target = world.start_unready(&[], "exit 0");
    assert_eq!(world.exit_code(&target), 0);
    let outcome = world.run(&["stop", &target.name]);
    outcome.is(1, "").says(target.name.trim_start_matches("pid:"));
}

fn process_that_makes_no_sense(world: &World) {
    for name in ["pid:", "pid:0", "pid:-1", "pid:x", "pid:99999999999999999999", "pid:4194305"] {
        let outcome = world.run(&["stop", name]);
        outcome.is(1, "");
        assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
    }
}

/// What is refused is refused at once, and by the dry run as well.
fn process_that_is_refused(world: &World) {
    for verb in ["stop", "restart"] {
        let refused = ["pid:1".to_string(), format!("pid:{}", std::process::id())];
        for name in refused {
            let real = world.run(&[verb, &name]);
            real.is(1, "").says("cannot signal pid:");
            assert_eq!(real.stderr, world.run(&[verb, "--dry-run", &name]).stderr);
        }
    }
    let target = world.start("slow 0 0");
    let real = world.run(&["restart", &target.name]);
    real.is(1, "").took_less_than(SECOND);
    assert_eq!(real.stderr.matches("cannot be started again").count(), 1, "{real:#?}");
    let dry = world.run(&["restart", "--dry-run", &target.name]);
    dry.is(1, "");
    assert_eq!(real.stderr, dry.stderr);
    assert_eq!(world.log(&target).matches("got").count(), 0);
    let plan = world.run(&["stop", "--dry-run", &target.name]);
    assert!(plan.stdout().starts_with(&format!("{}  process", target.name)), "{plan:#?}");
}

/// The parent of a vfork(2) waits in state D until its child execs or ends. SIGKILL does act on it (the kernel calls
/// that sleep killable).
fn uninterruptible_sleep(world: &World) {
    // clone(CLONE_VFORK | SIGCHLD) on x86-64; without CLONE_VM the child is an ordinary fork. It ends with its parent.
    const SCRIPT: &str = "$| = 1; print \"started\\n\"; $parent = $$; \
        unless (syscall(56, 0x4000 | 17, 0, 0, 0, 0)) { select(undef, undef, undef, 0.02) while getppid() == $parent }";
    if !cfg!(target_arch = "x86_64") || !Path::new("/usr/bin/perl").exists() {
        skip_test!("needs x86-64 and perl");
    }
    let target = if world.kind == Kind::Process {
        let mut perl = Command::new("/usr/bin/perl");
        world.adopt(perl.args(["-e", SCRIPT]).stdout(Stdio::null()).spawn().expect("perl starts"))
    } else {
        let target = Target { name: new_name() };
        world.own(&target.name);
        let started = world.run(&["run", "-d", "--name", &target.name, "--", "/usr/bin/perl", "-e", SCRIPT]);
        assert_eq!(started.code, 0, "{started:#?}");
        target
    };
    let pid = world.main_pid(&target);
    eventually("it sleeps uninterruptibly", || (state_of(pid)? == 'D').then_some(()));
    let outcome = world.run(&["stop", "-t", "1", &target.name]);
    outcome.is(0, &target.line()).took_between(Duration::ZERO, NOT_TEN);
    if world.kind == Kind::Local {
        assert_eq!(world.exit_code(&target), 137);
        outcome.says("uninterruptible");
    }
}

/// A group of the freezer of cgroups v1: whoever is in it, frozen, is in state D, and a signal waits until it is thawed.
/// (What cgroups v2 freeze can be killed.)
struct Freezer(PathBuf);

impl Freezer {
    fn holding(pid: u32) -> Option<Self> {
        let group = Path::new("/sys/fs/cgroup/freezer").join(new_name());
        fs::create_dir(&group).ok()?;
        let freezer = Self(group);
        fs::write(freezer.0.join("cgroup.procs"), pid.to_string()).ok()?;
        freezer.set("FROZEN").then_some(freezer)
    }

    fn set(&self, state: &str) -> bool {
        fs::write(self.0.join("freezer.state"), state).is_ok()
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.set("THAWED");
        // It can be removed when nobody is in it any more. A test that has failed does not wait for that.
        if !std::thread::panicking() {
            eventually("the group is removed", || fs::remove_dir(&self.0).ok());
        }
    }
}

/// As if the disk or the server behind it did not answer: there is an end to the waiting, and the reason is said.
fn sleep_that_not_even_sigkill_ends(world: &World) {
    let target = world.start("ignore");
    let pid = world.main_pid(&target);
    let Some(freezer) = Freezer::holding(pid) else {
        skip_test!("needs the freezer of cgroups v1, and root")
    };
    eventually("it sleeps uninterruptibly", || (state_of(pid)? == 'D').then_some(()));
    let outcome = world.run(&["stop", "-t", "1", &target.name]);
    outcome.is(1, "").says("still alive after SIGKILL").says("uninterruptible sleep");
    assert_eq!(state_of(pid), Some('D'));
    drop(freezer);
    assert_eq!(world.exit_code(&target), 137);
}
