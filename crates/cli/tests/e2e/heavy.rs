//! Many of something: alone on the machine, one after the other (`.config/nextest.toml`).

use std::time::Duration;

use rustix::process::Signal;

use gracefully_load::{Client, Outcome as Answer, Tally};
use gracefully_registry::Deadline;

use crate::harness::{
    Kind, LONG, Outcome, Target, World, behaviours, eventually, kill, new_name, run, start,
};
use crate::traffic::server::Server;

behaviours! {
    93 ten_thousand_targets [docker local];
    93 killed_at_random_moments [local];
    93 fifty_at_once [docker local];
    "A" killed_at_random_moments_under_load [docker bridge local];
}

fn ten_thousand_targets(world: &World) {
    let target = world.start("slow 0 0");
    let unknown: Vec<String> = (0..10_000).map(|n| format!("nope-{n}")).collect();
    let mut command = world.command(&["stop"]);
    let outcome = start(command.args(&unknown).arg(&target.name)).ended_within(LONG * 2);
    outcome.is(1, &target.line());
    assert_eq!(outcome.stderr.matches("No such container: nope-").count(), 10_000);
    assert_eq!(world.exit_code(&target), 0);
}

fn fifty_at_once(world: &World) {
    let targets: Vec<Target> = (0..50).map(|_| world.start("slow 0 0")).collect();
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let lines: String = targets.iter().map(Target::line).collect();
    let outcome = world.run(&[&["stop"], &names[..]].concat());
    outcome.is(0, &lines);
    for target in &targets {
        assert_eq!(world.exit_code(target), 0, "{target:?}: {outcome:#?}");
    }
}

/// SIGKILL hits the client, the monitor or the conductor, 200 times, at moments that are spread over the life of a
/// container. Whatever was going on, `ps -a` still works, everything that runs has a record, and `rm -f` takes all of it
/// away. Where only the conductor was hit, the stop is carried out as if it had not been.
fn killed_at_random_moments(world: &World) {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut hit = [0; 3];
    for round in 0..200 {
        let name = format!("{}-{round}", new_name());
        world.own(&name);
        let target = Target { name };
        let whom = [Whom::Client, Whom::Monitor, Whom::Conductor][round % 3];
        // Only a stop has a conductor.
        let verb = if whom == Whom::Conductor { 1 + round / 3 % 2 } else { round / 3 % 3 };
        let client = match verb {
            0 => start(&mut world.run_detached(&target.name, &[], "slow 0 0")),
            1 => {
                assert_eq!(run(&mut world.run_detached(&target.name, &[], "slow 0 0")).code, 0);
                world.spawn(&["stop", &target.name])
            }
            _ => {
                // Of what ends again at once no restart says that it has succeeded.
                let mode = if whom == Whom::Conductor { "slow 0 0" } else { "crash 0 1" };
                let started = run(&mut world.run_detached(&target.name, &["--restart", "always"], mode));
                assert_eq!(started.code, 0);
                world.spawn(&["restart", "-t", "1", &target.name])
            }
        };
        let within = if whom == Whom::Conductor { 15_000 } else { 80_000 };
        chance.moment(within);
        hit[whom as usize] += u32::from(match whom {
            Whom::Client => {
                client.signal(Signal::KILL);
                true
            }
            Whom::Monitor | Whom::Conductor => kill_one_of(world, whom),
        });
        let outcome = client.ended_within(LONG);
        assert!(!outcome.stderr.contains("panicked"), "round {round}: {outcome:#?}");
        if whom == Whom::Conductor {
            outcome.is(0, &target.line());
            assert!(world.log(&target).matches("got 15").count() <= 1, "round {round}");
            let then = if verb == 1 { "stay" } else { "start" };
            assert_eq!(world.report(&target)["then"], then, "round {round}");
        }
        let all = world.run(&["ps", "-a"]);
        assert!(!all.stderr.contains("panicked") && all.code == 0, "round {round}: {all:#?}");
        if all.stdout().contains(&target.name) {
            // What could not be started may be removed just now by its monitor.
            assert_eq!(world.run(&["rm", "-f", &target.name]).code, 0, "round {round}");
        }
        eventually(&format!("round {round} leaves nothing behind: {:?}", world.processes()), || {
            world.processes().is_empty().then_some(())
        });
        let after = world.run(&["ps", "-a"]).stdout();
        assert!(!after.contains(&target.name), "round {round}: {after}");
    }
    assert!(hit.iter().all(|&times| times > 5), "the moments are not spread: {hit:?}");
}

/// Who is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Client,
    Monitor,
    Conductor,
}

