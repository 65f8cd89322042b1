//! A directory as a registry: a file for each instance. It needs no server, and whoever reads it needs no library.
//!
//! `DIRECTORY/SERVICE/ID.json` is there as a whole or not at all (rename(2)). The heartbeat is the time of its last change: an
//! entry that is older than its `ttl_seconds` belongs to a process that has died. Each heartbeat of anybody removes such
//! entries of the same service.
//!
//! Gateways read files, too, of forms of their own. With a `layout` there is one more, with all instances of the service, which whoever
//! changes something writes anew:
//!
//! | `layout` | file | what it is |
//! |---|---|---|
//! | `plain` | | |
//! | `envoy` | `DIRECTORY/SERVICE.eds.json` | a response of the endpoint discovery service, for a `path_config_source` |
//! | `traefik` | `DIRECTORY/SERVICE.yml` | a service of the file provider, whose routers are in a file of somebody else's |
//!
//! All instances of a service have the same layout.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use self::layout::Layout;
use crate::url::Url;
use crate::{Alive, Deadline, Error, Hints, Instance, Left, Registry, Result};

mod layout;

/// How long an entry lives without a heartbeat.
const TTL: Duration = Duration::from_secs(10);

/// The shortest time: a busy machine may be late by a second.
const LEAST: Duration = Duration::from_secs(2);

/// Whoever watches a directory (inotify(7)) hears of a change at once; whoever looks once a second has looked by then.
const SETTLE: Duration = Duration::from_secs(1);

/// A directory with the entries of services.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    ttl: Duration,
    layout: Layout,
    entry: Option<Entry>,
}

/// Where our entry is.
#[derive(Clone, Debug)]
struct Entry {
    service: String,
    path: PathBuf,
}

impl Directory {
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        if !url.authority.is_empty() || url.path.len() < 2 {
            return Err(url.error("a directory is named by its whole path, as in file:///run/services"));
        }
        let mut settings = url.settings()?;
        let ttl = settings.ttl(TTL, LEAST)?;
        let layout = settings.choice("layout", Layout::ALL)?;
        settings.end()?;
        Ok(Self { path: url.path.into(), ttl, layout, entry: None })
    }

    fn failed(&self, what: &Path, error: &io::Error) -> Error {
        let why = format!("{}: {error}", what.display());
        if error.kind() == io::ErrorKind::PermissionDenied {
            let hint = "the directory has to be writable";
            return Error::Refused { registry: self.name(), why, hint };
        }
        Error::Failed { registry: self.name(), why }
    }

    fn name(&self) -> String {
        format!("file://{}", self.path.display())
    }

    fn entry(&self) -> Result<Entry> {
        self.entry.clone().ok_or(Error::NotRegistered)
    }

    pub(crate) fn find(&self, service: &str) -> Result<Vec<Instance>> {
        match fs::metadata(&self.path) {
            Ok(_) => Ok(instances(&self.path, service)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.failed(&self.path, &error)),
        }
    }

    /// Writes the file that gateways read, if there is one.
    fn render(&self, deadline: Deadline) -> Result<()> {
        let Some(Entry { service, .. }) = &self.entry else { return Ok(()) };
        self.layout.render(&self.path, service, deadline).map_err(|(path, error)| self.failed(&path, &error))
    }
}

impl Registry for Directory {
    fn register(&mut self, instance: &Instance, deadline: Deadline) -> Result<()> {
        let directory = self.path.join(escaped(&instance.service));
        fs::create_dir_all(&directory).map_err(|error| self.failed(&directory, &error))?;
        let path = directory.join(format!("{}.json", escaped(&instance.id)));
        let text = format!("{}\n", to_json(instance, self.ttl));
        replace(&path, text.as_bytes()).map_err(|error| self.failed(&path, &error))?;
        sweep(&path);
        self.entry = Some(Entry { service: instance.service.clone(), path });
        self.render(deadline)
    }

