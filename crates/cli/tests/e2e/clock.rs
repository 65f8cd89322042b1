//! The wall clock jumps by an hour, forwards or backwards, in the middle of a stop. A budget is a time on the monotonic
//! clock.
//!
//! Only the program under test sees the jump: it loads a library of ours first (`clock/jump.c`). The clock of the machine
//! is not touched. A monitor of the local engine asks the kernel and no
//! library, so nothing can be put in between; there the search over all orders of events lets the clock jump
//! (`crates/monitor/src/supervisor/tests/search.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::{NOT_TEN, Running, SECOND, World, behaviours, eventually, read_report, skip, start};

behaviours! {
    92 during_a_stop [docker podman process];
}

const HOUR: i64 = 3600;

/// Longer than a machine needs for anything here, shorter than the jump.
const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

/// A clock for one program.
struct Clock {
    library: PathBuf,
    jump: PathBuf,
}

impl Clock {
    /// `None`, and the test is skipped, without a C compiler.
    fn new(world: &World) -> Option<Self> {
        let at = |name: &str| world.directory().join(name);
        let clock = Self { library: at("libjump.so"), jump: at("jump") };
        clock.jump_by(0);
        fs::write(at("jump.c"), include_str!("clock/jump.c")).expect("a file");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(&clock.library).arg(at("jump.c"));
        compiler.arg(format!("-DJUMP=\"{}\"", clock.jump.display()));
        match compiler.output() {
            Ok(output) if output.status.success() => Some(clock),
            Ok(output) => panic!("{compiler:?}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => {
                skip(module_path!(), "cc is not installed");
                None
            }
        }
    }

    /// From now on the time of day is this much later than it is.
    fn jump_by(&self, seconds: i64) {
        // At once: whoever reads it sees the one or the other.
        let new = self.jump.with_extension("new");
        fs::write(&new, seconds.to_string()).expect("a file");
        fs::rename(new, &self.jump).expect("the file");
    }

    fn spawn(&self, world: &World, args: &[&str]) -> Running {
        start(world.command(args).env("LD_PRELOAD", &self.library))
    }
}

fn during_a_stop(world: &World) {
    let Some(clock) = Clock::new(world) else { return };
    for jump in [HOUR, -HOUR] {
        clock.jump_by(0);
        let target = world.start("ignore");
        let file = world.directory().join("report.json");
        let stop = clock.spawn(world, &["stop", "-t", "2", "--report", &path(&file), &target.name]);
        eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
        clock.jump_by(jump);
        stop.ended().is(0, &target.line()).took_between(2 * SECOND, NOT_TEN);
        assert_eq!(world.exit_code(&target), 137);
        let report = read_report(&file);
        assert_eq!(report["verdict"], "forced", "{report:#}");
        let took = report["took_ms"].as_f64().expect("a time");
        assert!((2000.0..9000.0).contains(&took), "{report:#}");

        // The control: whoever carries out a stop now does see the jump.
        let other = world.start("slow 0 0");
        let began = SystemTime::now();
        clock.spawn(world, &["stop", "--report", &path(&file), &other.name]).ended().is(0, &other.line());
        let report = read_report(&file);
        let requested = report["requested_at"].as_str().expect("a time");
        let requested = humantime::parse_rfc3339(requested).expect("a time");
        let moved = match requested.duration_since(began) {
            Ok(later) => jump > 0 && later > HALF_AN_HOUR,
            Err(earlier) => jump < 0 && earlier.duration() > HALF_AN_HOUR,
        };
        assert!(moved, "{jump}: {began:?}, {report:#}");
    }
}

fn path(file: &Path) -> String {
    file.display().to_string()
}
