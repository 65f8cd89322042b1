//! The wall clock jumps by an hour, forwards or backwards, while something is going on. A budget and a pause are times
//! on the monotonic clock, and a log has the order in which it was written, whatever the time of day.
//!
//! Only the program under test sees the jump, its monitor and launcher included: a copy of it is told by `patchelf` to
//! load a library of ours first (`clock/jump.c`). The clock of the machine is not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::harness::{
    Kind, NOT_TEN, Running, SECOND, Skip, Target, World, behaviours, eventually, new_name, run, skip, start,
};

behaviours! {
    92 during_a_stop [docker podman local process];
    92 between_two_runs [local];
    92 while_something_is_written [local];
}

const HOUR: i64 = 3600;

/// Longer than a machine needs for anything here, shorter than the jump.
const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

/// A copy of the program with a clock of its own.
struct Clock {
    program: PathBuf,
    jump: PathBuf,
}

impl Clock {
    /// `None`, and the test is skipped, without the tools for it.
    fn new(world: &World) -> Option<Self> {
        Self::make(world).map_err(|Skip(why)| skip(module_path!(), &why)).ok()
    }

    fn make(world: &World) -> Result<Self, Skip> {
        let at = |name: &str| world.directory().join(name);
        let (program, library, source) = (at("gracefully"), at("libjump.so"), at("jump.c"));
        let clock = Self { program, jump: at("jump") };
        clock.jump_by(0);
        fs::write(&source, include_str!("clock/jump.c")).expect("a file");
        tool(
            Command::new("cc")
                .args(["-shared", "-fPIC", "-o"])
                .arg(&library)
                .arg(&source)
                .arg(format!("-DJUMP=\"{}\"", clock.jump.display())),
        )?;
        fs::copy(env!("CARGO_BIN_EXE_gracefully"), &clock.program).expect("a copy");
        tool(Command::new("patchelf").arg("--add-needed").arg(library).arg(&clock.program))?;
        Ok(clock)
    }

    /// From now on the time of day is this much later than it is.
    fn jump_by(&self, seconds: i64) {
        // At once: whoever reads it sees the one or the other.
        let new = self.jump.with_extension("new");
        fs::write(&new, seconds.to_string()).expect("a file");
        fs::rename(new, &self.jump).expect("the file");
    }

    /// The same command with this clock.
    fn command(&self, command: &Command) -> Command {
        let mut ours = Command::new(&self.program);
        ours.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => ours.env(name, value),
                None => ours.env_remove(name),
            };
        }
        ours
    }

    /// Starts the victim; on the local engine under a monitor with this clock.
    fn start(&self, world: &World, options: &[&str], mode: &str) -> Target {
        if world.kind != Kind::Local {
            return world.start_with(options, mode);
        }
        let target = Target { name: new_name() };
        world.own(&target.name);
        let started = run(&mut self.command(&world.run_detached(&target.name, options, mode)));
        assert_eq!(started.code, 0, "{started:#?}");
        eventually("the program says that it has started", || {
            world.log(&target).contains("started").then_some(())
        });
        target
    }

    fn spawn(&self, world: &World, args: &[&str]) -> Running {
        start(&mut self.command(&world.command(args)))
    }
}

/// Runs a tool that not every machine has.
fn tool(command: &mut Command) -> Result<(), Skip> {
    let name = command.get_program().display().to_string();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => Err(Skip(format!("{name} is not installed"))),
    }
}

