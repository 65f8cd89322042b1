//! The demo, as a newcomer runs it.

use std::path::Path;
use std::process::Command;

use crate::harness::{World, behaviours, run, skip_test};

behaviours! {
    0 every_act_shows_what_it_promises [local];
}

fn every_act_shows_what_it_promises(_: &World) {
    // Where cargo has put it, beside the programs of the third act.
    let program = Path::new(env!("CARGO_BIN_EXE_gracefully"));
    if !program.with_file_name("orders").exists() {
        skip_test!("the programs of examples/orders are not built");
    }
    let outcome = run(Command::new(program).arg("demo"));
    let shown = format!("{}{}", outcome.stdout(), outcome.stderr);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    // The cell of a row in one of the tables, which come last.
    let cell = |row: &str, column: usize| {
        let line = shown.lines().filter_map(|line| line.strip_prefix(row)).next_back().unwrap_or_default();
        let cell = line.split_whitespace().nth(column).map(str::to_owned);
        cell.unwrap_or_else(|| panic!("no cell {column} of {row:?}: {outcome:#?}"))
    };
    assert_eq!([cell("exec form ", 0), cell("shell form ", 0)], ["yes", "no"], "the program saw SIGTERM");
    assert_eq!(cell("graceful  ", 1), "0", "requests that failed across the restart: {outcome:#?}");
    assert_ne!(cell("docker  ", 1), "0", "the control");
    for end in ["SIGKILL", "SIGTERM"] {
        assert_eq!(cell(&format!("graceful, {end}"), 2), "0", "orders lost: {outcome:#?}");
        assert_ne!(cell(&format!("naive, {end}"), 2), "0", "the control");
    }
    assert_eq!(cell("graceful, SIGTERM", 3), "0", "requests cut: {outcome:#?}");
    assert_eq!(cell("gateway, graceful", 1), "0", "requests that failed: {outcome:#?}");
    assert_ne!(cell("gateway, killed", 1), "0", "the control");
}
