//! The demo's last act, on a registry that is not a directory.

use std::path::Path;
use std::process::{Command, Stdio};

use gracefully_servers::etcd::Etcd;

use crate::skip::skip;

#[test]
fn the_demo_shows_a_real_registry() {
    let program = Path::new(env!("CARGO_BIN_EXE_gracefully"));
    let etcd = match Etcd::start() {
        Ok(etcd) if program.with_file_name("orders").exists() => etcd,
        Ok(_) => return skip("demo", "the programs of examples/orders are not built"),
        Err(missing) => return skip("demo", &missing.to_string()),
    };
    let url = format!("etcd://{}/demo", etcd.at());
    let demo =
        Command::new(program).args(["demo", "--registry", &url]).stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&demo.stdout);
    let failed = |row: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(row)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|cell| cell.parse::<u64>().ok())
    };
    assert!(demo.status.success(), "{shown}{}", String::from_utf8_lossy(&demo.stderr));
    assert_eq!(failed("gateway, graceful"), Some(0), "{shown}");
    assert!(failed("gateway, killed").is_some_and(|failed| failed > 0), "the control: {shown}");
}

#[test]
fn a_registry_that_cannot_be_shown_is_named() {
    let program = Path::new(env!("CARGO_BIN_EXE_gracefully"));
    for (url, why) in
        [("consul://localhost", "only file and etcd are read"), ("etcd://127.0.0.1:1", "Connection refused")]
    {
        let demo =
            Command::new(program).args(["demo", "--registry", url]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&demo.stderr);
        assert!(demo.status.code() == Some(1) && said.contains(why), "{url}: {said}");
    }
}
