//! Names of containers: which are valid, who has one, and what to call a container that was given none.
//!
//! A name is reserved by a symbolic link `names/<name>` whose target is the id: symlink(2) fails if it exists. A link
//! to a container that is gone (its remover died half-way) is replaced. So that two who find the same stale link
//! do not remove each other's new one, names are given and taken by one process at a time ([`Alone`]).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use gracefully_monitor::names::Alone;

use crate::error::{Error, Result};

use super::paths::{StateRoot, io_error};

/// Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, with one leading slash allowed. Longer names than a file may have are
/// invalid here.
pub(super) fn valid(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let word = |c: char| c.is_ascii_alphanumeric();
    let mut chars = bare.chars();
    let ok = chars.next().is_some_and(word)
        && bare.len() > 1
        && bare.len() <= 255
        && chars.all(|c| word(c) || matches!(c, '_' | '.' | '-'));
    if ok { Ok(bare) } else { Err(Error::InvalidName { name: name.to_owned() }) }
}

/// Reserves `name` for the container `id`.
///
/// Fails with [`Error::NameInUse`].
pub(super) fn reserve(root: &StateRoot, _: &Alone, name: &str, id: &str) -> Result<()> {
    let path = path(root, name);
    if let Some(owner) = owner(root, name) {
        if root.home(&owner).path().exists() {
            return Err(Error::NameInUse { name: name.to_owned(), id: owner });
        }
        fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
    }
    symlink(id, &path).map_err(|source| io_error("create", &path, source))
}

/// Every name that the container `id` has: when its record cannot tell.
pub(super) fn of(root: &StateRoot, id: &str) -> Vec<String> {
    fs::File::open(root.names()).map(|names| gracefully_monitor::names::of(names, id)).unwrap_or_default()
}

/// Who has the name.
pub(super) fn owner(root: &StateRoot, name: &str) -> Option<String> {
    valid(name).ok()?;
    gracefully_monitor::names::owner(fs::File::open(root.names()).ok()?, name)
}

/// A name for a container that was given none, made from its id: as easy to say as docker's.
pub(super) fn made_up(id: &str) -> String {
    const MANNERS: [&str; 16] = [
        "calm", "patient", "gentle", "polite", "steady", "quiet", "kind", "careful", "decent", "mild",
        "modest", "noble", "serene", "smooth", "tidy", "warm",
    ];
    const BIRDS: [&str; 16] = [
        "avocet", "bunting", "crane", "dunlin", "egret", "finch", "godwit", "heron", "ibis", "jacana",
        "kestrel", "lapwing", "martin", "osprey", "plover", "wren",
    ];
    let digit = |at: usize| usize::from_str_radix(id.get(at..=at).unwrap_or("0"), 16).unwrap_or(0);
    format!("{}_{}_{}", MANNERS[digit(0)], BIRDS[digit(1)], id.get(2..6).unwrap_or_default())
}

fn path(root: &StateRoot, name: &str) -> PathBuf {
    root.names().join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_rule() {
        for good in ["web", "w1", "0a", "a_", "a.b-c", "/web"] {
            assert_eq!(valid(good).unwrap(), good.trim_start_matches('/'));
        }
        let long = "a".repeat(256);
        for bad in
            ["", "a", "/", "//web", ".a", "-a", "_a", "a b", "a/b", "..", "a\n", "ä1", "aé", "a\0", &long]
        {
            assert!(matches!(valid(bad), Err(Error::InvalidName { .. })), "{bad:?}");
        }
    }

    #[test]
    fn made_up_names_are_valid() {
        let id = "f00dcafe".repeat(8);
        assert_eq!(made_up(&id), "warm_avocet_0dca");
        valid(&made_up(&id)).unwrap();
    }

    #[test]
    fn a_name_has_one_owner_until_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let root = StateRoot::open(&dir.path().join("state")).unwrap();
        let alone = root.alone().unwrap();
        fs::create_dir(root.home("one").path()).unwrap();
        reserve(&root, &alone, "web", "one").unwrap();
        assert!(
            matches!(reserve(&root, &alone, "web", "two"), Err(Error::NameInUse { id, .. }) if id == "one")
        );
        alone.release("two").expect("it has none, so nothing happens");
        assert_eq!(owner(&root, "web").as_deref(), Some("one"));
        assert_eq!(of(&root, "one"), ["web"]);

        fs::remove_dir(root.home("one").path()).unwrap();
        reserve(&root, &alone, "web", "two").expect("its owner is gone");
        alone.release("two").unwrap();
        assert_eq!(owner(&root, "web"), None);
    }
}
