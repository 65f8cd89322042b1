//! Drain and hold, under load: a program that knows nothing of graceful shutdown loses no request. That docker's own
//! semantics does lose some, with the same clients and the same program, is the control.
//!
//! On `docker` the containers are in the network of the host (`--net=host`), on `bridge` in one of their own, with published
//! ports. The private daemon's host network is a namespace of its own, in which the tests are, too: all traffic is there, or
//! on 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use gracefully_load::{Client, Outcome as Answer, Running as Clients, Tally};
use rustix::process::Signal;
use serde_json::Value;

use self::server::{Server, Way};
use crate::harness::{Kind, NOT_TEN, SECOND, World, behaviours, kill, read_report};

mod faults;
mod programs;
pub(crate) mod server;
mod wire;

behaviours! {
    "A" restart_under_load_fails_no_request [docker bridge local];
    "A" restart_behind_nat_fails_no_request [bridge];
    "A" restart_fails_no_request_of_another_container [bridge];
    "A" restart_without_drain_fails_some [docker bridge local reference];
    "A" restart_cuts_no_kept_connection [docker bridge local];
    "A" request_in_flight_is_answered_before_the_signal [docker bridge local process];
    "A" request_in_flight_is_cut_without_drain [docker bridge local process reference];
    "A" new_connections_are_refused_while_a_stop_drains [docker bridge local process];
    "A" new_connections_may_be_served_while_a_stop_drains [docker bridge local process];
    "A" program_that_connects_to_itself_is_let_through [docker local process];
    "A" stream_is_cut_at_the_cap_and_reported [docker bridge local process];
    "A" request_that_nobody_answers_is_reported [docker bridge local process];
    "A" others_at_the_same_port_are_left_alone [local process];
    "A" half_a_request_does_not_hold_a_stop_for_ever [docker bridge local process];
    "A" interrupted_drain_leaves_the_program_serving [docker bridge local process];
    "A" killed_in_the_drain_the_program_goes_on_serving [docker bridge process];
    "A" program_that_ends_by_itself_ends_the_drain [docker bridge local process];
    "A" restarted_program_that_does_not_listen_is_a_failure [docker bridge local];
    "A" second_stop_ends_the_drain [docker bridge local process];
    "A" dry_run_names_port_and_hold [docker bridge local];
}

/// Restarts in the middle of the load. Returns what the clients saw, and the report if there is one.
#[track_caller]
fn restart_under(world: &World, server: &Server, clients: Clients, flags: &[&str]) -> (Tally, Value) {
    let file = world.directory().join("report.json");
    let mut args = vec!["restart"];
    if world.kind != Kind::Reference {
        args.extend(["--report", file.to_str().expect("a path")]);
    }
    args.extend(flags);
    args.push(&server.target.name);
    soon(300);
    world.run(&args).is(0, &server.target.line());
    server.answers(Answer::Answered);
    soon(300);
    let report = if file.exists() { read_report(&file) } else { Value::Null };
    (clients.stop(), report)
}

/// Lets the clients work for so many milliseconds: the load itself, not a synchronisation.
fn soon(ms: u64) {
    thread::park_timeout(Duration::from_millis(ms));
}

fn restart_under_load_fails_no_request(world: &World) {
    restart_fails_nothing(world, &Server::start(world, "http"));
}

fn restart_behind_nat_fails_no_request(world: &World) {
    restart_fails_nothing(world, &Server::start_behind(world, "http", Way::Nat));
}

fn restart_fails_no_request_of_another_container(world: &World) {
    restart_fails_nothing(world, &Server::start_behind(world, "http", Way::Neighbour));
}

#[track_caller]
fn restart_fails_nothing(world: &World, server: &Server) {
    let clients = server.load("/sleep/20", false, Duration::ZERO);
    let (tally, report) = restart_under(world, server, clients, &["-t", "8"]);
    assert_eq!(tally.failed(), 0, "{tally}: {report:#}");
    assert!(tally.answered > 50, "{tally}");
    let connections = &report["connections"];
    assert_eq!(connections["cut"], Value::Array(Vec::new()), "{report:#}");
    assert_eq!(connections["gate"]["is"], "held", "{report:#}");
    assert_eq!(connections["gate"]["overflowed"], 0, "{report:#}");
}

