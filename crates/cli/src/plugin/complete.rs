//! Completions for `docker gracefully …`: docker runs `__complete gracefully WORDS… LAST` and hands the answer to the
//! shell, one candidate a line, a tab before its description, and at the end a directive of cobra's.

use std::fmt::Write as _;

use clap::Command;

use crate::usage::{Program, command};

/// Cobra's `ShellCompDirectiveNoFileComp`.
const NO_FILES: &str = ":4";

/// The candidates for the last word: commands, or flags of the command before.
pub(super) fn candidates(words: &[&str]) -> String {
    let mut root = command(Program::Plugin);
    root.build();
    let (last, before) = words.split_last().unwrap_or((&"", &[]));
    let verb = before.iter().find_map(|word| root.find_subcommand(word));
    let mut text = String::new();
    let mut offer = |word: &str, about: Option<String>| {
        if word.starts_with(last) {
            let about = about.unwrap_or_default();
            let _ = writeln!(text, "{word}\t{}", about.lines().next().unwrap_or_default());
        }
    };
    let here = verb.unwrap_or(&root);
    if last.starts_with('-') {
        for flag in here.get_arguments().filter(|flag| !flag.is_hide_set()) {
            if let Some(name) = flag.get_long() {
                offer(&format!("--{name}"), flag.get_help().map(ToString::to_string));
            }
        }
    } else {
        for command in here.get_subcommands().filter(|command: &&Command| !command.is_hide_set()) {
            offer(command.get_name(), command.get_about().map(ToString::to_string));
        }
    }
    text + NO_FILES + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_flags_are_offered() {
        assert!(candidates(&["st"]).starts_with("stop\tStop containers"));
        assert!(candidates(&["stop", "--str"]).starts_with("--strict\tExit with code 3"));
        assert!(!candidates(&["stop", "--ti"]).contains("--time\t"), "deprecated");
        assert_eq!(candidates(&["stop", "web"]), ":4\n");
        assert!(candidates(&[]).contains("\nrestart\t"));
    }
}
