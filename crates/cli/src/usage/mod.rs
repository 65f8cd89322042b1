//! Docker's contract for command lines, on top of clap.
//!
//! Scripts read docker's texts and exit codes, and people know its flags: `-t1`, `-t=1`, `-t -1`, flags after names,
//! `--rm=false`. So the words are read the way docker's flag library reads them ([`flags`]), with clap's definitions
//! as the table of what there is; clap then converts the values, and makes help, completions and manual pages. What
//! is wrong becomes a [`Refusal`] with docker's text:
//!
//! | what | exit code |
//! |---|---|
//! | unknown flag, bad value, missing value | 125, for every verb |
//! | too few or too many names | 1 |
//! | unknown command | 1 |

mod flags;
mod help;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, FromArgMatches};
use gracefully_core::exit;

use self::flags::{Positionals, Words};
pub(crate) use self::help::command;
use crate::args::Args;

/// The name under which we run: it appears in texts, and docker passes it on to its plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// `gracefully …`
    Standalone,
    /// `docker gracefully …`: docker runs `docker-gracefully [DOCKER'S FLAGS] gracefully …`.
    Plugin,
}

impl Program {
    /// The name of this command, as docker's plugin directory knows it.
    pub(crate) const NAME: &'static str = "gracefully";

    /// From the path by which we were called.
    pub(crate) fn from_argv0(argv0: Option<&OsString>) -> Self {
        let name = argv0.map(std::path::Path::new).and_then(|path| path.file_name());
        if name.is_some_and(|name| name == "docker-gracefully") { Self::Plugin } else { Self::Standalone }
    }

    /// What a user types before the verb.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Standalone => "gracefully",
            Self::Plugin => "docker gracefully",
        }
    }

    /// What begins an error message.
    pub(crate) fn root(self) -> &'static str {
        match self {
            Self::Standalone => "gracefully",
            Self::Plugin => "docker",
        }
    }
}

/// A command line that was understood.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Do this.
    Do(Box<Args>),
    /// Print this text to stdout; help was asked for.
    Say(String),
}

/// A command line that was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For stderr, without the last line feed.
    pub(crate) text: String,
    pub(crate) code: u8,
}

impl Refusal {
    /// A flag is wrong: the text, the usage line, where to find help.
    fn flag(message: &str, at: &Place<'_>) -> Self {
        Self {
            text: format!(
                "{message}\n\nUsage:  {}\n\nRun '{} --help' for more information",
                at.line(),
                at.path
            ),
            code: exit::USAGE,
        }
    }

    /// The number of names is wrong.
    fn arity(arity: Arity, at: &Place<'_>) -> Self {
        let (message, verb) = match arity {
            Arity::None => ("accepts no arguments", "Run"),
            Arity::One => ("requires 1 argument", "Run"),
            // Docker says "See" here, and only here.
            Arity::AtLeastOne => ("requires at least 1 argument", "See"),
        };
        let (root, path, line) = (at.program.root(), &at.path, at.line());
        Self {
            text: format!(
                "{root}: '{path}' {message}\n\nUsage:  {line}\n\n{verb} '{path} --help' for more information"
            ),
            code: exit::FAILURE,
        }
    }

    fn unknown_command(program: Program, path: &str) -> Self {
        let (root, help) = (program.root(), program.path());
        Self {
            text: format!("{root}: unknown command: {path}\n\nRun '{help} --help' for more information"),
            code: exit::FAILURE,
        }
    }

    /// `run` failed before anything was started.
    pub(crate) fn run(program: Program, message: &str) -> Self {
        let (root, path) = (program.root(), program.path());
        Self {
            text: format!("{root}: {message}\n\nRun '{path} run --help' for more information"),
            code: exit::USAGE,
        }
    }
}

/// How many names a verb takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arity {
    None,
    One,
    AtLeastOne,
}

impl Arity {
    fn admits(self, names: usize) -> bool {
        match self {
            Self::None => names == 0,
            Self::One => names == 1,
            Self::AtLeastOne => names > 0,
        }
    }

    /// As clap's definition of the positional arguments says.
    fn of(command: &Command) -> Self {
        match command.get_positionals().next() {
            None => Self::None,
            Some(names) if matches!(names.get_action(), clap::ArgAction::Append) => Self::AtLeastOne,
            Some(_) => Self::One,
        }
    }
}

/// A command and how the user got there.
struct Place<'a> {
    program: Program,
    command: &'a Command,
    /// `gracefully stop`
    path: String,
}

