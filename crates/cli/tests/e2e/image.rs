//! Images: STOPSIGNAL, case 80; and the seed: FROM scratch, exec form, at most 1 MB.

use std::fs;

use crate::harness::{NOT_TEN, Outcome, World, behaviours, new_name, run};

behaviours! {
    91 seed_image_is_small [reference];
    80 stop_signal_is_kept_as_typed [docker reference podman("Podman keeps a number")];
    80 stop_signal_that_is_none_fails_the_build [reference];
    91 seed_is_stopped_gracefully [docker podman reference];
}

fn seed_image_is_small(world: &World) {
    let inspect =
        run(&mut world.docker(&["image", "inspect", "--format", "{{.Size}}", "gracefully-test/seed"]));
    let size: u64 = inspect.stdout().trim().parse().expect("a number of bytes");
    assert!(size <= 1_000_000, "the seed image has {size} bytes");
}

fn seed_is_stopped_gracefully(world: &World) {
    let target = world.start_image(&[], "gracefully-test/seed", &[]);
    world.run(&["stop", &target.name]).is(0, &target.line()).took_less_than(NOT_TEN);
    assert_eq!(world.log(&target), "Program started...\nSIGTERM received!\nExiting...\n");
    assert_eq!(world.exit_code(&target), 0);
}

/// Builds the victim's image with this STOPSIGNAL. The label makes every layer its own: docker builds on layers that it
/// has already, and those of another test may be removed in the middle of that.
fn build(world: &World, name: &str, signal: &str) -> Outcome {
    let context = world.directory().join("context");
    fs::create_dir_all(&context).expect("a directory");
    fs::write(
        context.join("Dockerfile"),
        format!("FROM gracefully-test/victim\nLABEL test={name}\nSTOPSIGNAL {signal}\n"),
    )
    .expect("a Dockerfile");
    // BuildKit needs a plugin that not every installation has.
    run(world.docker(&["build", "--quiet", "--tag", name]).arg(context).env("DOCKER_BUILDKIT", "0"))
}

fn stop_signal_is_kept_as_typed(world: &World) {
    for (typed, number) in [("rtmin+3", 37), ("SIGHUP", 1), ("12", 12)] {
        let image = new_name();
        let built = build(world, &image, typed);
        assert_eq!(built.code, 0, "{built:#?}");
        let target = world.start_image(&[], &image, &["allsig"]);
        assert_eq!(world.field(&target, "/Config/StopSignal"), typed);
        world.run(&["stop", "-t", "1", &target.name]).is(0, &target.line());
        assert_eq!(world.log(&target), format!("started allsig\ngot {number}\n"), "{typed}");
        run(&mut world.docker(&["rm", &target.name])).is(0, &target.line());
        assert_eq!(run(&mut world.docker(&["rmi", &image])).code, 0);
    }
}

fn stop_signal_that_is_none_fails_the_build(world: &World) {
    let outcome = build(world, &new_name(), "BOGUS");
    outcome.is(1, "").says("nvalid signal: BOGUS");
}
