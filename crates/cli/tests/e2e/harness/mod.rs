//! What every test of the suite stands on.
//!
//! A *behaviour* is a function of a [`World`]: one engine, with containers that belong to this test alone. The macro
//! `behaviours!` makes one test of it for every engine named, so that the same words are held against gracefully on
//! docker, on the local engine, on plain processes, and against the docker CLI itself: the reference.

mod poll;
mod program;
mod running;
mod skip;
mod world;

pub(crate) use poll::{LONG, NOT_TEN, SECOND, eventually};
pub(crate) use program::{clean, gracefully, link, program, small_init, small_monitor};
pub(crate) use running::{Outcome, Running, kill, run, signal, start};
pub(crate) use skip::{Skip, skip};
pub(crate) use world::{Kind, Target, World, created, new_name, read_report};

/// A list of behaviours: the number of the conformance case (docs in `main.rs`), the function, the engines. An engine
/// that should have the behaviour and cannot is followed by the reason: `podman("it has its own words for that")`.
macro_rules! behaviours {
    ($($case:literal $name:ident [$($kind:ident $(($why:literal))?)+];)+) => {
        $(
            mod $name {
                $(
                    #[test]
                    fn $kind() {
                        let test = concat!(module_path!(), "::", stringify!($kind));
                        let cannot: &[&str] = &[$($why)?];
                        match cannot {
                            [] => $crate::harness::on(stringify!($kind), test, super::$name),
                            why => $crate::harness::skip(test, &why.concat()),
                        }
                    }
                )+
            }
        )+
    };
}

pub(crate) use behaviours;

/// Ends a test that cannot run here: says why, and is counted.
macro_rules! skip_test {
    ($($reason:tt)+) => {{
        $crate::harness::skip(module_path!(), &format!($($reason)+));
        return;
    }};
}

pub(crate) use skip_test;

/// Runs a behaviour on an engine, or says why it cannot.
pub(crate) fn on(kind: &str, test: &str, behaviour: impl FnOnce(&World)) {
    match World::open(Kind::named(kind)) {
        Ok(world) => world.inside(|| behaviour(&world)),
        Err(Skip(reason)) => skip(test, &reason),
    }
}
