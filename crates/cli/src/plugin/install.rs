//! `plugin install` and `plugin uninstall`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gracefully_core::exit;

use super::config;
use crate::settings::Settings;

/// The file's name in docker's plugin directory.
const LINK: &str = "docker-gracefully";

/// Docker asks plugins for hints only if it is told to, and for all of them: that is for its user to decide.
const HINTS: &str = "for a hint after `docker stop` had to kill: export DOCKER_CLI_HOOKS=1, or set features.hooks to \
                     \"true\" in docker's config.json";

pub(crate) fn install(settings: &Settings) -> anyhow::Result<u8> {
    let home = docker_home(settings)?;
    let program = std::env::current_exe().context("cannot find our own program")?;
    let link = add_link(&home, &program)?;
    config::register(&home.join("config.json"))?;
    let link = link.display();
    settings.console.note(&format!("installed {link}; try: docker gracefully --help\n{HINTS}"));
    Ok(exit::OK)
}

pub(crate) fn uninstall(settings: &Settings) -> anyhow::Result<u8> {
    let home = docker_home(settings)?;
    let removed = remove_link(&home)?;
    let unregistered = config::unregister(&home.join("config.json"))?;
    let done = if removed || unregistered { "uninstalled" } else { "it was not installed" };
    settings.console.note(done);
    Ok(exit::OK)
}

/// `--config`, else `$DOCKER_CONFIG`, else `~/.docker`.
fn docker_home(settings: &Settings) -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let given = settings.engines.docker_config().or_else(|| set("DOCKER_CONFIG"));
    given
        .or_else(|| set("HOME").map(|home| home.join(".docker")))
        .context("no home directory: set HOME or DOCKER_CONFIG")
}

/// A link that is already there is replaced; anything else under the name is not ours.
fn add_link(home: &Path, program: &Path) -> anyhow::Result<PathBuf> {
    let directory = home.join("cli-plugins");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let link = directory.join(LINK);
    take_away(&link)?;
    symlink(program, &link).with_context(|| format!("cannot create {}", link.display()))?;
    Ok(link)
}

fn remove_link(home: &Path) -> anyhow::Result<bool> {
    take_away(&home.join("cli-plugins").join(LINK))
}

fn take_away(link: &Path) -> anyhow::Result<bool> {
    match fs::symlink_metadata(link) {
        Ok(what) if what.is_symlink() => {
            fs::remove_file(link).with_context(|| format!("cannot remove {}", link.display()))?;
            Ok(true)
        }
        Ok(_) => anyhow::bail!("{} is not a link, so it is not ours: remove it yourself", link.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", link.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_comes_is_renewed_and_goes() {
        let home = tempfile::tempdir().unwrap();
        let link = add_link(home.path(), Path::new("/old/gracefully")).unwrap();
        assert_eq!(add_link(home.path(), Path::new("/new/gracefully")).unwrap(), link);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/new/gracefully"));
        assert!(remove_link(home.path()).unwrap());
        assert!(!remove_link(home.path()).unwrap());
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("cli-plugins").join(LINK);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "theirs").unwrap();
        assert!(add_link(home.path(), Path::new("/x")).is_err());
        assert!(remove_link(home.path()).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "theirs");
    }
}
