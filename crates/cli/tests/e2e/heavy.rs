//! Many of something: alone on the machine, one after the other (`.config/nextest.toml`).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    LONG, Target, World, behaviours, eventually, kill, new_name, pause_between_looks, run, start,
};

behaviours! {
    93 ten_thousand_targets [docker local];
    93 killed_at_random_moments [local];
    93 fifty_at_once [docker local];
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
    world.run(&[&["stop"], &names[..]].concat()).is(0, &lines);
    for target in &targets {
        assert_eq!(world.exit_code(target), 0);
    }
}

/// SIGKILL hits the client or the monitor, 200 times, at moments that are spread over the life of a container. Whatever
/// was going on, `ps -a` still works, everything that runs has a record, and `rm -f` takes all of it away.
fn killed_at_random_moments(world: &World) {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for round in 0..200 {
        let name = format!("{}-{round}", new_name());
        world.own(&name);
        let target = Target { name };
        let hit_the_monitor = round % 2 == 0;
        let verb = round / 2 % 3;
        let client = match verb {
            0 => start(&mut world.run_detached(&target.name, &[], "slow 0 0")),
            1 => {
                assert_eq!(run(&mut world.run_detached(&target.name, &[], "slow 0 0")).code, 0);
                world.spawn(&["stop", &target.name])
            }
            _ => {
                assert_eq!(
                    run(&mut world.run_detached(&target.name, &["--restart", "always"], "crash 0 1")).code,
                    0
                );
                world.spawn(&["restart", "-t", "1", &target.name])
            }
        };
        let moment = Instant::now() + Duration::from_micros(chance.below(80_000) as u64);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        if hit_the_monitor {
            kill_one_of(world, &mut chance);
        } else {
            client.signal(Signal::KILL);
        }
        let outcome = client.ended_within(LONG);
        assert!(!outcome.stderr.contains("panicked"), "round {round}: {outcome:#?}");
        let all = world.run(&["ps", "-a"]);
        assert!(!all.stderr.contains("panicked") && all.code == 0, "round {round}: {all:#?}");
        if all.stdout().contains(&target.name) {
            world.run(&["rm", "-f", &target.name]).is(0, &target.line());
        }
        eventually(&format!("round {round} leaves nothing behind: {:?}", world.processes()), || {
            world.processes().is_empty().then_some(())
        });
        let after = world.run(&["ps", "-a"]).stdout();
        assert!(!after.contains(&target.name), "round {round}: {after}");
    }
}

/// SIGKILL to a process of this test that is our program: a monitor, if there is one yet.
fn kill_one_of(world: &World, chance: &mut Chance) {
    let ours = Path::new(env!("CARGO_BIN_EXE_gracefully"));
    let candidates: Vec<u32> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let state = world.state_directory();
            let needle = state.as_os_str().as_encoded_bytes();
            program == ours && environment.windows(needle.len()).any(|window| window == needle)
        })
        .collect();
    if candidates.is_empty() {
        pause_between_looks();
        return;
    }
    kill(candidates[chance.below(candidates.len())]);
}

/// A small generator of numbers, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}