/// The control: what docker's own semantics does to the same clients.
fn restart_without_drain_fails_some(world: &World) {
    let server = Server::start(world, "http");
    let clients = server.load("/sleep/20", false, Duration::ZERO);
    let flags: &[&str] =
        if world.kind == Kind::Reference { &["-t", "1"] } else { &["-t", "1", "--no-drain"] };
    let (tally, _) = restart_under(world, &server, clients, flags);
    assert!(tally.failed() > 0, "{tally}");
}

fn restart_cuts_no_kept_connection(world: &World) {
    let server = Server::start(world, "http");
    let clients = server.load("/sleep/5", true, Duration::from_millis(20));
    let (tally, report) = restart_under(world, &server, clients, &["-t", "8"]);
    assert_eq!(tally.failed(), 0, "{tally}: {report:#}");
    assert_eq!(report["connections"]["cut"], Value::Array(Vec::new()), "{report:#}");
    assert!(tally.answered > 50, "{tally}");
}

fn request_in_flight_is_answered_before_the_signal(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/sleep/1500");
    let stopped = world.run(&["stop", "-t", "8", &server.target.name]);
    stopped.is(0, &server.target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(answer.join().expect("a client"), Answer::Answered);
}

/// The control.
fn request_in_flight_is_cut_without_drain(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/sleep/4000");
    let flags: &[&str] =
        if world.kind == Kind::Reference { &["stop", "-t", "0"] } else { &["stop", "-t", "0", "--no-drain"] };
    world.run(&[flags, &[&server.target.name]].concat()).is(0, &server.target.line());
    assert_eq!(answer.join().expect("a client"), Answer::Dropped);
}

fn new_connections_are_refused_while_a_stop_drains(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/sleep/3000");
    let stop = world.spawn(&["stop", "-t", "20", &server.target.name]);
    server.answers(Answer::Refused);
    assert_eq!(answer.join().expect("a client"), Answer::Answered, "refused were only the new ones");
    stop.ended().is(0, &server.target.line());
}

fn new_connections_may_be_served_while_a_stop_drains(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/sleep/2000");
    let stop = world.spawn(&["stop", "-t", "20", "--new", "serve", &server.target.name]);
    let mut answers = 0;
    while !answer.is_finished() {
        if Client::new(server.at, false).ask("/").0 == Answer::Answered {
            answers += u32::from(!answer.is_finished());
        }
        soon(10);
    }
    assert_eq!(answer.join().expect("a client"), Answer::Answered);
    stop.ended().is(0, &server.target.line());
    assert!(answers > 20, "{answers}");
}

fn stream_is_cut_at_the_cap_and_reported(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/stream/2000/10");
    let file = world.directory().join("report.json");
    let report = file.to_str().expect("a path");
    let stopped = world.run(&["stop", "-t", "2", "--report", report, &server.target.name]);
    stopped.is(0, &server.target.line()).took_between(SECOND, NOT_TEN);
    assert_eq!(answer.join().expect("a client"), Answer::Cut);
    let report = read_report(&file);
    let cut = &report["connections"]["cut"];
    assert_eq!(cut.as_array().map(Vec::len), Some(1), "{report:#}");
    // If the proxy is gone sooner than we look, its side is not known any more, and the program's is told.
    let inside =
        world.kind == Kind::Bridge && cut[0]["local"].as_str().is_some_and(|at| at.ends_with(":8080"));
    assert!(inside || cut[0]["local"] == server.at.to_string(), "{report:#}");
    assert!(cut[0]["age_ms"].as_f64().is_some_and(|age| age > 500.0), "{report:#}");
}

/// On a plain process the stop signal ends the program in the middle of the request, elsewhere SIGKILL.
fn request_that_nobody_answers_is_reported(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/sleep/9000");
    let file = world.directory().join("report.json");
    let report = file.to_str().expect("a path");
    let stopped = world.run(&["stop", "-t", "2", "--strict", "--report", report, &server.target.name]);
    stopped.is(3, &server.target.line());
    assert_eq!(answer.join().expect("a client"), Answer::Dropped);
    let report = read_report(&file);
    assert_eq!(report["connections"]["cut"].as_array().map(Vec::len), Some(1), "{report:#}");
    assert_eq!(report["connections"]["drained"], 0, "{report:#}");
}

/// The program listens at one address of the host, somebody else at another one.
fn others_at_the_same_port_are_left_alone(world: &World) {
    let server = Server::start(world, "http");
    let other =
        TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), server.at.port())).expect("its port is free there");
    let answer = server.ask_and_be_heard(world, "/sleep/2000");
    let stop = world.spawn(&["stop", "-t", "20", &server.target.name]);
    server.answers(Answer::Refused);
    TcpStream::connect(other.local_addr().expect("an address")).expect("it is not refused");
    assert_eq!(answer.join().expect("a client"), Answer::Answered);
    stop.ended().is(0, &server.target.line());
}

