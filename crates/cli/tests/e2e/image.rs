//! The seed as an image: FROM scratch, exec form, at most 1 MB.

use crate::harness::{NOT_TEN, World, behaviours, run};

behaviours! {
    91 seed_image_is_small [reference];
    91 seed_is_stopped_gracefully [docker reference];
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
