//! The life of a registration, from outside.

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gracefully_core::signal::Signal;
use gracefully_load::{Client, Load, Outcome};
use gracefully_servers::etcd::Etcd;
use gracefully_servers::{Fault, Proxy, eventually};

use crate::agent::{Agent, Place};

fn url(etcd: &Etcd) -> String {
    format!("etcd://{}/apps?ttl=2", etcd.at())
}

/// Is `web` in it?
fn has(etcd: &Etcd) -> bool {
    !etcd.keys("apps/web/").is_empty()
}

/// A program that is registered.
#[track_caller]
fn registered(place: &Place, etcd: &Etcd, options: &[&str]) -> Agent {
    let agent = place.register(&[&url(etcd)], options, &place.hello());
    agent.says("registered web-");
    agent
}

#[test]
fn it_is_found_when_it_listens_and_gone_before_it_hears_of_the_stop() {
    let etcd = or_skip!(Etcd::start());
    let place = Place::new();
    let start = place.file("start");
    // Everybody has to wait until the test says so.
    let late =
        format!("until [ -e {} ]; do sleep 0.01; done; exec {}", start.display(), place.hello().join(" "));
    let agent = place.register(&[&url(&etcd)], &[], &["sh", "-c", &late].map(str::to_owned));
    let program = agent.program();
    assert!(!has(&etcd) && TcpStream::connect(place.at).is_err());
    fs::write(&start, "").unwrap();
    agent.says("registered web-");
    assert!(has(&etcd) && TcpStream::connect(place.at).is_ok());

    let load = Load { keep_alive: true, think: Duration::from_millis(5), ..Load::new(place.at, 4) };
    let slow = std::thread::spawn(move || Client::new(place.at, false).ask("/sleep/2500").0);
    let load = load.start();
    eventually("the slow one is asked", || (load_of(program.pid()) >= 2).then_some(()));
    agent.send(Signal::TERM);
    eventually("it is gone", || (!has(&etcd)).then_some(()));
    // It has not heard of it: it answers on.
    assert_eq!(Client::new(place.at, false).ask("/").0, Outcome::Answered);
    assert!(!program.has_exited());
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally}");
    let ended = agent.ended();
    assert_eq!(slow.join().unwrap(), Outcome::Answered, "{ended:?}");
    assert_eq!(ended.code, Some(143), "{ended:?}");
    for said in
        [" deregistered ", " · traffic stopped ", "SIGTERM → ended by SIGTERM", "graceful: stopped in "]
    {
        assert!(ended.said.contains(said), "{said}: {ended:?}");
    }
}

/// How many threads a process has: hello has one for each connection.
fn load_of(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

#[test]
fn what_crashes_is_gone_at_once() {
    let etcd = or_skip!(Etcd::start());
    let place = Place::new();
    let agent = place.register(&[&format!("etcd://{}/apps?ttl=60", etcd.at())], &[], &place.hello());
    agent.says("registered web-");
    agent.program().send(Signal::KILL).unwrap();
    let ended = agent.ended();
    assert!(!has(&etcd));
    assert_eq!(ended.code, Some(137), "{ended:?}");
    assert!(ended.said.contains(", by itself · deregistered "), "{ended:?}");
}

#[test]
fn when_we_are_killed_the_program_goes_on_and_its_registration_ends() {
    let etcd = or_skip!(Etcd::start());
    let place = Place::new();
    let agent = registered(&place, &etcd, &[]);
    let program = agent.program();
    agent.send(Signal::KILL);
    let killed = Instant::now();
    agent.ended();
    eventually("it is gone", || (!has(&etcd)).then_some(()));
    // The time to live, half a second that etcd takes to look, and what a busy machine does.
    assert!(killed.elapsed() < Duration::from_millis(4_500), "{:?}", killed.elapsed());
    assert_eq!(Client::new(place.at, false).ask("/").0, Outcome::Answered);
    program.send(Signal::KILL).unwrap();
}

#[test]
fn whoever_asks_again_does_not_wait() {
    let etcd = or_skip!(Etcd::start());
    let place = Place::new();
    for command in [place.hello(), vec![]] {
        let options = ["--settle", "60s", "--timeout", "100s", "--check", "none"];
        let agent = place.register(&[&url(&etcd)], &options, &command);
        agent.says("registered web-");
        // As long as somebody new comes, it settles.
        let load = Load { think: Duration::from_millis(5), ..Load::new(place.at, 2) }.start();
        agent.send(Signal::TERM);
        eventually("it is gone", || (!has(&etcd)).then_some(()));
        let ended = agent.stop();
        load.stop();
        assert!(ended.took < Duration::from_secs(15), "{ended:?}");
    }
}

#[test]
fn alone_it_leaves_and_ends_when_nobody_comes() {
    let etcd = or_skip!(Etcd::start());
    let place = Place::new();
    let agent = place.register(&[&url(&etcd)], &["--check", "none"], &[]);
    agent.says("registered web-");
    let ended = agent.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!has(&etcd) && ended.said.contains(" ms · traffic stopped 1."), "{ended:?}");
}

