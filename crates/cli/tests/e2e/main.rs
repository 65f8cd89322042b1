//! The end-to-end suite: the program as a user types it, on real containers, held against docker's contract.
//!
//! Run it with `cargo xtask test`, which brings the private Docker daemon and Podman, the images and the static victim;
//! with plain `cargo test` what needs them is skipped visibly.
//!
//! # Conformance
//! The numbers in the lists of `behaviours!` are those of the conformance list in the project's notes on docker's
//! contract (sections A to E). Most run on `docker`, `podman`, `local`, `process` and `reference`, the docker CLI itself.
//!
//! Where gracefully differs from docker on purpose, the list leaves the reference out:
//!
//! | case | docker | gracefully | why |
//! |---|---|---|---|
//! | 10 | the deprecation of `--time` is said on standard output | on standard error | standard output is data |
//! | 22 | `--signal` is dropped below API 1.42 | it is sent | what was asked is done or refused |
//! | 32 | 20.10's client: exit code 1 | 143, 130 | as docker's client since 28.0 |
//! | 73 | NAMES is the last column of `ps` | ENGINE follows it | two engines in one table |
//! | 78 | `stop` is an event of its own | not after `stop --signal` below API 1.42 | the signal is sent by itself there |
//! | 36 | the name is printed before the removal is complete | after it | the name can be used again at once |
//! | 34 | a program stopped by SIGSTOP is killed when time is up | local and process: it is continued and exits | it can act on its stop signal |
//! | 53 | after `kill -s HUP` a crash is final, whatever the restart policy | local: it is restarted | a reload is no stop |
//! | 54 | `restart` handles one container after the other | up to 50 at a time | as `stop` |
//!
//! Refused: 83 to 88, podman's own command line where it is not docker's. A stop there skips the stop signal with
//! `-t 0`, one bad name keeps all others from being stopped, and an unknown name is exit code 125: a script has to
//! mean the same whichever engine answers, so `gracefully` speaks docker's words to podman, too.

#[path = "../../../../xtask/src/dockerd.rs"]
mod dockerd;
mod harness;

mod args;
mod clock;
mod containers;
mod demo;
mod diagnosis;
mod events;
mod faults;
mod heavy;
mod image;
mod kill;
mod monitor;
mod plugin;
mod restart;
mod stop;
mod traffic;
