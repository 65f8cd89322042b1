//! A file that is replaced is the old one or the new one, whenever that ends.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::example;
use crate::program::{Running, can_trace, directory, strace};
use crate::trace::{CALLS, Moment, Trace, What};

const OLD: &str = "colour=blue\n";
const NEW: &str = "colour=red\n";

/// A directory with the old settings, and a program that replaces them.
struct Settings {
    _directory: tempfile::TempDir,
    directory: PathBuf,
    file: PathBuf,
}

impl Settings {
    fn old() -> Self {
        let (keep, directory) = directory();
        let file = directory.join("settings");
        fs::write(&file, OLD).unwrap();
        Self { _directory: keep, directory, file }
    }

    fn replace(&self) -> Command {
        let mut program = example("05_replace_a_file");
        program.arg(&self.file).args(["colour", "red"]);
        program
    }

    /// The same without a thought.
    fn overwrite(&self) -> Command {
        let mut program = Command::new("sh");
        program.args(["-c", r#"echo colour=red > "$0""#]).arg(&self.file);
        program
    }

    fn content(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// What else is there.
    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(&self.directory).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "settings").collect()
    }
}

/// The system calls of a program, by name, and which of that name.
fn calls(program: &Command) -> Vec<(String, usize)> {
    let (_directory, directory) = directory();
    let traced = directory.join("trace");
    assert_eq!(Running::start(&mut strace(&traced, "all", &[], program)).end().status.code(), Some(0));
    let mut seen = HashMap::new();
    let text = fs::read_to_string(traced).unwrap();
    let names = text.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('));
    // With the first, strace starts it.
    let counted = names.filter(|(name, _)| *name != "execve").map(|(name, _)| {
        let count = seen.entry(name).or_insert(0);
        *count += 1;
        (name.to_owned(), *count)
    });
    counted.collect()
}

/// Kills a program at each of its system calls, one after the other, before that is done. Gives what the settings were then.
fn killed_at_every_call(program: impl Fn(&Settings) -> Command) -> Vec<String> {
    let calls = calls(&program(&Settings::old()));
    let mut contents = Vec::new();
    for (name, number) in &calls {
        let settings = Settings::old();
        let inject = format!("inject={name}:signal=KILL:when={number}");
        let mut traced = strace(Path::new("/dev/null"), "all", &["-e", &inject], &program(&settings));
        let ended = Running::start(&mut traced).end();
        assert_eq!(ended.status.signal(), Some(9), "at {name} {number}");
        contents.push(settings.content());

        let left = settings.left();
        let is_ours = |name: &String| name.strip_prefix(".settings.")?.strip_suffix(".new").map(drop);
        assert!(
            left.len() <= 1 && left.iter().all(|name| is_ours(name).is_some()),
            "at {name} {number}: {left:?}"
        );
        // The next one is not kept from it.
        let again = Running::start(&mut program(&settings)).end();
        assert_eq!((again.status.code(), &settings.content()[..]), (Some(0), NEW), "{:?}", again.complained);
        assert_eq!(settings.left(), left);
    }
    contents
}

#[test]
fn killed_at_any_system_call_it_leaves_the_old_or_the_new() {
    if !can_trace() {
        return;
    }
    let contents = killed_at_every_call(Settings::replace);
    let old = contents.iter().take_while(|content| *content == OLD).count();
    println!("{} calls, {old} before the new one", contents.len());
    assert!(old > 0 && old < contents.len());
    assert!(contents[old..].iter().all(|content| content == NEW), "{contents:?}");

    let control = killed_at_every_call(Settings::overwrite);
    assert!(control.iter().any(|content| content != OLD && content != NEW), "{control:?}");
}

/// What the name may stand for after a power cut: at every moment of the trace, of each what could be found then.
fn after_a_power_cut(trace: &Trace, settings: &Settings) -> Result<(), String> {
    let (mut written, mut synced) = (String::new(), 0);
    let (mut syncing, mut renaming, mut renamed) = (0, false, false);
    for moment in &trace.moments {
        match *moment {
            Moment::Begins(call) => match &trace.calls[call].what {
                What::Rename { to, .. } if *to == settings.file => renaming = true,
                What::Write { descriptor: 1, .. } if !renamed => return Err("it says so too early".into()),
                What::Write { file, data, .. } if file.parent() == Some(&settings.directory) => {
                    written.push_str(str::from_utf8(data).unwrap());
                }
                What::Sync { .. } => syncing = written.len(),
                What::Write { .. } | What::Truncate { .. } | What::Rename { .. } => {}
            },
            Moment::Returned(call) => match &trace.calls[call].what {
                What::Sync { file } if *file == settings.directory => renamed = renaming,
                What::Sync { .. } => synced = syncing,
                What::Write { .. } | What::Truncate { .. } | What::Rename { .. } => {}
            },
        }
        let half = (synced..=written.len()).map(|length| &written[..length]).find(|found| *found != NEW);
        if let Some(half) = half.filter(|_| renaming) {
            return Err(format!("{half:?} is left"));
        }
    }
    if renamed { Ok(()) } else { Err("the old one may come back".into()) }
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new() {
    if !can_trace() {
        return;
    }
    let settings = Settings::old();
    let traced = settings.directory.join("trace");
    let ended = Running::start(&mut strace(&traced, CALLS, &[], &settings.replace())).end();
    assert_eq!(ended.said, ["colour is red"]);
    let trace = Trace::read(&traced);
    after_a_power_cut(&trace, &settings).unwrap();
    for (file, lost) in
        [(trace.calls[0].file(), "\"\" is left"), (&settings.directory, "it says so too early")]
    {
        let without = trace.without_syncs_of(file, ..);
        assert_eq!(after_a_power_cut(&without, &settings), Err(lost.to_owned()));
    }
}

/// Whoever is told of an error has the old file, or the new one if only its name could not be synced.
#[test]
fn an_error_leaves_nothing_behind() {
    if !can_trace() {
        return;
    }
    for (call, content) in [
        ("write:error=ENOSPC:when=1", OLD),
        ("fsync:error=EIO:when=1", OLD),
        ("?rename,?renameat,renameat2:error=EIO:when=1", OLD),
        ("fsync:error=EIO:when=2", NEW),
    ] {
        let settings = Settings::old();
        let inject = format!("inject={call}");
        let mut traced = strace(Path::new("/dev/null"), CALLS, &["-e", &inject], &settings.replace());
        let ended = Running::start(&mut traced).end();
        assert_eq!((ended.status.code(), &ended.said[..]), (Some(1), &[][..]), "{call}");
        assert_eq!((&settings.content()[..], settings.left()), (content, vec![]), "{call}");
    }
}