#[test]
fn one_that_is_not_ready_any_more_is_taken_out_until_it_is() {
    let etcd = or_skip!(Etcd::start());
    let place = Place::new();
    let ready = place.file("ready");
    fs::write(&ready, "").unwrap();
    let agent = registered(&place, &etcd, &["--check", &format!("exec:test -e {}", ready.display())]);
    fs::remove_file(&ready).unwrap();
    agent.says("not ready any more · deregistered ");
    assert!(!has(&etcd));
    fs::write(&ready, "").unwrap();
    eventually("it is back", || has(&etcd).then_some(()));
    agent.stop();
    assert!(!has(&etcd));
}

#[test]
fn a_registry_that_is_down_is_tried_again_and_holds_nobody() {
    let etcd = or_skip!(Etcd::start());
    let proxy = Proxy::before(etcd.at());
    proxy.set(Fault::Closed);
    let place = Place::new();
    let directory = place.file("services");
    let file = format!("file://{}", directory.display());
    let through_proxy = format!("etcd://{}/apps?ttl=2", proxy.at());
    let agent = place.register(&[&through_proxy, &file], &[], &place.hello());
    agent.says("(it is tried again)");
    // The other one has it meanwhile.
    agent.says(&format!("{file}: registered web-"));
    proxy.set(Fault::None);
    eventually("it is registered", || has(&etcd).then_some(()));
    proxy.set(Fault::Silent);
    let ended = agent.stop();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert!(ended.said.contains("does not answer within"), "{ended:?}");
    assert_eq!(ended.said.matches("(it is tried again)").count(), 1, "{ended:?}");
    assert_eq!(fs::read_dir(directory.join("web")).unwrap().count(), 0, "the other one was left");
}

/// However long a registry takes to register it, a stop does not wait for that; and the other registry has it at once.
#[test]
fn a_registry_that_does_not_answer_keeps_nobody() {
    let etcd = or_skip!(Etcd::start());
    let proxy = Proxy::before(etcd.at());
    proxy.set(Fault::Silent);
    let place = Place::new();
    let silent = format!("etcd://{}/apps?ttl=2", proxy.at());
    let began = Instant::now();
    let agent = place.register(&[&silent, &url(&etcd)], &["--timeout", "3s"], &place.hello());
    agent.says("registered web-");
    assert!(began.elapsed() < Duration::from_secs(4), "it does not wait for the other");
    let ended = agent.stop();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    assert!(ended.took < Duration::from_secs(4), "{ended:?}");
    assert!(!has(&etcd));
}

#[test]
fn without_any_time_it_is_taken_out_afterwards() {
    let etcd = or_skip!(Etcd::start());
    let place = Place::new();
    let agent =
        place.register(&[&format!("etcd://{}/apps?ttl=60", etcd.at())], &["--timeout", "0"], &place.hello());
    agent.says("registered web-");
    agent.stop();
    assert!(!has(&etcd));
}

