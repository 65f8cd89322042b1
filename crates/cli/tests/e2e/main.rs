//! The end-to-end suite: the program as a user types it, on real containers, held against docker's contract.
//!
//! Run it with `cargo xtask test`, which brings the private Docker daemon, the images and the static victim; with plain
//! `cargo test` what needs them is skipped visibly.
//!
//! # Conformance
//! The numbers in the lists of `behaviours!` are those of the conformance list in the project's notes on docker's
//! contract (sections A to E). Most run on `docker`, `local`, `process` and `reference`, the docker CLI itself.
//!
//! Where gracefully differs from docker on purpose, the list leaves the reference out:
//!
//! | case | docker | gracefully | why |
//! |---|---|---|---|
//! | 10 | the deprecation of `--time` is said on standard output | on standard error | standard output is data |
//! | 22 | `--signal` is dropped below API 1.42 | it is sent | what was asked is done or refused |
//! | 32 | 20.10's client: exit code 1 | 143, 130 | as docker's client since 28.0 |
//! | 73 | NAMES is the last column of `ps` | ENGINE follows it | two engines in one table |
//! | 36 | the name is printed before the removal is complete | after it | the name can be used again at once |
//! | 34 | a program stopped by SIGSTOP is killed when time is up | local and process: it is continued and exits | it can act on its stop signal |
//! | 54 | `restart` handles one container after the other | up to 50 at a time | as `stop` |
//!
//! Left out: 38 (`container stop`, a second name for `stop`), 51 (`--user=daemon` needs an image with users), 53, 79
//! (health checks), 80 (docker's own `build`), 83 to 88 (podman's own command line).

#[path = "../../../../xtask/src/dockerd.rs"]
mod dockerd;
mod harness;

mod args;
mod containers;
mod diagnosis;
mod faults;
mod heavy;
mod image;
mod kill;
mod monitor;
mod plugin;
mod restart;
mod stop;
