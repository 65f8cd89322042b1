//! How long a stop takes, next to `docker stop`. Not a test of anything: run it by name, with `--ignored --nocapture`.

use std::time::{Duration, Instant};

use gracefully_core::policy::Request;

use super::daemon;

#[tokio::test]
#[ignore = "a measurement"]
async fn latency() {
    const PAIRS: usize = 20;
    let Some(daemon) = daemon() else { return };
    let (mut finds, mut ours, mut reference) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let made = daemon.run(&[], &["slow", "0", "0"]).await;
        let began = Instant::now();
        made.find().await;
        finds.push(began.elapsed());
        let began = Instant::now();
        made.stop(&Request::default()).await;
        ours.push(began.elapsed());

        let made = daemon.run(&[], &["slow", "0", "0"]).await;
        let began = Instant::now();
        daemon.cli_ok(&["stop", &made.id]);
        reference.push(began.elapsed());
    }
    println!(
        "{PAIRS} pairs, medians: find {:.2?}, find and stop {:.2?}, docker stop {:.2?}",
        median(finds),
        median(ours),
        median(reference)
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