    fn keep_alive(&mut self, deadline: Deadline) -> Result<Alive> {
        let Entry { path, .. } = self.entry()?;
        // Others take its process for dead, and may be about to remove it.
        if is_expired(&path) {
            return Ok(Alive::Lost);
        }
        let touched =
            File::options().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        match touched {
            Ok(()) => {
                if sweep(&path) {
                    self.render(deadline)?;
                }
                Ok(Alive::Yes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Alive::Lost),
            Err(error) => Err(self.failed(&path, &error)),
        }
    }

    fn deregister(&mut self, deadline: Deadline) -> Result<Left> {
        let Entry { path, .. } = self.entry()?;
        let was_found = !is_expired(&path);
        let left = match fs::remove_file(&path) {
            Ok(()) if was_found => Left::Now,
            Ok(()) => Left::Before,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Left::Before,
            Err(error) => return Err(self.failed(&path, &error)),
        };
        self.render(deadline)?;
        Ok(left)
    }

    fn is_visible(&mut self, _: Deadline) -> Result<bool> {
        let Entry { path, .. } = self.entry()?;
        Ok(path.exists() && !is_expired(&path))
    }

    fn hints(&self) -> Hints {
        Hints { beat: self.ttl / 3, settle: SETTLE, crash_after: self.ttl }
    }
}

/// The instances of a service that are in a directory, for whoever sends requests. What cannot be read is left out: it may just
/// have been removed.
pub fn instances(directory: impl AsRef<Path>, service: &str) -> Vec<Instance> {
    let Ok(entries) = fs::read_dir(directory.as_ref().join(escaped(service))) else { return Vec::new() };
    let entries = entries.flatten().filter_map(|entry| Found::read(&entry.path()));
    entries.filter(|entry| !entry.is_expired).filter_map(|entry| entry.instance()).collect()
}

/// Puts a file there as a whole, or leaves what was there.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{}.new", name.trim_end_matches(".json")));
    let written =
        File::create(&new).and_then(|mut file| file.write_all(text)).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Removes what processes that have died have left beside this entry. Was there anything?
fn sweep(entry: &Path) -> bool {
    let Some(Ok(entries)) = entry.parent().map(fs::read_dir) else { return false };
    let others = entries.flatten().map(|other| other.path()).filter(|other| other != entry);
    let dead: Vec<PathBuf> = others.filter(|other| is_expired(other)).collect();
    for dead in &dead {
        // Somebody else may have been quicker.
        let _ = fs::remove_file(dead);
    }
    !dead.is_empty()
}

/// A file of the directory, as far as it is one of ours.
struct Found {
    json: Value,
    /// Has its process said nothing for so long that it must have died?
    is_expired: bool,
}

impl Found {
    /// `None`: it is none, or not any more.
    ///
    /// What has another name is being written, or was left by somebody who was killed then. Other things than files may have
    /// somebody wait for ever (fifo(7)).
    fn read(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
        path.extension().filter(|extension| *extension == "json")?;
        let json: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let is_old = || {
            let ttl = Duration::from_secs(json.get("ttl_seconds")?.as_u64()?);
            Some(metadata.modified().ok()?.elapsed().ok()? > ttl)
        };
        let is_expired = is_old().unwrap_or(false);
        Some(Self { json, is_expired })
    }

    fn instance(&self) -> Option<Instance> {
        Instance::from_json(&self.json)
    }
}

/// Has its process said nothing for so long that it must have died? Not so of what is no entry.
fn is_expired(path: &Path) -> bool {
    Found::read(path).is_some_and(|entry| entry.is_expired)
}

fn to_json(instance: &Instance, ttl: Duration) -> Value {
    let mut entry = instance.to_json();
    entry["ttl_seconds"] = json!(ttl.as_secs());
    entry
}

/// A name as the name of a file: no slash, no dot at the beginning, and no two names that become the same.
fn escaped(name: &str) -> String {
    let mut file = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.' && !file.is_empty() {
            file.push(byte.into());
        } else {
            file.push_str(&format!("%{byte:02x}"));
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_harmless_and_different() {
        for (name, file) in [
            ("web", "web"),
            ("../etc", "%2e.%2fetc"),
            ("a/b:c@d", "a%2fb%3ac%40d"),
            ("a%2fb", "a%252fb"),
            ("ä", "%c3%a4"),
        ] {
            assert_eq!(escaped(name), file);
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let mut instance = Instance::new("web", "::1", 80);
        instance.metadata.insert("zone".into(), "\"a\"".into());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Found::read(&path).and_then(|entry| entry.instance())
        };
        assert_eq!(read(&to_json(&instance, TTL).to_string()), Some(instance));
        for torn in
            ["", "{", "[]", "{\"id\":1}", "{\"id\":\"a\",\"service\":\"b\",\"address\":\"c\",\"port\":70000}"]
        {
            assert_eq!(read(torn), None, "{torn}");
        }
    }
}