fn during_a_stop(world: &World) {
    let Some(clock) = Clock::new(world) else { return };
    for jump in [HOUR, -HOUR] {
        clock.jump_by(0);
        let target = clock.start(world, &[], "ignore");
        let file = world.directory().join("report.json");
        let stop = clock.spawn(world, &["stop", "-t", "2", "--report", &path(&file), &target.name]);
        eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
        clock.jump_by(jump);
        stop.ended().is(0, &target.line()).took_between(2 * SECOND, NOT_TEN);
        assert_eq!(world.exit_code(&target), 137);
        let report: Value = serde_json::from_slice(&fs::read(&file).expect("a report")).expect("JSON");
        assert_eq!(report["verdict"], "forced", "{report:#}");
        let took = report["took_ms"].as_f64().expect("a time");
        assert!((2000.0..9000.0).contains(&took), "{report:#}");

        // The control: whoever carries out a stop now does see the jump.
        let other = clock.start(world, &[], "slow 0 0");
        let began = SystemTime::now();
        clock.spawn(world, &["stop", "--report", &path(&file), &other.name]).ended().is(0, &other.line());
        let report: Value = serde_json::from_slice(&fs::read(&file).expect("a report")).expect("JSON");
        let requested = report["requested_at"].as_str().expect("a time");
        let requested = humantime::parse_rfc3339(requested).expect("a time");
        let moved = match requested.duration_since(began) {
            Ok(later) => jump > 0 && later > HALF_AN_HOUR,
            Err(earlier) => jump < 0 && earlier.duration() > HALF_AN_HOUR,
        };
        assert!(moved, "{jump}: {began:?}, {report:#}");
    }
}

/// The run after which the jump comes takes a second, so that the next pause is the fourth, 800 ms. Were the run measured by
/// the time of day it would look like an hour, after which the pauses begin anew with 100 ms; and a pause that ended at
/// a time of day would be over at once, or never.
fn between_two_runs(world: &World) {
    let Some(clock) = Clock::new(world) else { return };
    for jump in [HOUR, -HOUR] {
        clock.jump_by(0);
        let target = clock.start(world, &["--restart", "always"], "crash 1 9");
        let state = || (world.status(&target), world.field(&target, "/RestartCount"));
        eventually("it runs for the fourth time", || (state() == ("running".into(), 3.into())).then_some(()));
        clock.jump_by(jump);
        eventually("it has ended", || (world.status(&target) == "restarting").then_some(()));
        let ended = Instant::now();
        eventually("it runs for the fifth time", || (state() == ("running".into(), 4.into())).then_some(()));
        let pause = ended.elapsed();
        assert!(pause > Duration::from_millis(400) && pause < NOT_TEN, "{jump}: {pause:?}");
        run(&mut world.command(&["rm", "-f", &target.name])).is(0, &target.line());
    }
}

fn while_something_is_written(world: &World) {
    let Some(clock) = Clock::new(world) else { return };
    let target = clock.start(world, &[], "ticker");
    let following = clock.spawn(world, &["logs", "-f", &target.name]);
    let mut ticks = 20;
    for jump in [HOUR, -HOUR, 0] {
        let last = format!("tick {ticks}\n");
        eventually("it has ticked a little", || world.log(&target).contains(&last).then_some(()));
        clock.jump_by(jump);
        // Also to a program that is younger than its containers.
        let listed = run(&mut clock.command(&world.command(&["ps", "-a"])));
        assert_eq!(listed.code, 0, "{listed:#?}");
        ticks += 20;
    }
    let last = format!("tick {ticks}\n");
    eventually("it has ticked a little", || world.log(&target).contains(&last).then_some(()));
    world.run(&["stop", &target.name]).is(0, &target.line());

    let log = world.log(&target);
    let lines: Vec<&str> = log.lines().collect();
    let expected: Vec<String> = (0..lines.len() - 2).map(|n| format!("tick {n}")).collect();
    assert_eq!(lines[0], "started ticker");
    assert_eq!(lines[1..lines.len() - 1], expected);
    assert_eq!(lines[lines.len() - 1], "last");
    following.ended().is(0, &log);
    world.run(&["logs", "--tail", "1", &target.name]).is(0, "last\n");

    // The control: the times in the log do jump there and back.
    let with_times = world.run(&["logs", "--timestamps", &target.name]).stdout();
    let times: Vec<SystemTime> = with_times
        .lines()
        .map(|line| {
            line.split(' ').next().and_then(|time| humantime::parse_rfc3339(time).ok()).expect("a time")
        })
        .collect();
    let jumps = times.windows(2).filter(|pair| match pair[1].duration_since(pair[0]) {
        Ok(later) => later > HALF_AN_HOUR,
        Err(earlier) => earlier.duration() > HALF_AN_HOUR,
    });
    assert_eq!(jumps.count(), 3);
}

fn path(file: &Path) -> String {
    file.display().to_string()
}