/// SIGKILL or SIGINT hits the client, or SIGKILL the conductor, in the middle of a restart or a stop under load, 100 times,
/// and up to 100 times more until it has hit every part of them often enough.
/// Afterwards the program serves, the same one or its successor, or it has been stopped whole; no connection is frozen, none
/// is held. Whoever interrupts before the stop signal cuts nothing; and nothing is cut either when the client is killed on
/// the embedded engine, where the conductor goes on.
fn killed_at_random_moments_under_load(world: &World) {
    let mut chance = Chance(0x6a09_e667_f3bc_c908);
    let (mut aborted, mut killed, mut done) = (0, 0, 0);
    // Of the moments, two of three are before the end of a restart, however fast this machine is, and however busy it gets.
    let mut within = usize::try_from(time_of_a_restart(world).as_micros()).expect("not for years") * 3 / 2;
    let mut round = 0;
    while round < 100 || round < 200 && ![aborted, killed, done].iter().all(|&times| times > 5) {
        // One that hears no signal takes all of its time; the other has enough to be drained, however busy this machine is.
        let (program, budget) = if round % 5 == 0 { ("http", "1") } else { ("http-graceful", "5") };
        let server = Server::start(world, program);
        let target = &server.target;
        let before = world.main_pid(target);
        let mut kept = Client::new(server.at, true);
        // Of a connection that has been answered but once or twice, the drain waits longer to see whether that was all.
        for _ in 0..8 {
            assert_eq!(kept.ask("/").0, Answer::Answered);
        }
        let loads = [
            server.load("/sleep/10", false, Duration::ZERO),
            server.load("/sleep/10", true, Duration::from_millis(10)),
        ];
        let verb = ["restart", "restart", "stop"][round % 3];
        let client = world.spawn(&[verb, "-t", budget, &target.name]);
        chance.moment(within);
        let conductor =
            world.kind == Kind::Local && round / 6 % 3 == 0 && kill_one_of(world, Whom::Conductor);
        if !conductor {
            client.signal(if round / 3 % 2 == 0 { Signal::KILL } else { Signal::INT });
        }
        let outcome = client.ended_within(LONG);
        assert!(!outcome.stderr.contains("panicked"), "round {round}: {outcome:#?}");

        let answers = || Client::new(server.at, false).ask("/").0 == Answer::Answered;
        eventually(&format!("round {round}: it serves, or is stopped: {outcome:#?}"), || {
            (answers() || verb == "stop" && world.status(target) == "exited").then_some(())
        });
        let [new, old] = loads.map(gracefully_load::Running::stop);
        let after = kept.ask("/").0;
        let seen = format!("round {round}: {new}; {old}; {after:?}: {outcome:#?}");
        assert_eq!((new.timed_out, old.timed_out), (0, 0), "{seen}");
        assert_ne!(after, Answer::TimedOut, "{seen}");
        if is_aborted(&outcome) {
            aborted += 1;
            assert_eq!(world.main_pid(target), before, "{seen}");
            assert_eq!((cut(&new), cut(&old)), (0, 0), "{seen}");
        }
        if outcome.code == 0 || world.kind == Kind::Local && !conductor {
            assert_eq!((cut(&new), cut(&old)), (0, 0), "{seen}");
        }
        killed += u32::from(outcome.code == 137 || conductor);
        done += u32::from(outcome.code == 0);
        within = if outcome.code == 0 { within - within / 25 } else { within + within / 50 };
        // dockerd may be restarting it still, and write a file where it removes a directory.
        eventually(&format!("round {round}: it is removed"), || {
            (world.run(&["rm", "-f", &target.name]).code == 0 || !world.exists(target)).then_some(())
        });
        round += 1;
    }
    let hit = [aborted, killed, done];
    assert!(hit.iter().all(|&times| times > 5), "the moments are not spread: {hit:?}");
}

/// How long a restart under load takes.
fn time_of_a_restart(world: &World) -> Duration {
    let server = Server::start(world, "http-graceful");
    let load = server.load("/sleep/10", false, Duration::ZERO);
    let restarted = world.run(&["restart", &server.target.name]);
    restarted.is(0, &server.target.line());
    load.stop();
    restarted.took
}

/// Has the client taken the stop back?
fn is_aborted(outcome: &Outcome) -> bool {
    outcome.code == 130 && outcome.stderr.contains("aborted before the stop signal")
}

/// Requests that were lost on their way; one that is refused was not.
fn cut(tally: &Tally) -> u64 {
    tally.failed() - tally.refused
}

/// SIGKILL to the monitor or the conductor of this test's container, if there is one now.
fn kill_one_of(world: &World, whom: Whom) -> bool {
    let is_one = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let monitor = words[0] == "gracefully-monitor" || words.get(1) == Some(&"monitor");
        let conductor = words.get(1) == Some(&"conduct");
        match whom {
            Whom::Client => false,
            Whom::Monitor => monitor,
            Whom::Conductor => conductor,
        }
    };
    match world.processes().iter().find(|(_, line)| is_one(line)) {
        Some((pid, _)) => kill(*pid),
        None => return false,
    }
    true
}

/// A small generator of numbers, the same in every run.
struct Chance(u64);

impl Chance {
    /// Waits for a moment that is at most so many microseconds away.
    fn moment(&mut self, within: usize) {
        Deadline::within(Duration::from_micros(self.below(within) as u64)).wait();
    }

    fn below(&mut self, limit: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}
