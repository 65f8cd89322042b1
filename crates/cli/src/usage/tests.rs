//! Every row of research/stop.md, 3.A, and what docker 28.2 answered when it was asked the same.

use gracefully_core::policy::Timeout;

use super::*;
use crate::args::{EngineChoice, Verb};

fn line(text: &str) -> Vec<OsString> {
    let words = text.split(' ').filter(|word| !word.is_empty());
    std::iter::once("gracefully")
        .chain(words)
        .map(|word| if word == "''" { "" } else { word }.into())
        .collect()
}

fn understood(text: &str) -> Args {
    match parse(Program::Standalone, line(text)) {
        Ok(Parsed::Do(args)) => *args,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> Refusal {
    parse(Program::Standalone, line(text)).expect_err(text)
}

fn help(text: &str) -> String {
    match parse(Program::Standalone, line(text)) {
        Ok(Parsed::Say(help)) => help,
        other => panic!("{text}: {other:?}"),
    }
}

/// The timeout and the names of a `stop`.
fn stop(text: &str) -> (Option<Timeout>, Vec<String>) {
    match understood(text).verb {
        Verb::Stop(stop) => (stop.how.timeout, stop.targets.targets),
        other => panic!("{text}: {other:?}"),
    }
}

const SECONDS_2: Option<Timeout> = Some(Timeout::After(std::time::Duration::from_secs(2)));

#[test]
fn rows_1_and_2_no_names() {
    for verb in ["stop", "kill", "restart", "rm"] {
        let expected = format!(
            "gracefully: 'gracefully {verb}' requires at least 1 argument\n\n\
             Usage:  gracefully {verb} [OPTIONS] CONTAINER [CONTAINER...]\n\n\
             See 'gracefully {verb} --help' for more information"
        );
        assert_eq!(refused(verb), Refusal { text: expected, code: 1 });
    }
    assert_eq!(
        refused("wait").text,
        "gracefully: 'gracefully wait' requires at least 1 argument\n\n\
         Usage:  gracefully wait CONTAINER [CONTAINER...]\n\n\
         See 'gracefully wait --help' for more information"
    );
}

#[test]
fn other_numbers_of_names() {
    for (text, expected) in [
        (
            "logs",
            "gracefully: 'gracefully logs' requires 1 argument\n\nUsage:  gracefully logs [OPTIONS] CONTAINER\n\nRun 'gracefully logs --help' for more information",
        ),
        (
            "logs a b",
            "gracefully: 'gracefully logs' requires 1 argument\n\nUsage:  gracefully logs [OPTIONS] CONTAINER\n\nRun 'gracefully logs --help' for more information",
        ),
        (
            "ps a",
            "gracefully: 'gracefully ps' accepts no arguments\n\nUsage:  gracefully ps [OPTIONS]\n\nRun 'gracefully ps --help' for more information",
        ),
        (
            "stop --",
            "gracefully: 'gracefully stop' requires at least 1 argument\n\nUsage:  gracefully stop [OPTIONS] CONTAINER [CONTAINER...]\n\nSee 'gracefully stop --help' for more information",
        ),
        (
            "run -d",
            "gracefully: 'gracefully run' requires at least 1 argument\n\nUsage:  gracefully run [OPTIONS] COMMAND [ARG...]\n\nSee 'gracefully run --help' for more information",
        ),
        (
            "inspect",
            "gracefully: 'gracefully inspect' requires at least 1 argument\n\nUsage:  gracefully inspect [OPTIONS] NAME|ID [NAME|ID...]\n\nSee 'gracefully inspect --help' for more information",
        ),
        (
            "version x",
            "gracefully: 'gracefully version' accepts no arguments\n\nUsage:  gracefully version\n\nRun 'gracefully version --help' for more information",
        ),
    ] {
        assert_eq!(refused(text), Refusal { text: expected.into(), code: 1 }, "{text}");
    }
}

/// The first line of a flag error; the rest is the same for all.
fn flag_error(text: &str) -> String {
    let refusal = refused(text);
    assert_eq!(refusal.code, 125, "{text}: {refusal:?}");
    let (message, rest) = refusal.text.split_once("\n\n").unwrap();
    let verb = text.split(' ').next().unwrap();
    assert!(rest.starts_with(&format!("Usage:  gracefully {verb} ")), "{text}: {rest}");
    assert!(
        rest.ends_with(&format!("\n\nRun 'gracefully {verb} --help' for more information")),
        "{text}: {rest}"
    );
    message.to_owned()
}

#[test]
fn rows_3_to_8_flags() {
    for (text, expected) in [
        (
            "stop -t x c",
            r#"invalid argument "x" for "-t, --timeout" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            "stop -tx c",
            r#"invalid argument "x" for "-t, --timeout" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            "stop --timeout= c",
            r#"invalid argument "" for "-t, --timeout" flag: strconv.ParseInt: parsing "": invalid syntax"#,
        ),
        (
            "stop -t= c",
            r#"invalid argument "=" for "-t, --timeout" flag: strconv.ParseInt: parsing "=": invalid syntax"#,
        ),
        (
            "stop --time x c",
            r#"invalid argument "x" for "--time" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            "stop -t 1.5 c",
            r#"invalid argument "1.5" for "-t, --timeout" flag: strconv.ParseInt: parsing "1.5": invalid syntax"#,
        ),
        (
            "stop -t 99999999999999999999 c",
            r#"invalid argument "99999999999999999999" for "-t, --timeout" flag: strconv.ParseInt: parsing "99999999999999999999": value out of range"#,
        ),
        ("stop -t", "flag needs an argument: 't' in -t"),
        ("stop c -t", "flag needs an argument: 't' in -t"),
        ("stop --timeout", "flag needs an argument: --timeout"),
        ("stop --bogus c", "unknown flag: --bogus"),
        ("stop --bogus=1 c", "unknown flag: --bogus"),
        ("stop -x c", "unknown shorthand flag: 'x' in -x"),
        ("stop -qx c", "unknown shorthand flag: 'q' in -qx"),
        ("ps -ax", "unknown shorthand flag: 'x' in -x"),
        ("stop --=x", "bad flag syntax: --=x"),
        ("stop ---x", "bad flag syntax: ---x"),
        (
            "ps -a=x",
            r#"invalid argument "x" for "-a, --all" flag: strconv.ParseBool: parsing "x": invalid syntax"#,
        ),
        (
            "ps -aq=x",
            r#"invalid argument "x" for "-q, --quiet" flag: strconv.ParseBool: parsing "x": invalid syntax"#,
        ),
        (
            "run --rm=x true",
            r#"invalid argument "x" for "--rm" flag: strconv.ParseBool: parsing "x": invalid syntax"#,
        ),
        (
            "run --stop-timeout x true",
            r#"invalid argument "x" for "--stop-timeout" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        ("run -e =x true", r#"invalid argument "=x" for "-e, --env" flag: invalid environment variable: =x"#),
        ("kill -s", "flag needs an argument: 's' in -s"),
        ("wait --bogus c", "unknown flag: --bogus"),
        (
            "completions csh",
            "invalid argument \"csh\" for <SHELL>: must be one of bash, elvish, fish, powershell, zsh",
        ),
        (
            "ps --progress loud",
            r#"invalid argument "loud" for "--progress" flag: must be one of auto, plain, none"#,
        ),
        ("stop --report= c", r#"invalid argument "" for "--report" flag: must not be empty"#),
        // Docker stops at the first thing that is wrong.
        (
            "stop -t x --bogus c",
            r#"invalid argument "x" for "-t, --timeout" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            "stop -t x",
            r#"invalid argument "x" for "-t, --timeout" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        ("stop --bogus -t x", "unknown flag: --bogus"),
        (
            "run --stop-timeout x --stop-timeout 1 true",
            r#"invalid argument "x" for "--stop-timeout" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        // Help is only for command lines that are right.
        ("stop --help --bogus", "unknown flag: --bogus"),
    ] {
        assert_eq!(flag_error(text), expected, "{text}");
    }
}

#[test]
fn flags_of_the_program_itself() {
    assert_eq!(
        refused("--bogus"),
        Refusal {
            text: "unknown flag: --bogus\n\nUsage:  gracefully [OPTIONS] COMMAND [ARG...]\n\n\
                   Run 'gracefully --help' for more information"
                .into(),
            code: 125
        }
    );
    assert!(refused("-c").text.starts_with("flag needs an argument: 'c' in -c\n"));
    assert_eq!(
        refused("foo"),
        Refusal {
            text:
                "gracefully: unknown command: gracefully foo\n\nRun 'gracefully --help' for more information"
                    .into(),
            code: 1
        }
    );
    let args = understood("-c ctx -D -l debug --tlsverify --config /d -H unix:///x ps");
    assert_eq!(args.global.docker.context.as_deref(), Some("ctx"));
    assert!(args.global.docker.tlsverify && args.global.docker.debug);
    assert_eq!(args.global.host.as_deref(), Some("unix:///x"));
    // Ours may stand behind the verb, too; the last word counts.
    let args = understood("--engine docker stop --engine=local web");
    assert_eq!(args.global.engine, EngineChoice::Local);
}

#[test]
fn row_9_forms_of_a_flag() {
    let c = vec!["c".to_owned()];
    for text in [
        "stop -t2 c",
        "stop -t=2 c",
        "stop --timeout=2 c",
        "stop -t 2 c",
        "stop c -t 2",
        "stop -t 2 -- c",
        "container stop -t 2 c",
        "stop -t 9 -t 2 c",
        "stop -t 0x2 c",
        "stop -t 2000ms c",
    ] {
        assert_eq!(stop(text), (SECONDS_2, c.clone()), "{text}");
    }
    assert_eq!(stop("stop -t -1 c"), (Some(Timeout::Never), c.clone()));
    assert_eq!(stop("stop -t-1 c"), (Some(Timeout::Never), c.clone()));
    assert_eq!(stop("stop -- -t 2"), (None, vec!["-t".to_owned(), "2".to_owned()]));
    assert_eq!(stop("stop a - b"), (None, vec!["a".to_owned(), "-".to_owned(), "b".to_owned()]));
    // A value is a value, whatever it looks like.
    let Verb::Stop(stop) = understood("stop -s --bogus c").verb else { panic!("stop") };
    assert_eq!(stop.how.signal.as_deref(), Some("--bogus"));
}

#[test]
fn rows_10_and_11_time_is_known_and_hidden() {
    let Verb::Restart(args) = understood("restart --time 2 --timeout 2 c").verb else { panic!("restart") };
    assert_eq!((args.how.time, args.how.timeout), (SECONDS_2, SECONDS_2));
    assert!(!help("stop --help").contains("--time "));
}

#[test]
fn row_12_an_empty_name_is_a_name_until_it_is_looked_up() {
    assert_eq!(stop("stop ''"), (None, vec![String::new()]));
}

#[test]
fn row_13_help_is_for_stdout() {
    for text in ["stop --help", "stop -h", "stop c --help", "help stop", "container stop --help"] {
        let help = help(text);
        assert!(help.starts_with("Stop containers or programs"), "{text}: {help}");
        assert!(help.contains("Usage:  gracefully stop [OPTIONS] CONTAINER [CONTAINER...]"), "{help}");
        assert!(help.contains("Examples:\n  gracefully stop web"), "{help}");
    }
    for text in ["", "--help", "help", "-h"] {
        let help = help(text);
        assert!(help.contains("Stop and start:\n  stop "), "{text}: {help}");
    }
    assert!(help("plugin").contains("install"));
    assert!(help("plugin --help").contains("install"));
    assert!(help("plugin -h").contains("install"));
    assert_eq!(help("--version"), version());
}

#[test]
fn switches_can_be_taken_back() {
    let rm = |text| match understood(text).verb {
        Verb::Run(run) => run.rm,
        other => panic!("{other:?}"),
    };
    assert!(rm("run --rm true") && rm("run --rm=1 true") && rm("run --rm=false --rm true"));
    assert!(!rm("run true") && !rm("run --rm --rm=false true"));
    let Verb::Ps(ps) = understood("ps -aq").verb else { panic!("ps") };
    assert!(ps.all && ps.quiet);
}

#[test]
fn what_follows_the_command_of_run_is_its_own() {
    for text in ["run -d sh -c x --rm", "run -d -- sh -c x --rm"] {
        let Verb::Run(run) = understood(text).verb else { panic!("run") };
        assert!(run.detach && !run.rm, "{text}");
        assert_eq!(run.command, ["sh", "-c", "x", "--rm"], "{text}");
    }
    let Verb::Run(run) = understood("run -e A=1 -e B -u 0 -w /tmp x").verb else { panic!("run") };
    assert_eq!(run.env.len(), 2);
}

#[test]
fn ten_thousand_names() {
    let names: Vec<_> = (0..10_000).map(|n| format!("c{n}")).collect();
    assert_eq!(stop(&format!("stop {}", names.join(" "))).1, names);
}

#[test]
fn arguments_that_are_not_utf8_are_named() {
    use std::os::unix::ffi::OsStringExt as _;
    let argv = vec!["gracefully".into(), "stop".into(), OsString::from_vec(b"we\xffb".to_vec())];
    assert_eq!(
        parse(Program::Standalone, argv).unwrap_err(),
        Refusal { text: "argument 2 is not UTF-8: we\u{fffd}b".into(), code: 125 }
    );
}

/// research/stop.md, 6: everything behind `docker` is passed on, its own flags first.
#[test]
fn as_a_plugin_dockers_flags_stand_before_our_name() {
    let parse = |text: &str| parse(Program::Plugin, line(text));
    let Ok(Parsed::Do(args)) =
        parse("-H unix:///s --log-level debug gracefully --progress none stop -t 5 web")
    else {
        panic!("stop")
    };
    assert_eq!(args.global.host.as_deref(), Some("unix:///s"));
    assert!(matches!(args.verb, Verb::Stop(_)));

    for text in ["gracefully stop --help", "gracefully help stop"] {
        assert!(
            matches!(parse(text), Ok(Parsed::Say(help)) if help.contains("docker gracefully stop web")),
            "{text}"
        );
    }
    for text in ["gracefully", "gracefully --help", "help gracefully"] {
        assert!(
            matches!(parse(text), Ok(Parsed::Say(help)) if help.contains("docker gracefully [OPTIONS] COMMAND")),
            "{text}"
        );
    }
    assert_eq!(
        parse("gracefully stop").unwrap_err().text,
        "docker: 'docker gracefully stop' requires at least 1 argument\n\n\
         Usage:  docker gracefully stop [OPTIONS] CONTAINER [CONTAINER...]\n\n\
         See 'docker gracefully stop --help' for more information"
    );
    assert_eq!(parse("other stop").unwrap_err().code, 1);
}

#[test]
fn the_name_is_taken_from_the_path_we_were_called_by() {
    let program = |path: &str| Program::from_argv0(Some(&path.into()));
    assert_eq!(program("/root/.docker/cli-plugins/docker-gracefully"), Program::Plugin);
    assert_eq!(program("gracefully"), Program::Standalone);
    assert_eq!(Program::from_argv0(None), Program::Standalone);
}

#[test]
fn a_command_stands_behind_dashes_and_names_before() {
    let words = |text: &str| match understood(text).verb {
        Verb::Register(args) => (args.urls.join(" "), args.port, args.command.join(" ")),
        other => panic!("{text}: {other:?}"),
    };
    let row = |urls: &str, command: &str| (urls.to_owned(), 80, command.to_owned());
    assert_eq!(words("register file:///a --service=web --port 80"), row("file:///a", ""));
    assert_eq!(words("register --service web a:///b --port=80 c:///d --"), row("a:///b c:///d", ""));
    assert_eq!(
        words("register --service web --port 80 a:///b -- sh -c x -- --port 90"),
        row("a:///b", "sh -c x -- --port 90")
    );
    assert_eq!(refused("register --service web --port 80 -- true").code, 1);
    let missing = refused("register a:///b --service web");
    assert!(
        missing.code == 1 && missing.text.starts_with("required flag(s) \"port\" not set\n"),
        "{missing:?}"
    );
}
