//! `docker gracefully …`: the docker CLI's plugin protocol, cases 81 and 82.

use std::os::unix::fs::symlink;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{World, behaviours, eventually, gracefully, program, run, start};

behaviours! {
    81 metadata [local];
    81 called_by_docker [docker];
    81 global_flags_before_the_name [docker];
    82 docker_is_ended_without_a_terminal [docker];
}

fn metadata(world: &World) {
    let link = world.directory().join("docker-gracefully");
    symlink(program(), &link).expect("a link");
    let outcome = run(Command::new(link).arg("docker-cli-plugin-metadata"));
    assert_eq!((outcome.code, &*outcome.stderr), (0, ""), "{outcome:#?}");
    let metadata: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    // Docker up to 28.4 accepts this version of the schema only.
    assert_eq!(metadata["SchemaVersion"], "0.1.0");
    assert!(metadata["Vendor"].as_str().is_some_and(|vendor| !vendor.is_empty()), "{metadata}");
}

/// `docker --config DIR gracefully …`, where DIR has us as a plugin.
fn docker(world: &World, args: &[&str]) -> Command {
    let config = world.directory().join("config");
    let plugins = config.join("cli-plugins");
    if !plugins.exists() {
        std::fs::create_dir_all(&plugins).expect("a directory");
        symlink(program(), plugins.join("docker-gracefully")).expect("a link");
    }
    let mut docker = world.docker(&[]);
    docker.arg("--config").arg(config).args(args);
    docker
}

fn called_by_docker(world: &World) {
    let target = world.start("slow 0 0");
    run(&mut docker(world, &["gracefully", "stop", "-t", "5", &target.name])).is(0, &target.line());
    assert_eq!(world.exit_code(&target), 0);
    let refused = run(&mut docker(world, &["gracefully", "stop", "nope"]));
    refused.is(1, "").says("No such container: nope");
}

fn global_flags_before_the_name(world: &World) {
    let target = world.start("slow 0 0");
    run(&mut docker(world, &["--log-level", "debug", "gracefully", "stop", &target.name]))
        .is(0, &target.line());
    let help = run(&mut gracefully(&["--help"]));
    assert_eq!(help.code, 0, "{help:#?}");
}

/// Without a terminal docker keeps the signal to itself and only closes the plugin's socket (clients before 26 have no
/// such socket and the plugin runs to its end).
fn docker_is_ended_without_a_terminal(world: &World) {
    let target = world.start("ignore");
    let client = start(&mut docker(world, &["gracefully", "stop", "-t", "3", &target.name]));
    eventually("the signal has arrived", || world.log(&target).contains("got 15").then_some(()));
    client.signal(Signal::TERM);
    let outcome = client.ended();
    assert_ne!(outcome.code, 101, "{outcome:#?}");
    assert_eq!(world.exit_code(&target), 137);
}
