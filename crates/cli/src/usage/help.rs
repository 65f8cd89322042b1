//! The help: usage lines, the commands in groups, examples.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use super::Program;
use crate::args::Args;

/// The commands as `--help` shows them.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Stop and start", &["stop", "restart", "run", "kill", "rm"]),
    ("Be found", &["register"]),
    ("Look", &["ps", "logs", "wait", "inspect"]),
    ("Try", &["demo"]),
    ("Set up", &["plugin", "completions", "man", "version"]),
];

/// What follows a command's name in its usage line, in docker's words; and examples.
const VERBS: [(&str, &str, &str); 15] = [
    (
        "run",
        "[OPTIONS] COMMAND [ARG...]",
        "\
Examples:
  gracefully run -d --name web -- python3 -m http.server 8000
  gracefully run --rm -e LEVEL=debug --stop-timeout 30 ./server --port 8080

Exit codes: the program's own, 128 + N if signal N ended it; 125 if it was not started, 126 if it cannot be \
executed, 127 if it was not found.",
    ),
    (
        "stop",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "\
Examples:
  gracefully stop web                   with the container's own signal and timeout
  gracefully stop -t 1m30s web db       two at once, 90 seconds each
  gracefully stop --dry-run web         only say what would happen
  gracefully stop --report - web | jq .verdict
  gracefully stop pid:4711              a program that runs in no container

Each name is printed to stdout when it and all before it have stopped. The verdict goes to stderr: graceful, \
forced or failed, with the reason and what to change. A container that was not running is printed and leaves \
no report.

Exit codes: 0; 1 if something could not be stopped; 3 with --strict if something was killed or cut; 125 if the \
command line is wrong; 130 and 143 after SIGINT and SIGTERM: a stop whose signal was sent goes on without us.",
    ),
    (
        "restart",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "\
Examples:
  gracefully restart web
  gracefully restart -t 5 web db cache  all three at once

A container that is not running is started. Exit codes as for stop.",
    ),
    (
        "kill",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "\
Examples:
  gracefully kill web
  gracefully kill -s HUP web            have it read its configuration again

With SIGKILL it returns when the container has stopped, with any other signal at once.",
    ),
    (
        "register",
        "[OPTIONS] --service NAME --port PORT URL [URL...] [-- COMMAND [ARG...]]",
        "\
Examples:
  gracefully register etcd://10.0.0.2:2379 --service web --port 8080 -- ./server
  gracefully register file:///run/services --service web --port 8080 --check /readyz

With a COMMAND it is started, registered when it is ready, and stopped gracefully when we are asked to end: out of the registries, \
until nobody new comes, until nothing is under way, then the signal. If it ends by itself, it is taken out at once. Without one this is a \
sidecar for a program that somebody else starts and stops: gracefully-init --sidecar 'exec gracefully register …' -- ./server

A second SIGTERM or SIGINT waits no more. A registry that cannot be reached is tried again and again; the program runs meanwhile.

Exit codes: the program's own; without one 0, or 1 if it could not be taken out; 125 if the command line is wrong, 126 and 127 if the \
program cannot be started.",
    ),
    ("wait", "CONTAINER [CONTAINER...]", "Prints one exit code a line, in the order of the names."),
    (
        "ps",
        "[OPTIONS]",
        "\
Examples:
  gracefully ps -a
  gracefully ps -a --format json | jq -r 'select(.State == \"exited\") | .Names'",
    ),
    (
        "logs",
        "[OPTIONS] CONTAINER",
        "\
Examples:
  gracefully logs -f web
  gracefully logs -n 20 -t web
  gracefully logs --since 10m web 2>errors

What was written to stderr comes out on stderr, byte for byte.",
    ),
    ("inspect", "[OPTIONS] NAME|ID [NAME|ID...]", "Example:\n  gracefully inspect -f '{{.State.Pid}}' web"),
    (
        "rm",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Examples:\n  gracefully rm web\n  gracefully rm -f web                  even if it is running",
    ),
    ("demo", "", ""),
    ("version", "", ""),
    ("plugin", "COMMAND", ""),
    ("completions", "SHELL", "Example:\n  gracefully completions bash > ~/.local/share/bash-completion/completions/gracefully"),
    ("man", "DIR|-", "Example:\n  gracefully man - | man -l -"),
];

const ROOT_USAGE: &str = "[OPTIONS] COMMAND [ARG...]";

const ROOT_EXAMPLES: &str = "\
Examples:
  gracefully run -d --name web -- python3 -m http.server 8000
  gracefully stop web
  gracefully stop --dry-run docker:api
  gracefully plugin install && docker gracefully stop web

Run 'gracefully COMMAND --help' for more about a command.";

/// The command as clap knows it, named as the user calls it.
pub(crate) fn command(program: Program) -> Command {
    let path = program.path();
    let mut root = Args::command()
        .bin_name(path)
        .override_usage(format!("{path} {ROOT_USAGE}"))
        .help_template("{about}\n\nUsage:  {usage}\n\n{before-help}{all-args}{after-help}")
        .after_help(ROOT_EXAMPLES.replace(Program::NAME, path));
    root = root.clone().before_help(groups(&root).trim_end().to_owned());
    for (name, usage, examples) in VERBS {
        root = root.mut_subcommand(name, |verb| {
            let verb = verb.override_usage(format!("{path} {name} {usage}").trim_end().to_owned());
            let template = "{about}\n\nUsage:  {usage}\n\n{all-args}{after-help}";
            let verb = verb.help_template(template);
            if examples.is_empty() { verb } else { verb.after_help(in_program(examples, path)) }
        });
    }
    root
}

/// What follows the name of `command` in its usage line.
pub(super) fn usage(command: &Command) -> &'static str {
    let name = command.get_name();
    VERBS
        .iter()
        .find(|(verb, ..)| *verb == name)
        .map_or(if name == Program::NAME { ROOT_USAGE } else { "" }, |(_, usage, _)| usage)
}

/// The help of a command, for stdout.
pub(super) fn render(command: &mut Command) -> String {
    if command.get_name() == Program::NAME {
        // They are in the groups already.
        *command = std::mem::take(command).mut_subcommands(|verb| verb.hide(true));
    }
    let text = command.render_help().to_string();
    format!("{}\n", text.trim_end())
}

fn in_program(examples: &str, path: &str) -> String {
    examples.replace("  gracefully ", &format!("  {path} "))
}

fn groups(root: &Command) -> String {
    let mut text = String::new();
    for (title, names) in GROUPS {
        let _ = writeln!(text, "{title}:");
        for name in names {
            let about = root.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {name:<12} {about}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_has_a_usage_line() {
        let grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).collect();
        for verb in Args::command().get_subcommands() {
            let name = verb.get_name();
            assert_eq!(grouped.iter().filter(|grouped| **grouped == &name).count(), 1, "{name}");
            assert!(VERBS.iter().any(|(verb, ..)| *verb == name), "{name}");
        }
    }

    #[test]
    fn every_flag_has_a_text_and_a_heading_of_its_own_or_docker_s() {
        let mut root = command(Program::Standalone);
        root.build();
        for verb in root.get_subcommands() {
            for flag in verb.get_arguments() {
                assert!(flag.get_help().is_some(), "{} {flag}", verb.get_name());
            }
        }
    }

    #[test]
    fn clap_agrees_with_the_definitions() {
        command(Program::Plugin).debug_assert();
    }
}
