//! The conformance suite of inits. The numbers are those of the list of 90 cases in the project's notes on PID 1 programs.
//!
//! Every case runs as PID 1 of a namespace of its own, and where that makes sense also as nobody without capabilities and on
//! a root that cannot be written to, and not as PID 1. `GRACEFULLY_TEST_INIT=/usr/bin/tini` has the same done by another init:
//! then a case that fails is no bug of ours but a line in the table of `cargo xtask bench init`.
//!
//! What is missing: see `docs/init.md`, "The 90 cases".
#![expect(clippy::unwrap_used, reason = "a case ends where something is not as it must be")]

/// Makes a test of each case for each way.
macro_rules! cases {
    ($($ways:ident: $($case:ident),+ $(,)?;)+) => {
        $(crate::cases!(@ways $ways: $($case),+);)+
    };
    (@ways everywhere: $($case:ident),+) => {
        crate::cases!(@tests pid1, Pid1, pid1_everywhere: $($case),+);
        crate::cases!(@tests unprivileged, Unprivileged, unprivileged_everywhere: $($case),+);
        crate::cases!(@tests subreaper, Subreaper, subreaper_everywhere: $($case),+);
    };
    (@ways as_pid1: $($case:ident),+) => {
        crate::cases!(@tests pid1, Pid1, pid1_only: $($case),+);
    };
    (@ways as_pid1_with_and_without_rights: $($case:ident),+) => {
        crate::cases!(@tests pid1, Pid1, pid1_both: $($case),+);
        crate::cases!(@tests unprivileged, Unprivileged, unprivileged_both: $($case),+);
    };
    (@ways on_terminals: $($case:ident),+) => {
        crate::cases!(@tests pid1, Pid1, pid1_terminal: $($case),+);
        crate::cases!(@tests subreaper, Subreaper, subreaper_terminal: $($case),+);
    };
    (@ways as_nobody: $($case:ident),+) => {
        crate::cases!(@tests unprivileged, Unprivileged, unprivileged_only: $($case),+);
    };
    (@ways as_subreaper: $($case:ident),+) => {
        crate::cases!(@tests subreaper, Subreaper, subreaper_only: $($case),+);
    };
    (@tests $name:ident, $way:ident, $module:ident: $($case:ident),+) => {
        mod $module {
            $(#[test]
            fn $case() {
                if crate::harness::can_run(crate::harness::Way::$way) {
                    super::$case(crate::harness::Way::$way);
                }
            })+
        }
    };
}
pub(crate) use cases;

#[expect(dead_code, reason = "others who use it ask for more")]
#[path = "../../../../xtask/src/dockerd.rs"]
mod dockerd;
mod harness;

mod docker;
mod environment;
mod exits;
mod forwarding;
mod hooks;
mod leftovers;
mod reaping;
mod robustness;
mod starting;
mod terminal;
mod traffic;
