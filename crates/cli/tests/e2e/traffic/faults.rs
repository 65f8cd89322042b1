//! Everything that may happen to a drain.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use gracefully_linux::netns::NetNs;
use gracefully_load::{Client, Load, Outcome as Answer};
use rustix::process::Signal;

use super::server::{Neighbour, Server, Way};
use super::soon;
use crate::dockerd::{Dockerd, Options};
use crate::harness::{
    NOT_TEN, SECOND, World, behaviours, eventually, gracefully, read_report, run, signal, skip,
};

behaviours! {
    "A" container_that_somebody_removes_ends_the_drain [docker bridge local];
    "A" stop_of_dockers_own_ends_the_drain [docker bridge];
    "A" client_that_has_vanished_does_not_hold_a_stop_for_ever [bridge];
    "A" listener_that_appears_is_drained_too [local process];
    "A" listener_that_vanishes_leaves_its_connections [docker bridge local process];
    "A" listener_that_has_vanished_left_its_connections [docker bridge local process];
    "A" rolling_restart_goes_one_by_one [docker local];
    "A" rolling_restart_ends_with_one_that_does_not_come_up [docker local];
    "A" from_a_container_it_works_as_the_documentation_says [bridge];
    "A" restart_waits_until_the_program_is_healthy [docker];
    "A" nothing_in_path_is_needed [docker bridge local];
    "A" rules_of_iptables_legacy_do_not_matter [bridge];
    "A" what_needs_rights_is_said_and_the_rest_is_done [process];
    "A" a_thousand_at_once_are_held [bridge local];
}

fn container_that_somebody_removes_ends_the_drain(world: &World) {
    let server = Server::start(world, "http");
    let (answer, stop) = server.begin_to_stop(world);
    world.run(&["rm", "-f", &server.target.name]).is(0, &server.target.line());
    stop.ended().took_less_than(NOT_TEN);
    assert!(!world.exists(&server.target));
    assert_eq!(answer.join().expect("a client"), Answer::Dropped);
}

fn stop_of_dockers_own_ends_the_drain(world: &World) {
    let server = Server::start(world, "http");
    let (answer, stop) = server.begin_to_stop(world);
    run(&mut world.docker(&["stop", "-t", "1", &server.target.name])).is(0, &server.target.line());
    stop.ended().is(0, &server.target.line()).took_less_than(NOT_TEN);
    assert_eq!(answer.join().expect("a client"), Answer::Dropped);
}

/// Its machine has lost its network in the middle of a request: not a packet comes any more.
fn client_that_has_vanished_does_not_hold_a_stop_for_ever(world: &World) {
    let server = Server::start_behind(world, "http", Way::Neighbour);
    let mut client = server.there(|| TcpStream::connect(server.at)).expect("a connection");
    std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: x\r\n").expect("half a request");
    let Some(Neighbour { network, name, .. }) = &server.clients else { unreachable!("it has a neighbour") };
    let mut cut = world.docker(&["network", "disconnect", "--force", network, name]);
    assert_eq!(run(&mut cut).code, 0);
    let stopped = world.run(&["stop", "-t", "2", &server.target.name]);
    stopped.is(0, &server.target.line()).took_less_than(NOT_TEN);
}

fn listener_that_appears_is_drained_too(world: &World) {
    let later = gracefully_load::free_address().expect("a free port");
    // So that the server gets another one.
    let reserved = TcpListener::bind(later).expect("it is free");
    let server = Server::start(world, &format!("http-later {later}"));
    drop(reserved);
    let first = server.ask_and_be_heard(world, "/sleep/2500");
    let stop = world.spawn(&["stop", "-t", "20", &server.target.name]);
    server.answers(Answer::Refused);
    signal(world.main_pid(&server.target), Signal::USR1);
    eventually("it listens there, too", || {
        world.log(&server.target).contains(&later.to_string()).then_some(())
    });
    let second = thread::spawn(move || Client::new(later, false).ask("/sleep/4000").0);
    assert_eq!(first.join().expect("a client"), Answer::Answered);
    assert_eq!(second.join().expect("a client"), Answer::Answered);
    stop.ended().is(0, &server.target.line());
}

fn listener_that_vanishes_leaves_its_connections(world: &World) {
    let server = Server::start(world, "http-until");
    let answer = server.ask_and_be_heard(world, "/sleep/3000");
    let stop = world.spawn(&["stop", "-t", "20", &server.target.name]);
    server.answers(Answer::Refused);
    signal(world.main_pid(&server.target), Signal::USR1);
    assert_eq!(answer.join().expect("a client"), Answer::Answered);
    stop.ended().is(0, &server.target.line());
}

