//! The line that docker prints as "What's next" after a plain `docker stop` that ended in SIGKILL.
//!
//! Docker tells a hook which command ran and with which flags, but not with which arguments. They are in the command
//! line of the docker that started us, which is read the way we read our own.

use std::ffi::OsString;

use gracefully_core::exit;
use gracefully_core::signal::Signal;
use gracefully_engine::{Container, Kind, State};
use gracefully_linux::process;
use serde::Deserialize;
use serde_json::json;

use crate::args::{Args, EngineChoice, Verb};
use crate::commands::wait_for;
use crate::lookup::Engines;
use crate::usage::{self, Parsed, Program};

/// What docker tells.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ran {
    root_cmd: String,
    #[serde(default)]
    command_error: String,
}

/// The commands after which docker asks us.
pub(super) const COMMANDS: &str = "stop,container stop";

/// The exit code of a program that SIGKILL ended.
const KILLED: i64 = (exit::SIGNAL_BASE + 9) as i64;

/// The answer; `None`: there is nothing to say, and docker prints nothing.
pub(super) fn next_steps(data: &str) -> Option<String> {
    let ran: Ran = serde_json::from_str(data).ok()?;
    if !COMMANDS.split(',').any(|command| command == ran.root_cmd) || !ran.command_error.is_empty() {
        return None;
    }
    let parent = rustix::process::getppid()?.as_raw_nonzero().get();
    let docker = process::read(u32::try_from(parent).ok()?)?.command;
    let mut killed = Vec::new();
    wait_for(async {
        let args = stopped(docker);
        if let Some((engines, targets)) = args {
            for target in targets {
                if was_killed(&engines, &target).await {
                    killed.push(target);
                }
            }
        }
        Ok(exit::OK)
    })
    .ok()?;
    message(&killed).map(|text| format!("{}\n", json!({ "Type": 0, "Template": text })))
}

/// What a `docker stop` was to stop, and where.
fn stopped(docker: Vec<String>) -> Option<(Engines, Vec<String>)> {
    let line = docker.into_iter().map(OsString::from).collect();
    let Parsed::Do(args) = usage::parse(Program::Standalone, line).ok()? else { return None };
    let Args { mut global, verb, .. } = *args;
    let Verb::Stop(stop) = verb else { return None };
    global.engine = EngineChoice::Docker;
    Some((Engines::new(global), stop.targets.targets))
}

/// Did SIGKILL end it, and not for want of memory?
async fn was_killed(engines: &Engines, target: &str) -> bool {
    let Ok(found) = engines.find(target).await else { return false };
    let Container { state: State::Exited, exit_code: Some(KILLED), .. } = found.container else {
        return false;
    };
    debug_assert_eq!(found.engine.kind(), Kind::Docker);
    let details = found.engine.inspect(&found.container).await;
    details.is_ok_and(|details| details["State"]["OOMKilled"] == false)
}

/// One line, however many there are. Docker takes it for a Go template; names have no braces.
fn message(killed: &[String]) -> Option<String> {
    let (first, others) = killed.split_first()?;
    let who = match others {
        [] => format!("{first} did not exit on its stop signal and was killed ({})", Signal::KILL),
        _ => format!("{} containers did not exit on their stop signal and were killed", killed.len()),
    };
    let names = killed.join(" ");
    Some(format!("{who}. See why next time: docker gracefully stop {names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_command_line_is_read_as_ours() {
        let docker = |line: &str| line.split(' ').map(Into::into).collect::<Vec<String>>();
        let targets = |line| stopped(docker(line)).map(|(_, targets)| targets);
        let expected = Some(vec!["web".to_owned(), "db".to_owned()]);
        assert_eq!(targets("docker stop web db"), expected);
        assert_eq!(targets("docker -H unix:///x --log-level debug stop -t5 web --time 3 db"), expected);
        assert_eq!(targets("docker container stop web -- db"), expected);
        assert_eq!(targets("docker ps"), None);
        assert_eq!(targets("docker"), None);
    }

    #[test]
    fn nothing_is_said_after_other_commands_and_after_errors() {
        assert_eq!(next_steps("{"), None);
        assert_eq!(next_steps(r#"{"RootCmd":"kill","Flags":{},"CommandError":""}"#), None);
        assert_eq!(next_steps(r#"{"RootCmd":"stop","Flags":{},"CommandError":"no such container"}"#), None);
    }

    #[test]
    fn one_line_names_the_command_to_type() {
        assert_eq!(message(&[]), None);
        assert_eq!(
            message(&["web".into()]).unwrap(),
            "web did not exit on its stop signal and was killed (SIGKILL). See why next time: docker gracefully stop web"
        );
        assert!(message(&["a".into(), "b".into()]).unwrap().ends_with("docker gracefully stop a b"));
    }
}