/// A client that never sends the rest of its request (slowloris).
fn half_a_request_does_not_hold_a_stop_for_ever(world: &World) {
    let server = Server::start(world, "http");
    let mut client = TcpStream::connect(server.at).expect("a connection");
    std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: x\r\n").expect("half a request");
    let stopped = world.run(&["stop", "-t", "2", &server.target.name]);
    stopped.is(0, &server.target.line()).took_less_than(NOT_TEN);
    drop(client);
}

fn interrupted_drain_leaves_the_program_serving(world: &World) {
    let server = Server::start(world, "http");
    let before = world.main_pid(&server.target);
    let answer = server.ask_and_be_heard(world, "/sleep/3000");
    let stop = world.spawn(&["stop", "-t", "20", &server.target.name]);
    server.answers(Answer::Refused);
    stop.signal(Signal::INT);
    assert_eq!(stop.ended().code, 130);
    server.answers(Answer::Answered);
    assert_eq!(answer.join().expect("a client"), Answer::Answered);
    assert_eq!(world.main_pid(&server.target), before);
}

/// It wakes the thread that accepts by a connection of its own, while those of others are refused or held.
fn program_that_connects_to_itself_is_let_through(world: &World) {
    let stop = Server::start(world, "http-graceful");
    world.run(&["stop", "-t", "20", &stop.target.name]).is(0, &stop.target.line()).took_less_than(NOT_TEN);
    if world.kind != Kind::Process {
        let restart = Server::start(world, "http-graceful");
        let restarted = world.run(&["restart", "-t", "20", &restart.target.name]);
        restarted.is(0, &restart.target.line()).took_less_than(NOT_TEN);
    }
}

/// Whatever we have put into the kernel ends with us.
fn killed_in_the_drain_the_program_goes_on_serving(world: &World) {
    let server = Server::start(world, "http");
    let answer = server.ask_and_be_heard(world, "/sleep/3000");
    let stop = world.spawn(&["stop", "-t", "20", "--new", "hold", &server.target.name]);
    server.holds();
    stop.signal(Signal::KILL);
    stop.ended();
    server.answers(Answer::Answered);
    assert_eq!(answer.join().expect("a client"), Answer::Answered);
}

fn program_that_ends_by_itself_ends_the_drain(world: &World) {
    let server = Server::start(world, "http");
    let (answer, stop) = server.begin_to_stop(world);
    kill(world.main_pid(&server.target));
    stop.ended().is(0, &server.target.line()).took_less_than(NOT_TEN);
    assert_eq!(answer.join().expect("a client"), Answer::Dropped);
}

fn restarted_program_that_does_not_listen_is_a_failure(world: &World) {
    let server = Server::start(world, "http-once");
    let outcome = world.run(&["restart", "-t", "1", "--ready-timeout", "1s", &server.target.name]);
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    outcome.took_less_than(NOT_TEN);
}

fn second_stop_ends_the_drain(world: &World) {
    let server = Server::start(world, "http");
    let (answer, first) = server.begin_to_stop(world);
    let second = world.run(&["stop", "-t", "1", &server.target.name]);
    second.is(0, &server.target.line()).took_less_than(NOT_TEN);
    first.ended().is(0, &server.target.line());
    assert_ne!(answer.join().expect("a client"), Answer::Answered);
}

fn dry_run_names_port_and_hold(world: &World) {
    let server = Server::start(world, "http");
    let outcome = world.run(&["restart", "--dry-run", &server.target.name]);
    let said = outcome.stdout();
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    assert!(said.contains(&server.at.port().to_string()) && said.contains("held (nfqueue)"), "{said}");
    server.answers(Answer::Answered);
}
