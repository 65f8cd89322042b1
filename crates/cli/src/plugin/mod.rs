//! The docker command `docker gracefully`: the same program under the name `docker-gracefully`.
//!
//! What docker asks of a plugin (docker/cli, `cli-plugins`):
//!
//! * `docker-gracefully docker-cli-plugin-metadata` prints who it is. Docker asks on every help and every call.
//! * `docker-gracefully [DOCKER'S FLAGS] gracefully ARGS` is `docker gracefully ARGS`.
//! * `docker-gracefully gracefully docker-cli-plugin-hooks JSON`, after a command of docker's own: [`hook`].
//! * `docker-gracefully __complete gracefully ARGS` for the shell: [`complete`].
//!
//! [`install()`] makes the link and registers the hook; [`uninstall`] undoes exactly that.

mod complete;
mod config;
mod hook;
mod install;

use std::ffi::OsString;
use std::io::Write as _;

use gracefully_core::exit;
use serde_json::json;

pub(crate) use self::install::{install, uninstall};
use crate::usage::Program;

/// Answers docker, if it is docker that asks and not a user. Returns the exit code.
pub(crate) fn answer(program: Program, argv: &[OsString]) -> Option<u8> {
    let words: Vec<&str> = argv.iter().skip(1).map_while(|word| word.to_str()).collect();
    let text = match words[..] {
        ["docker-cli-plugin-metadata"] => metadata(),
        [Program::NAME, "docker-cli-plugin-hooks", data] if program == Program::Plugin => {
            hook::next_steps(data)?
        }
        ["__complete", Program::NAME, ref words @ ..] if program == Program::Plugin => {
            complete::candidates(words)
        }
        _ => return None,
    };
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    Some(if written.is_ok() { exit::OK } else { exit::FAILURE })
}

/// Docker up to 28.4 accepts exactly this version of the schema.
fn metadata() -> String {
    let metadata = json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "gracefully",
        "Version": env!("CARGO_PKG_VERSION"),
        "ShortDescription": "Stop and restart without cutting a request, and say how it went",
    });
    format!("{metadata}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_is_what_docker_requires() {
        let metadata: serde_json::Value = serde_json::from_str(&metadata()).unwrap();
        assert_eq!(metadata["SchemaVersion"], "0.1.0");
        assert!(metadata["Vendor"].as_str().is_some_and(|vendor| !vendor.is_empty()));
    }

    #[test]
    fn only_docker_is_answered() {
        let argv = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(answer(Program::Plugin, &argv(&["x", "gracefully", "stop", "web"])), None);
        assert_eq!(answer(Program::Standalone, &argv(&["x", "__complete", "gracefully", ""])), None);
        assert_eq!(answer(Program::Standalone, &argv(&["x"])), None);
    }
}