impl Place<'_> {
    /// The usage line, with the program's name.
    fn line(&self) -> String {
        format!("{} {}", self.path, help::usage(self.command)).trim_end().to_owned()
    }

    fn is(&self, name: &str) -> bool {
        self.command.get_name() == name
    }
}

/// Understands the words of a command line; the first is the program's own path.
pub(crate) fn parse(program: Program, line: Vec<OsString>) -> Result<Parsed, Refusal> {
    let mut words = Words::new(line.into_iter().skip(1).enumerate().map(utf8).collect::<Result<_, _>>()?);
    let mut root = command(program);
    root.build();
    let mut read = Reading::new();

    let mut place = Place { program, command: &root, path: program.path().into() };
    read.flags(&root, &place, &mut words, Positionals::EndFlags)?;
    if program == Program::Plugin {
        match words.next().as_deref() {
            Some(Program::NAME) => {}
            // Docker does not pass its flags on here: `docker help gracefully` is `help gracefully`.
            Some("help") if words.next().as_deref() == Some(Program::NAME) => read.help = true,
            _ => return Err(Refusal::unknown_command(program, program.path())),
        }
        // Our own flags before the verb: `docker gracefully --progress none stop …`.
        if !read.help {
            read.flags(&root, &place, &mut words, Positionals::EndFlags)?;
        }
    }
    if read.version {
        return Ok(Parsed::Say(version()));
    }
    descend(&root, &mut place, &mut words, &mut read)?;
    let in_order = if place.is("run") { Positionals::EndFlags } else { Positionals::Anywhere };
    read.flags(&root, &place, &mut words, in_order)?;
    // Where a verb may run a command, it stands behind `--`, and names do not.
    let has_command = place.command.get_positionals().any(clap::Arg::is_last_set);
    let names = if has_command { words.take_names() } else { words.rest() };

    // Values are looked at where they stand, so a bad one comes before a wrong number of names.
    let arity = Arity::of(place.command);
    if !read.help && !place.command.has_subcommands() && !arity.admits(names.len()) {
        return match read.convert(&root, &place, Vec::new()) {
            Err(refusal) if refusal.code == exit::USAGE => Err(refusal),
            _ => Err(Refusal::arity(arity, &place)),
        };
    }
    if read.help || place.command.has_subcommands() {
        let mut command = place.command.clone();
        return Ok(Parsed::Say(help::render(&mut command)));
    }
    if has_command {
        read.command = Some(words.rest());
    }
    let args = read.convert(&root, &place, names)?;
    Ok(Parsed::Do(Box::new(args)))
}

/// What `version` prints.
pub(crate) fn version() -> String {
    format!("gracefully version {}\n", env!("CARGO_PKG_VERSION"))
}

fn utf8((index, word): (usize, OsString)) -> Result<String, Refusal> {
    word.into_string().map_err(|word| Refusal {
        text: format!("argument {} is not UTF-8: {}", index + 1, word.display()),
        code: exit::USAGE,
    })
}

/// Follows the words to the command that they name. `container stop` is `stop`, `help stop` is `stop --help`.
fn descend<'a>(
    root: &'a Command,
    place: &mut Place<'a>,
    words: &mut Words,
    read: &mut Reading,
) -> Result<(), Refusal> {
    let mut first = true;
    while place.command.has_subcommands() {
        if !first {
            // `plugin --help` is no command of plugin's.
            read.flags(root, place, words, Positionals::EndFlags)?;
        }
        let Some(word) = words.next() else { return Ok(()) };
        if first && word == "help" {
            read.help = true;
            continue;
        }
        if first && word == "container" {
            place.path += " container";
            continue;
        }
        let name = match word.as_str() {
            "ls" | "list" if place.path.ends_with(" container") => "ps",
            "remove" if place.path.ends_with(" container") => "rm",
            other => other,
        };
        first = false;
        place.path = format!("{} {word}", place.path);
        place.command = place
            .command
            .find_subcommand(name)
            .ok_or_else(|| Refusal::unknown_command(place.program, &place.path))?;
        read.commands.push(name.to_owned());
    }
    Ok(())
}

/// What the words have told so far.
struct Reading {
    /// The commands on the way, and the flags in clap's one form, `--name=value`.
    commands: Vec<String>,
    values: Vec<String>,
    /// Switches: the last word counts.
    switches: Vec<(String, bool)>,
    /// What stands behind `--`, where that is something else than names.
    command: Option<Vec<String>>,
    help: bool,
    version: bool,
}

