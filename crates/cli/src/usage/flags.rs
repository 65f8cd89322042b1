//! Reads words the way docker's flag library (pflag) does, with clap's definitions as the table.
//!
//! * `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`; a value may begin with a dash.
//! * Switches take a value only behind `=`; short ones may be joined: `-aq`.
//! * Flags may stand behind names, unless the verb runs a command (`run`); `--` ends them.

use std::collections::VecDeque;

use clap::{Arg, ArgAction, Command};

use crate::values;

/// The words that are still to be read, and the names that were found between the flags.
#[derive(Debug)]
pub(super) struct Words {
    left: VecDeque<String>,
    /// Single letters left of a word such as `-aq`.
    letters: String,
    names: Vec<String>,
    ended: bool,
}

/// What a word that is not a flag means for the flags behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Positionals {
    /// Nothing: flags go on behind it.
    Anywhere,
    /// It and everything behind it are not ours.
    EndFlags,
}

/// A flag that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    Help,
    Version,
    Switch { name: String, on: bool },
    Value { name: String, value: String },
}

impl Words {
    pub(super) fn new(words: Vec<String>) -> Self {
        Self { left: words.into(), letters: String::new(), names: Vec::new(), ended: false }
    }

    /// The next word, whatever it is.
    pub(super) fn next(&mut self) -> Option<String> {
        self.left.pop_front()
    }

    /// The names that were found between the flags.
    pub(super) fn take_names(&mut self) -> Vec<String> {
        std::mem::take(&mut self.names)
    }

    /// The names, once there are no more flags.
    pub(super) fn rest(&mut self) -> Vec<String> {
        let mut names = self.take_names();
        names.extend(self.left.drain(..));
        names
    }

    /// The next flag of `command`; `None` where they end. The error is docker's first line.
    pub(super) fn next_flag(
        &mut self,
        command: &Command,
        positionals: Positionals,
    ) -> Option<Result<Flag, String>> {
        if !self.letters.is_empty() {
            return Some(self.short(command));
        }
        while !self.ended {
            let word = self.left.front()?;
            if word == "--" {
                self.left.pop_front();
                self.ended = true;
            } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                let long = letters.strip_prefix('-').map(str::to_owned);
                let letters = letters.to_owned();
                self.left.pop_front();
                return Some(if let Some(long) = long {
                    self.long(command, &long)
                } else {
                    self.letters = letters;
                    self.short(command)
                });
            } else if positionals == Positionals::EndFlags {
                return None;
            } else {
                self.names.extend(self.left.pop_front());
            }
        }
        None
    }

    fn long(&mut self, command: &Command, word: &str) -> Result<Flag, String> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(format!("bad flag syntax: --{word}"));
        }
        let flag = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(name))
            .ok_or_else(|| format!("unknown flag: --{name}"))?;
        if !takes_value(flag) {
            return switch(flag, value.as_deref());
        }
        let value = value.or_else(|| self.left.pop_front());
        let value = value.ok_or_else(|| format!("flag needs an argument: --{name}"))?;
        Ok(Flag::Value { name: name.to_owned(), value })
    }

    fn short(&mut self, command: &Command) -> Result<Flag, String> {
        let letters = std::mem::take(&mut self.letters);
        let mut rest = letters.chars();
        let letter = rest.next().unwrap_or_default();
        let rest = rest.as_str();
        let flag = command
            .get_arguments()
            .find(|arg| arg.get_short() == Some(letter))
            .ok_or_else(|| format!("unknown shorthand flag: {letter:?} in -{letters}"))?;
        // `-t=` alone is a value of "=", as pflag has it.
        let assigned = rest.strip_prefix('=').filter(|value| !value.is_empty());
        if !takes_value(flag) {
            if assigned.is_none() {
                rest.clone_into(&mut self.letters);
            }
            return switch(flag, assigned);
        }
        let value = match assigned {
            Some(value) => Some(value.to_owned()),
            None if !rest.is_empty() => Some(rest.to_owned()),
            None => self.left.pop_front(),
        };
        let value = value.ok_or_else(|| format!("flag needs an argument: {letter:?} in -{letters}"))?;
        Ok(Flag::Value { name: flag.get_long().unwrap_or_default().to_owned(), value })
    }
}

/// `-t, --timeout`
pub(super) fn title(flag: &Arg) -> String {
    let long = flag.get_long().unwrap_or_default();
    flag.get_short().map_or_else(|| format!("--{long}"), |short| format!("-{short}, --{long}"))
}

fn takes_value(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Set | ArgAction::Append)
}

fn switch(flag: &Arg, value: Option<&str>) -> Result<Flag, String> {
    let value = value.unwrap_or("true");
    let on = values::switch(value)
        .map_err(|why| format!("invalid argument {value:?} for {:?} flag: {why}", title(flag)))?;
    Ok(match flag.get_action() {
        ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort => Flag::Help,
        ArgAction::Version => Flag::Version,
        _ => Flag::Switch { name: flag.get_long().unwrap_or_default().to_owned(), on },
    })
}