fn listener_that_has_vanished_left_its_connections(world: &World) {
    let server = Server::start(world, "http-until");
    let answer = server.ask_and_be_heard(world, "/sleep/3000");
    signal(world.main_pid(&server.target), Signal::USR1);
    eventually("it listens no more", || world.log(&server.target).contains("started default").then_some(()));
    let stopped = world.run(&["stop", "-t", "20", &server.target.name]);
    assert_eq!(answer.join().expect("a client"), Answer::Answered, "{stopped:#?}");
    stopped.is(0, &server.target.line());
}

/// When a program ended and when its successor began, so that both can be compared as texts.
fn interruption(world: &World, server: &Server) -> [String; 2] {
    ["/State/FinishedAt", "/State/StartedAt"].map(|field| {
        let time = world.field(&server.target, field).as_str().expect("a time").to_owned();
        // Docker leaves zeros at the end out.
        let (seconds, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((&time, ""));
        format!("{seconds}.{fraction:0<9}")
    })
}

fn rolling_restart_goes_one_by_one(world: &World) {
    let servers: Vec<Server> = (0..3).map(|_| Server::start(world, "http-graceful")).collect();
    let loads: Vec<_> = servers.iter().map(|it| it.load("/sleep/20", false, Duration::ZERO)).collect();
    let names: Vec<&str> = servers.iter().map(|server| server.target.name.as_str()).collect();
    let lines: String = servers.iter().map(|server| server.target.line()).collect();
    world.run(&[&["restart", "--rolling", "1", "-t", "8"], &names[..]].concat()).is(0, &lines);
    for load in loads {
        let tally = load.stop();
        assert_eq!(tally.failed(), 0, "{tally}");
    }
    let interruptions: Vec<_> = servers.iter().map(|server| interruption(world, server)).collect();
    for pair in interruptions.windows(2) {
        assert!(pair[0][1] < pair[1][0], "one began before the other was ready: {interruptions:#?}");
    }
}

fn rolling_restart_ends_with_one_that_does_not_come_up(world: &World) {
    let (first, second) = (Server::start(world, "http-once"), Server::start(world, "http"));
    let before = world.main_pid(&second.target);
    let names = [first.target.name.as_str(), &second.target.name];
    let rolling = ["restart", "--rolling", "1", "-t", "2", "--ready-timeout", "1s"];
    assert_eq!(world.run(&[&rolling[..], &names].concat()).code, 1);
    assert_eq!(world.main_pid(&second.target), before);
}

/// `docs/how-it-works.md`, "Rights"; with what the host has as the image.
fn from_a_container_it_works_as_the_documentation_says(world: &World) {
    let server = Server::start(world, "http");
    let clients = server.load("/sleep/20", false, Duration::ZERO);
    let socket = world.docker_socket();
    let program = fs::canonicalize(gracefully(&[]).get_program()).expect("the program");
    let mut docker = world.docker(&["run", "--rm", "--pull=never", "--pid=host", "--network=host"]);
    docker.args(["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "NET_RAW"].map(|cap| format!("--cap-add={cap}")));
    docker.args(["--volume", &format!("{socket}:/var/run/docker.sock")]);
    docker.args([
        "--volume",
        "/usr:/usr:ro",
        "--volume",
        &format!("{}:/run/gracefully:ro", program.display()),
    ]);
    docker.args(["gracefully-test/host", "/run/gracefully", "restart", "-t", "8"]);
    let restarted = run(docker.arg(format!("docker:{}", server.target.name)));
    assert_eq!(restarted.code, 0, "{restarted:#?}");
    server.answers(Answer::Answered);
    let tally = clients.stop();
    assert_eq!(tally.failed(), 0, "{tally}: {restarted:#?}");
    restarted.says("nfqueue");
}

fn restart_waits_until_the_program_is_healthy(world: &World) {
    let health = ["--health-cmd", "true", "--health-interval", "2s"];
    let target = world.start_image(&health, "gracefully-test/shell", &["/victim", "slow", "0", "0"]);
    let restarted = world.run(&["restart", &target.name]);
    restarted.is(0, &target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(world.field(&target, "/State/Health/Status"), "healthy");
}

/// A fresh machine has neither `nft` nor `iptables`.
fn nothing_in_path_is_needed(world: &World) {
    let server = Server::start(world, "http");
    let clients = server.load("/sleep/20", false, Duration::ZERO);
    soon(200);
    let file = world.directory().join("report.json");
    let mut restart = world.command(&["restart", "-t", "8", "--report", file.to_str().expect("a path")]);
    run(restart.arg(&server.target.name).env("PATH", "")).is(0, &server.target.line());
    server.answers(Answer::Answered);
    let tally = clients.stop();
    let report = read_report(&file);
    assert_eq!(tally.failed(), 0, "{tally}: {report:#}");
    assert_eq!(report["connections"]["gate"]["method"], "nfqueue", "{report:#}");
}

/// A daemon that makes its rules in the kernel's older tables: they are another subsystem there, and other hooks.
fn rules_of_iptables_legacy_do_not_matter(world: &World) {
    let programs = world.directory().join("programs");
    fs::create_dir(&programs).expect("a directory");
    for name in ["iptables", "ip6tables"] {
        let legacy = Path::new("/usr/sbin").join(format!("{name}-legacy"));
        symlink(&legacy, programs.join(name)).expect("a link");
    }
    let options = Options { path: Some(&programs), ..Options::default() };
    let (daemon, no_bridge) = Dockerd::start(&options).expect("a second private daemon");
    if let Some(why) = no_bridge {
        return skip(module_path!(), &format!("no daemon with iptables-legacy: {why}"));
    }
    let host = daemon.host();
    let namespace = NetNs::of(daemon.pid()).expect("it runs");
    let there = |work: &mut dyn FnMut()| namespace.inside(work).expect("we are root");
    there(&mut || {
        let rules = run(Command::new("iptables-legacy").args(["-t", "nat", "-S"])).stdout();
        assert!(rules.contains("-j MASQUERADE"), "the daemon's rules are there: {rules}");
    });

    let docker = |args: &[&str]| {
        let outcome = run(Command::new("docker").args(["--host", &host]).args(args));
        assert_eq!(outcome.code, 0, "{outcome:#?}");
    };
    let image = world.directory().join("image.tar").display().to_string();
    assert_eq!(run(&mut world.docker(&["save", "--output", &image, "gracefully-test/victim"])).code, 0);
    docker(&["load", "--input", &image]);
    // By the kernel's translation, and by the daemon's proxy.
    for at in ["172.17.0.1:18080", "127.0.0.1:18081"] {
        let at: SocketAddr = at.parse().expect("an address");
        let publish = format!("{at}:8080");
        docker(&[
            "run",
            "-d",
            "--name",
            "web",
            "--publish",
            &publish,
            "gracefully-test/victim",
            "http",
            "0.0.0.0:8080",
        ]);
        there(&mut || {
            eventually("it answers", || {
                (Client::new(at, false).ask("/").0 == Answer::Answered).then_some(())
            });
            let clients = Load { path: "/sleep/20".into(), ..Load::new(at, 16) }.start();
            soon(200);
            let file = world.directory().join("report.json");
            let restart = ["--engine", "docker", "--host", &host, "restart", "--report"];
            let restart = run(gracefully(&restart).arg(&file).arg("web"));
            restart.is(0, "web\n");
            eventually("it answers", || {
                (Client::new(at, false).ask("/").0 == Answer::Answered).then_some(())
            });
            let tally = clients.stop();
            let report = read_report(&file);
            assert_eq!(tally.failed(), 0, "{at}: {tally}: {report:#}");
            assert!(tally.answered > 20, "{tally}");
            assert_eq!(report["connections"]["gate"]["method"], "nfqueue", "{report:#}");
        });
        docker(&["rm", "--force", "web"]);
    }
}

/// An ordinary user stops a program of their own: it is drained, and one line says what would need more rights.
fn what_needs_rights_is_said_and_the_rest_is_done(world: &World) {
    let at = gracefully_load::free_address().expect("a free port");
    // It must be theirs to look at, so it is started by them.
    let mut program = world.as_nobody(Path::new(&world.victim()));
    let child = program.args(["http", &at.to_string()]).spawn().expect("a program");
    let server = Server { target: world.adopt(child), at, clients: None };
    server.answers(Answer::Answered);
    let answer = server.ask_and_be_heard(world, "/sleep/2500");
    let nobodys = || world.as_nobody(Path::new(gracefully(&[]).get_program()));
    let preview = run(nobodys().args(["stop", "--dry-run", &server.target.name])).stdout();
    assert!(preview.contains("CAP_NET_ADMIN") && !preview.contains("refused\n"), "{preview}");
    let stopped = run(nobodys().args(["stop", "-t", "8", &server.target.name]));
    stopped.is(0, &server.target.line()).took_between(SECOND, NOT_TEN).says("CAP_NET_ADMIN");
    assert_eq!(answer.join().expect("a client"), Answer::Answered);
}

/// They come within a second, while the program is being restarted.
fn a_thousand_at_once_are_held(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/sleep/3000");
    let file = world.directory().join("report.json");
    let report = file.to_str().expect("a path");
    let restart = world.spawn(&["restart", "-t", "8", "--report", report, &server.target.name]);
    server.holds();
    let clients: Vec<_> = (0..1000).map(|_| server.ask("/")).collect();
    assert_eq!(answer.join().expect("a client"), Answer::Answered);
    restart.ended().is(0, &server.target.line());
    let report = read_report(&file);
    for client in clients {
        assert_eq!(client.join().expect("a client"), Answer::Answered, "{report:#}");
    }
    let gate = &report["connections"]["gate"];
    assert!(gate["held"].as_u64().is_some_and(|held| held > 500), "{report:#}");
    assert_eq!(gate["overflowed"], 0, "{report:#}");
}