impl Reading {
    fn new() -> Self {
        Self {
            commands: vec![],
            values: vec![],
            switches: vec![],
            command: None,
            help: false,
            version: false,
        }
    }

    fn flags(
        &mut self,
        root: &Command,
        place: &Place<'_>,
        words: &mut Words,
        positionals: Positionals,
    ) -> Result<(), Refusal> {
        while let Some(flag) = words.next_flag(place.command, positionals) {
            match flag {
                Ok(flags::Flag::Help) => self.help = true,
                Ok(flags::Flag::Version) => self.version = true,
                Ok(flags::Flag::Switch { name, on }) => {
                    self.switches.retain(|(known, _)| *known != name);
                    self.switches.push((name, on));
                }
                Ok(flags::Flag::Value { name, value }) => self.values.push(format!("--{name}={value}")),
                Err(message) => {
                    // An earlier flag may have a bad value; docker would have stopped there.
                    let earlier = self.convert(root, place, Vec::new()).err();
                    let earlier = earlier.filter(|refusal| refusal.code == exit::USAGE);
                    return Err(earlier.unwrap_or_else(|| Refusal::flag(&message, place)));
                }
            }
        }
        Ok(())
    }

    /// Lets clap convert the values.
    fn convert(&self, root: &Command, place: &Place<'_>, names: Vec<String>) -> Result<Args, Refusal> {
        let switches = self.switches.iter().filter(|(_, on)| *on).map(|(name, _)| format!("--{name}"));
        // Flags of the root that are not global must stand before the verb, all others may.
        let (before, after): (Vec<_>, Vec<_>) = self
            .values
            .iter()
            .cloned()
            .chain(switches)
            .partition(|flag| root.get_arguments().any(|arg| is(arg, flag)));
        let dashes = || "--".to_owned();
        let names_and_command: Vec<String> = match &self.command {
            Some(command) => {
                let dashes = (!command.is_empty()).then(dashes);
                names.into_iter().chain(dashes).chain(command.iter().cloned()).collect()
            }
            None => (!names.is_empty()).then(dashes).into_iter().chain(names).collect(),
        };
        let words = ["gracefully".to_owned()]
            .into_iter()
            .chain(before)
            .chain(self.commands.iter().cloned())
            .chain(after)
            .chain(names_and_command);
        root.clone()
            .try_get_matches_from(words)
            .and_then(|matches| Args::from_arg_matches(&matches))
            .map_err(|error| refusal(&error, place))
    }
}

/// Is `word` this flag, in the form that [`Reading`] gives it?
fn is(arg: &clap::Arg, word: &str) -> bool {
    let name = word.trim_start_matches("--").split('=').next();
    arg.get_long() == name
}

/// What is left for clap to refuse: values.
fn refusal(error: &clap::Error, place: &Place<'_>) -> Refusal {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let why = match error.kind() {
        ErrorKind::ValueValidation => {
            std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
        }
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                format!("must be one of {}", valid.join(", "))
            }
            _ => "must not be empty".into(),
        },
        // The text of docker's library, and its code, which is not that of a wrong flag.
        ErrorKind::MissingRequiredArgument if !missing_flags(error).is_empty() => {
            let message = format!("required flag(s) {} not set", missing_flags(error).join(", "));
            return Refusal { code: exit::FAILURE, ..Refusal::flag(&message, place) };
        }
        // Unknown flags and the number of names were looked at before.
        _ => return Refusal { text: error.to_string().trim_end().to_owned(), code: exit::FAILURE },
    };
    let shown = text(ContextKind::InvalidArg);
    let value = text(ContextKind::InvalidValue);
    let arg = place.command.get_arguments().find(|arg| arg.to_string() == shown);
    let message = match arg.filter(|arg| !arg.is_positional()) {
        Some(flag) => format!("invalid argument {value:?} for {:?} flag: {why}", flags::title(flag)),
        None => format!("invalid argument {value:?} for {shown}: {why}"),
    };
    Refusal::flag(&message, place)
}

/// The flags without which a command makes no sense, in quotes.
fn missing_flags(error: &clap::Error) -> Vec<String> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return Vec::new() };
    let names = missing.iter().filter_map(|arg| arg.strip_prefix("--")?.split([' ', '=']).next());
    names.map(|name| format!("{name:?}")).collect()
}

#[cfg(test)]
mod tests;
