//! Docker's `config.json`: registers and unregisters our hook, and leaves everything else as it is.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use super::hook::COMMANDS;
use crate::usage::Program;

/// Registers our hook. Returns whether the file had to be changed.
pub(super) fn register(file: &Path) -> anyhow::Result<bool> {
    edit(file, |config| {
        let plugin = object(object(config, "plugins")?, Program::NAME)?;
        Ok(plugin.insert("hooks".into(), COMMANDS.into()) != Some(COMMANDS.into()))
    })
}

/// Takes our hook out again, if it is ours, and the objects that are empty then.
pub(super) fn unregister(file: &Path) -> anyhow::Result<bool> {
    edit(file, |config| {
        let Some(Value::Object(plugins)) = config.get_mut("plugins") else { return Ok(false) };
        let Some(Value::Object(plugin)) = plugins.get_mut(Program::NAME) else { return Ok(false) };
        if plugin.get("hooks") != Some(&COMMANDS.into()) {
            return Ok(false);
        }
        plugin.shift_remove("hooks");
        if plugin.is_empty() {
            plugins.shift_remove(Program::NAME);
        }
        if plugins.is_empty() {
            config.shift_remove("plugins");
        }
        Ok(true)
    })
}

/// The object at `key`, made if there is none.
fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> anyhow::Result<&'a mut Map<String, Value>> {
    let value = parent.entry(key).or_insert_with(|| Value::Object(Map::new()));
    value.as_object_mut().with_context(|| format!("{key:?} is not an object"))
}

/// Reads the file, changes it and puts it back in one step, with its mode and owner.
fn edit(
    file: &Path,
    change: impl FnOnce(&mut Map<String, Value>) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let named = || format!("cannot change {}", file.display());
    // Where a link points, the file is; the link stays.
    let file = match file.canonicalize() {
        Ok(whole) => whole,
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
        Err(error) => return Err(error).with_context(named),
    };
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => b"{}".to_vec(),
        Err(error) => return Err(error).with_context(named),
    };
    let mut config = serde_json::from_slice(&text).with_context(named)?;
    if !change(&mut config).with_context(named)? {
        return Ok(false);
    }
    replace(&file, &render(&config)?).with_context(named)?;
    Ok(true)
}

/// With tabs, as docker writes it.
fn render(config: &Map<String, Value>) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    config.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"\t")))?;
    text.push(b'\n');
    Ok(text)
}

/// Writes a new file beside the old one and renames it: whoever reads sees the old text or the new, never half.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = write_like(&temporary, file, text).and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        // The old file is untouched; nothing more can be done about the new one.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes `path` with the mode and the owner of `model`. It may hold credentials: a new one is for its owner only.
fn write_like(path: &Path, model: &Path, text: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    if let Ok(old) = fs::metadata(model) {
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "{\n\t\"zebra\": 1,\n\t\"auths\": {\n\t\t\"r\": {\n\t\t\t\"auth\": \"x\"\n\t\t}\n\t},\n\t\"aliases\": {}\n}\n";

    #[test]
    fn registering_and_unregistering_leaves_the_file_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.json");
        fs::write(&file, BEFORE).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();

        assert!(register(&file).unwrap());
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("{\n\t\"zebra\": 1,\n\t\"auths\""), "the order is kept: {text}");
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["plugins"]["gracefully"]["hooks"], "stop,container stop");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(!register(&file).unwrap(), "a second time changes nothing");

        assert!(unregister(&file).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), BEFORE);
        assert!(!unregister(&file).unwrap());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn others_hooks_stay() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.json");
        fs::write(&file, r#"{"plugins":{"scout":{"hooks":"pull"},"gracefully":{"x":"y"}}}"#).unwrap();
        assert!(register(&file).unwrap());
        assert!(unregister(&file).unwrap());
        let config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(config, serde_json::json!({"plugins":{"scout":{"hooks":"pull"},"gracefully":{"x":"y"}}}));

        fs::write(&file, r#"{"plugins":{"gracefully":{"hooks":"run"}}}"#).unwrap();
        assert!(!unregister(&file).unwrap(), "somebody changed it: it is not ours");
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_a_broken_one_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.json");
        assert!(register(&file).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);

        for broken in ["{", "[]", r#"{"plugins":[]}"#] {
            fs::write(&file, broken).unwrap();
            let error = format!("{:#}", register(&file).unwrap_err());
            assert!(error.starts_with("cannot change "), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), broken);
        }
    }

    #[test]
    fn a_link_stays_a_link() {
        let home = tempfile::tempdir().unwrap();
        let (real, link) = (home.path().join("real.json"), home.path().join("config.json"));
        fs::write(&real, "{}").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(register(&link).unwrap());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("gracefully"));
    }
}
