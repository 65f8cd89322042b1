use super::*;

use alloc::vec;

use crate::testing::numbers;

/// Strings that live as long as the process, as those of the kernel do.
fn strings(texts: &[&str]) -> Vec<&'static CStr> {
    let leaked = |text: &&str| &*Box::leak(CString::new(*text).unwrap().into_boxed_c_str());
    texts.iter().map(leaked).collect()
}

fn parsed(words: &[&str]) -> Result<Asked> {
    with_environment(words, &[])
}

fn with_environment(words: &[&str], environment: &[&str]) -> Result<Asked> {
    let words: Vec<&str> = ["init"].iter().chain(words).copied().collect();
    parse(&strings(&words), &strings(environment))
}

fn options(words: &[&str]) -> Options {
    match parsed(words) {
        Ok(Asked::Run(options)) => *options,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn refused(words: &[&str]) -> String {
    parsed(words).expect_err("it is refused").0
}

#[test]
fn the_command_begins_with_the_first_word_that_is_no_option() {
    assert_eq!(options(&["app"]).command, [c"app"]);
    assert_eq!(options(&["--", "app", "-c", "x"]).command, [c"app", c"-c", c"x"]);
    let tinis = options(&["-g", "app", "-c", "x"]);
    assert_eq!((tinis.group, &tinis.command[..]), (true, &[c"app", c"-c", c"x"][..]));
    assert_eq!(options(&["--", "--", "true"]).command, [c"--", c"true"], "a program of that name");
    assert!(refused(&[]).starts_with("no command"));
    assert!(refused(&["--"]).starts_with("no command"));
    assert!(refused(&["-g"]).starts_with("no command"));
}

#[test]
fn options_in_every_spelling() {
    for words in [
        &["-gwvvp", "KILL", "x"][..],
        &["-gwvvpKILL", "x"],
        &["-g", "-w", "-vv", "-p", "SIGKILL", "x"],
        &["-s", "-c", "--group", "--warn", "--verbose", "-v", "--parent-death=9", "x"],
    ] {
        let it = options(words);
        assert_eq!((it.group, it.warn_of_orphans, it.verbosity), (true, true, 2), "{words:?}");
        assert_eq!(it.on_parents_death, Some(Signal::KILL));
    }
}

#[test]
fn every_setting() {
    let it = options(&[
        "--grace=30s",
        "--stop-signal",
        "QUIT,TERM",
        "--settle",
        "auto",
        "--drain",
        "80,443",
        "--hook-limit",
        "2s",
        "--on-stop",
        "sync",
        "--on-stop",
        r#"["/bin/a", "b c"]"#,
        "--sidecar",
        "agent",
        "--sidecar-after",
        "listen",
        "--sync",
        "/data",
        "--report",
        "/dev/termination-log",
        "--map-exit",
        "143=0",
        "--clean-exit",
        "--wait-all",
        "-e",
        "7",
        "-r",
        "TERM:INT",
        "--rewrite",
        "1:0",
        "--",
        "app",
    ]);
    assert_eq!(it.grace, Some(Timeout::from_seconds(30)));
    assert_eq!(it.stop, StopSignals { first: Some(Signal::QUIT), then: Some(Signal::TERM) });
    assert_eq!((it.settle, it.drain), (Some(Within::Budget), Some(Ports::These(vec![80, 443]))));
    assert_eq!(it.hooks.len(), 2);
    assert!(it.hooks.iter().all(|hook| hook.limit == Some(Duration::from_secs(2))));
    assert_eq!((it.sidecars.len(), it.sidecars_wait, it.waits_for_all), (1, true, true));
    assert_eq!((it.sync, it.report), (vec![CString::from(c"/data")], Some(c"/dev/termination-log".into())));
    assert_eq!(it.rewrites.of(Signal::TERM), Some(Signal::INT));
    assert_eq!(it.rewrites.of(Signal::HUP), None);
}

#[test]
fn what_cannot_be_understood_is_named() {
    for (words, part) in [
        (&["-x", "app"][..], "unknown option -x"),
        (&["--what", "app"], "unknown option --what"),
        (&["--grace"], "--grace needs a value"),
        (&["-r"], "--rewrite needs a value"),
        (&["--group=yes", "app"], "--group takes no value"),
        (&["--grace", "soon", "app"], "--grace \"soon\": not a time"),
        (&["-e", "256", "app"], "-e \"256\""),
        (&["-e", "-1", "app"], "-e \"-1\""),
        (&["-p", "NOPE", "app"], "-p \"NOPE\": not a signal"),
        (&["-r", "1:32", "app"], "--rewrite \"1:32\""),
        (&["--stop-signal", "QUIT,", "app"], "--stop-signal \"QUIT,\""),
        (&["--stop-signal", "TERM,KILL", "app"], "--stop-signal \"TERM,KILL\""),
        (&["--drain", "http", "app"], "--drain \"http\""),
        (&["--on-stop", "[1]", "app"], "--on-stop \"[1]\""),
        (&["--sidecar-after", "lunch", "app"], "--sidecar-after \"lunch\": not start or listen"),
        (&["--report", "", "app"], "--report \"\": not a path"),
        (&["-P"], "catatonit's pause"),
    ] {
        let error = refused(words);
        assert!(error.contains(part), "{words:?}: {error}");
    }
}

#[test]
fn other_things_than_being_an_init() {
    for words in [&["-h"][..], &["--help"], &["-gh", "app"]] {
        assert_eq!(parsed(words), Ok(Asked::Help));
    }
    assert_eq!(parsed(&["--version"]), Ok(Asked::Version));
    assert_eq!(parsed(&["-V"]), Ok(Asked::Version));
    assert_eq!(parsed(&["-l"]), Ok(Asked::License));
    assert_eq!(parsed(&["status"]), Ok(Asked::Status(1)));
    assert_eq!(parsed(&["status", "77"]), Ok(Asked::Status(77)));
    assert_eq!(options(&["--", "status"]).command, [c"status"]);
    assert!(refused(&["status", "0"]).contains("PID"));
    assert!(refused(&["status", "1", "2"]).contains("one PID"));
}

#[test]
fn the_environment_of_docker_init() {
    let run = |environment: &[&str]| match with_environment(&["app"], environment) {
        Ok(Asked::Run(options)) => *options,
        other => panic!("{environment:?}: {other:?}"),
    };
    let it = run(&["TINI_SUBREAPER=", "TINI_KILL_PROCESS_GROUP=1", "TINI_VERBOSITY=3", "PATH=/bin", "x"]);
    assert_eq!((it.group, it.verbosity), (true, 3));
    let it = run(&[
        "GRACEFULLY_GRACE=30",
        "GRACEFULLY_DRAIN=auto",
        "GRACEFULLY_STOP_SIGNAL=QUIT",
        "GRACEFULLY_SETTLE=",
    ]);
    assert_eq!((it.grace, it.drain), (Some(Timeout::from_seconds(30)), Some(Ports::Auto)));
    assert_eq!((it.stop.first, it.settle), (Some(Signal::QUIT), None));

    let both = with_environment(&["--grace=5", "app"], &["GRACEFULLY_GRACE=30"]);
    assert!(matches!(both, Ok(Asked::Run(options)) if options.grace == Some(Timeout::from_seconds(5))));
    let bad = with_environment(&["app"], &["GRACEFULLY_GRACE=soon"]).unwrap_err();
    assert!(bad.0.starts_with("GRACEFULLY_GRACE: --grace \"soon\""), "{bad}");
}

#[test]
fn words_that_are_not_utf_8() {
    let bad: &'static CStr = c"\xff";
    let words = |words: &[&'static CStr]| parse(&[&[c"init"], words].concat(), &[bad]);
    assert!(matches!(words(&[bad]), Ok(Asked::Run(options)) if options.command == [bad]));
    assert!(words(&[c"--grace", bad]).unwrap_err().0.contains("UTF-8"));
    assert!(words(&[c"-\xff"]).unwrap_err().0.contains("UTF-8"));
}

/// Whatever the words are, they are understood or refused, and nothing of the command is lost.
#[test]
fn any_words_at_all() {
    let parts = [
        "-", "--", "-g", "-p", "TERM", "-r", "15:3", "--grace", "=", "10s", "status", "app", "-e1", "[",
        "\u{e9}",
    ];
    let mut next = numbers();
    let mut understood = 0;
    for _ in 0..20_000 {
        let words: Vec<String> = (0..next(6))
            .map(|_| (0..=next(2)).map(|_| parts[next(parts.len())]).collect::<String>())
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Ok(Asked::Run(options)) = parsed(&words) {
            let command: Vec<&str> = options.command.iter().map(|word| word.to_str().unwrap()).collect();
            assert!(!command.is_empty() && words.ends_with(&command), "{words:?}: {command:?}");
            understood += 1;
        }
    }
    assert!(understood > 1_000, "{understood}");
}
