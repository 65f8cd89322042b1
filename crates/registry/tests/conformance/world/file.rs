//! A directory, and a consumer who reads the files.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use super::{Started, World};

struct Directory(tempfile::TempDir);

#[expect(clippy::unnecessary_wraps, reason = "other registries may not be installed")]
pub(crate) fn start() -> Started {
    Ok(Box::new(Directory(tempfile::tempdir().unwrap())))
}

impl Directory {
    fn entries(&self) -> Vec<std::path::PathBuf> {
        let services = self.0.path().read_dir().unwrap().map(|service| service.unwrap().path());
        services.flat_map(|service| service.read_dir().unwrap()).map(|entry| entry.unwrap().path()).collect()
    }
}

impl World for Directory {
    fn url(&self) -> String {
        format!("file://{}?ttl=2", self.0.path().display())
    }

    fn finds(&self, service: &str) -> Vec<String> {
        let entries = self.entries().into_iter().filter_map(|entry| {
            let age = entry.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
            let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(entry).ok()?).ok()?;
            let is_live = age <= Duration::from_secs(json["ttl_seconds"].as_u64()?);
            (is_live && json["service"] == service)
                .then(|| format!("{}:{}", json["address"].as_str().unwrap(), json["port"]))
        });
        let mut found: Vec<String> = entries.collect();
        found.sort();
        found
    }

    fn expire(&self) {
        for entry in self.entries() {
            let old = SystemTime::now() - Duration::from_secs(60);
            File::options().write(true).open(entry).unwrap().set_modified(old).unwrap();
        }
    }
}
