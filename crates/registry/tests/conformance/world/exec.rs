//! A script that is a registry: a file for each instance.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use super::{Started, World};

struct Script(tempfile::TempDir);

/// The name of the file says which instance it is, whatever its id.
const SCRIPT: &str = r#"#!/bin/sh
name=$(printf %s "$GRACEFULLY_SERVICE $GRACEFULLY_ID" | sha256sum | cut -c1-64)
entry=$(dirname "$0")/entries/$name
is_there() { [ -n "$(find "$entry" -newermt "-$GRACEFULLY_TTL seconds" 2>/dev/null)" ]; }
case $1 in
register) printf '%s:%s %s' "$GRACEFULLY_ADDRESS" "$GRACEFULLY_PORT" "$GRACEFULLY_SERVICE" > "$entry.new" && mv "$entry.new" "$entry" ;;
alive) is_there || exit 3; touch "$entry" ;;
deregister) is_there || { rm -f "$entry"; exit 3; }; rm "$entry" ;;
visible) is_there || exit 3 ;;
*) exit 3 ;;
esac
"#;

#[expect(clippy::unnecessary_wraps, reason = "other registries may not be installed")]
pub(crate) fn start() -> Started {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("entries")).unwrap();
    fs::write(directory.path().join("text"), SCRIPT).unwrap();
    let script = directory.path().join("registry");
    // Written by another process: one of ours that is forked meanwhile would keep it open for writing, and it could not be executed.
    let copied = Command::new("cp").arg(directory.path().join("text")).arg(&script).status().unwrap();
    assert!(copied.success());
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    Ok(Box::new(Script(directory)))
}

impl World for Script {
    fn url(&self) -> String {
        format!("exec://{}?ttl=2", self.0.path().join("registry").display())
    }

    fn finds(&self, service: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("entries")).unwrap().flatten();
        let found = entries.filter_map(|entry| {
            let age = entry.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
            let text = fs::read_to_string(entry.path()).ok()?;
            let (at, name) = text.split_once(' ')?;
            (age <= Duration::from_secs(2) && name == service).then(|| at.to_owned())
        });
        let mut found: Vec<String> = found.collect();
        found.sort();
        found
    }

    fn expire(&self) {
        for entry in fs::read_dir(self.0.path().join("entries")).unwrap().flatten() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}