#[test]
fn users_of_etcd_need_their_password_and_it_is_never_shown() {
    let etcd = or_skip!(Etcd::start());
    etcd.ctl(&["user", "add", "root:hunter2"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["auth", "enable"]);
    let place = || Place::new().set("ETCDCTL_USER", "root");
    let right = place().set("ETCDCTL_PASSWORD", "hunter2");
    let from_file = place();
    let secret = from_file.file("secret");
    fs::write(&secret, "hunter2\n").unwrap();
    let from_file = from_file.set("ETCDCTL_PASSWORD_FILE", secret.display().to_string());
    for place in [right, from_file, Place::new().set("ETCDCTL_USER", "root:hunter2")] {
        let agent = place.register(&[&url(&etcd)], &["--check", "none"], &[]);
        agent.says("registered web-");
        let ended = agent.stop();
        assert!(ended.code == Some(0) && !ended.said.contains("hunter2"), "{ended:?}");
    }
    for place in [place().set("ETCDCTL_PASSWORD", "*******"), Place::new()] {
        let agent = place.register(&[&url(&etcd)], &["--check", "none"], &[]);
        agent.says("set ETCDCTL_USER, and ETCDCTL_PASSWORD");
        let ended = agent.stop();
        assert!(ended.code == Some(0) && !ended.said.contains("*******"), "{ended:?}");
    }
}

#[test]
fn with_tls_only_who_is_trusted_is_told() {
    let mut etcd = or_skip!(Etcd::start_with_tls());
    let url = format!("etcds://{}/apps?ttl=2", etcd.at());
    let authority = etcd.server().directory().join("server.pem");
    let place = Place::new().set("ETCDCTL_CACERT", authority.display().to_string());
    let agent = place.register(&[&url], &["--check", "none"], &[]);
    agent.says("registered web-");
    assert!(has(&etcd));
    assert_eq!(agent.stop().code, Some(0));
    assert!(!has(&etcd));

    let place = Place::new();
    let strange = place.register(&[&url], &["--check", "none"], &[]);
    strange.says("(it is tried again)");
    let ended = strange.stop();
    assert!(ended.said.contains("certificate"), "{ended:?}");
}

#[test]
fn the_next_server_is_asked_if_one_does_not_answer() {
    let etcd = or_skip!(Etcd::start());
    let proxy = Proxy::before(etcd.at());
    proxy.set(Fault::Silent);
    let url = format!("etcd://{},{}/apps?ttl=2", proxy.at(), etcd.at());
    let place = Place::new();
    let agent = place.register(&[&url], &["--check", "none"], &[]);
    agent.says("registered web-");
    assert_eq!(agent.stop().code, Some(0));
    assert!(!has(&etcd));
}

#[test]
fn what_is_wrong_is_said_before_anything_is_started() {
    let place = Place::new();
    let touched = place.file("touched");
    let touch = ["touch".to_owned(), touched.display().to_string()];
    let no_secret = Place::new().set("ETCDCTL_USER", "root");
    let no_file = Place::new().set("ETCDCTL_USER", "root").set("ETCDCTL_PASSWORD_FILE", "/no/such/file");
    let strange_time = Place::new().set("GRACEFULLY_GRACE", "soon");
    for (place, url, options, code, named) in [
        (&place, "etcd:somewhere", &[][..], 125, "SCHEME://HOST:PORT/PATH"),
        (&place, "zoo://somewhere", &[], 125, "the known ones are file, exec, etcd"),
        (&place, "etcd://a:b@c/", &[], 125, "they come from the environment"),
        (&place, "etcd://c/?ttl=1", &[], 125, "too short"),
        (&place, "etcd://c", &["--check", "udp"], 125, "invalid argument \"udp\" for \"--check\" flag"),
        (&place, "etcd://c", &["--meta", "zone"], 125, "not NAME=VALUE"),
        (&place, "etcd://c", &["--address", "a b"], 125, "for \"--address\" flag"),
        (&place, "etcd://c", &["--settle", "soon"], 125, "for \"--settle\" flag"),
        (&no_secret, "etcd://c", &[], 125, "there is no ETCDCTL_PASSWORD"),
        (&no_file, "etcd://c", &[], 125, "/no/such/file: No such file"),
        (&strange_time, "etcd://c", &[], 125, "GRACEFULLY_GRACE=soon"),
    ] {
        let ended = place.register(&[url], options, &touch).ended();
        assert!(ended.code == Some(code) && ended.said.contains(named), "{url}: {ended:?}");
    }
    let none = place.register(&["file:///tmp/x"], &[], &["/no/such/program".to_owned()]).ended();
    assert!(none.code == Some(127) && none.said.contains("/no/such/program"), "{none:?}");
    let directory = place.register(&["file:///tmp/x"], &[], &["/tmp".to_owned()]).ended();
    assert!(directory.code == Some(126) && directory.said.contains("/tmp"), "{directory:?}");
    assert!(!touched.exists());
}

#[test]
fn the_agent_of_one_service_is_small() {
    let etcd = or_skip!(Etcd::start());
    let place = Place::new();
    let agent = place.register(&[&url(&etcd)], &["--check", "none"], &[]);
    agent.says("registered web-");
    assert!(agent.private_memory_kb() <= 6 * 1024, "{} KB", agent.private_memory_kb());
    agent.stop();
}
