//! From facts about processes to findings with a remedy.
//!
//! The kernel treats the first process of a PID namespace differently from every other process: a signal whose
//! action is the default one is discarded instead of ending it (`pid_namespaces(7)`). So PID 1 without a handler
//! does not notice SIGTERM at all, and `docker stop` waits out its ten seconds. Whether there is a handler can be
//! read beforehand from `SigCgt` in `/proc/PID/status`. Programs such as tini, s6-svscan and catatonit show no
//! handler and still react: they block the signal and collect it with sigwait(3) or signalfd(2).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::Timeout;
use crate::signal::Signal;

/// How long a program may take to install its handlers before their absence means something.
pub const START_UP_ALLOWANCE: Duration = Duration::from_secs(2);

/// The processes of one target at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The process that gets the stop signal.
    pub main: Process,
    /// Everything that descends from it, in the order of their PIDs.
    pub descendants: Vec<Process>,
}

/// What the kernel says about one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its PID as we see it.
    pub pid: u32,
    /// Its PID as it sees itself.
    pub inner_pid: u32,
    /// The kernel's name for it (15 bytes).
    pub name: String,
    /// Its command line; empty for a zombie.
    pub command: Vec<String>,
    /// What it is doing.
    pub state: State,
    /// The kernel function in which it sleeps, if the kernel tells.
    pub wait_channel: Option<String>,
    /// How long it has been running.
    pub age: Duration,
    /// Signals with a handler (`SigCgt`).
    pub caught: u64,
    /// Signals that are ignored (`SigIgn`).
    pub ignored: u64,
    /// Signals that the main thread holds back, to collect them with sigwait(3) or signalfd(2).
    pub awaited: u64,
    /// Whether `awaited` may lack signals, because the kernel does not let us see what the process waits for.
    pub awaited_hidden: bool,
    /// Established TCP connections, if known.
    pub connections: Option<u32>,
}

/// What a process is doing: the letter in `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// `R`
    Running,
    /// `S`, `I`
    #[default]
    Sleeping,
    /// `D`: not even SIGKILL acts until the kernel operation returns.
    Uninterruptible,
    /// `T`, `t`: by SIGSTOP, a terminal or a debugger. Signals other than SIGKILL and SIGCONT wait.
    Stopped,
    /// `Z`, `X`
    Zombie,
}

/// What a signal does to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// A handler runs.
    Handles,
    /// It is held back, and collected with sigwait(3) or signalfd(2).
    Awaits,
    /// It is ignored on purpose.
    Ignores,
    /// There is no handler; whether it is awaited we may not see.
    Unknown,
    /// The default action: for PID 1 of a namespace none, for others usually death at once.
    Default,
}

impl Process {
    /// What `signal` does to it.
    pub fn reaction(&self, signal: Signal) -> Reaction {
        let mask = signal.mask();
        if self.caught & mask != 0 {
            Reaction::Handles
        } else if self.awaited & mask != 0 {
            Reaction::Awaits
        } else if self.ignored & mask != 0 {
            Reaction::Ignores
        } else if self.awaited_hidden {
            Reaction::Unknown
        } else {
            Reaction::Default
        }
    }

    /// Is it the first process of a PID namespace, to which default actions do not apply?
    pub fn is_namespace_init(&self) -> bool {
        self.inner_pid == 1
    }

    /// The file name of what it runs.
    fn program(&self) -> &str {
        let program = self.command.first().map_or(self.name.as_str(), String::as_str);
        // A login shell has a dash in front.
        program.rsplit('/').next().unwrap_or(program).trim_start_matches('-')
    }

    fn command_line(&self) -> String {
        if self.command.is_empty() { printable(&self.name) } else { printable(&self.command.join(" ")) }
    }

    /// "python3 (pid 7)", with the PID that its owner knows.
    fn who(&self) -> String {
        format!("{} (pid {})", printable(self.program()), self.inner_pid)
    }

    fn is_shell(&self) -> bool {
        matches!(self.program(), "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "mksh" | "fish")
            || (self.program() == "busybox"
                && self.command.get(1).is_some_and(|applet| applet == "sh" || applet == "ash"))
    }

    /// Does this shell run a script from a file? Then its child of this moment is a step of the script, and not the program.
    fn runs_a_script(&self) -> bool {
        let shell_words = if self.program() == "busybox" { 2 } else { 1 };
        let mut words = self.command.iter().skip(shell_words);
        let options = words.by_ref().take_while(|word| word.starts_with('-') && *word != "--");
        !options.into_iter().any(|option| !option.starts_with("--") && option.contains('c'))
            && self.command.iter().skip(shell_words).any(|word| !word.starts_with('-'))
    }

    /// npm and its kin start the program as a child and pass the stop signal on late, or not at all.
    fn is_wrapper(&self) -> bool {
        const WRAPPERS: [&str; 14] = [
            "npm", "npx", "yarn", "pnpm", "make", "poetry", "pipenv", "bundle", "gradle", "gradlew", "mvn",
            "mvnw", "su", "sudo",
        ];
        // `node /usr/bin/npm start` shows npm as the second word; npm itself rewrites its title to "npm start".
        let words = self.command.iter().take(2).filter_map(|word| word.split(' ').next());
        words
            .map(|word| word.rsplit('/').next().unwrap_or(word).trim_end_matches(".js"))
            .any(|word| WRAPPERS.contains(&word))
    }
}

/// Something noticed about a stop, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
pub struct Finding {
    /// What kind of finding; stable, for programs.
    pub code: Code,
    /// What was noticed, for people.
    pub message: String,
    /// What to change, for people.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding without a remedy.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " {hint}"))
    }
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(any(feature = "schema", test), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A shell is the main process and passes no signal on.
    ShellIsMain,
    /// npm, yarn, make or the like is the main process.
    WrapperIsMain,
    /// PID 1 has no handler for the stop signal, so the signal is discarded.
    SignalReachesNobody,
    /// PID 1 ignores the stop signal.
    SignalIgnored,
    /// The main process has no handler and is not PID 1: the stop signal ends it on the spot.
    SignalEndsAtOnce,
    /// The main process has only just started and may have no handler yet.
    StillStarting,
    /// A process had not exited when time ran out.
    StillAlive,
    /// A process is stopped (SIGSTOP) and handles no signal.
    ProcessStopped,
    /// A process is in uninterruptible sleep.
    Uninterruptible,
    /// The processes could not be looked at.
    NotVisible,
    /// Something about connections could not be done, or had a consequence.
    Traffic,
    /// Others may still find it, or do not find it again.
    Discovery,
    /// Something about the engine differs from what was asked.
    Engine,
    /// The log or the state could not be written.
    Storage,
    /// Whoever conducted the stop was lost, and the monitor ended it with what was left of its steps.
    ConductorLost,
}

/// What can be said before the stop signal is sent: will it reach anybody who acts on it?
pub fn before(signal: Signal, family: &Family) -> Vec<Finding> {
    let main = &family.main;
    let mut findings = Vec::new();
    if main.state == State::Stopped {
        findings.push(stopped(main));
    }
    if !is_deaf(signal, main) {
        return findings;
    }
    if main.age < START_UP_ALLOWANCE && family.descendants.is_empty() && main.is_namespace_init() {
        let message =
            format!("PID 1 has no handler for {signal} yet; it started {} ms ago.", main.age.as_millis());
        findings.push(Finding::new(Code::StillStarting, message));
    } else {
        findings.push(deaf(signal, family));
    }
    findings
}

/// Who had not exited when time ran out, why, and what to change.
pub fn after(signal: Signal, budget: Timeout, family: &Family) -> Vec<Finding> {
    let main = &family.main;
    let mut findings = Vec::new();
    if is_deaf(signal, main) {
        findings.push(deaf(signal, family));
    } else if main.state != State::Zombie {
        findings.push(still_alive(signal, budget, family));
    }
    let members = core::iter::once(main).chain(&family.descendants);
    findings.extend(members.clone().filter(|p| p.state == State::Stopped).map(stopped));
    findings.extend(members.filter(|p| p.state == State::Uninterruptible).map(uninterruptible));
    findings
}

/// What can be said of a main process that has `gracefully-init` in front of it, which sends the stop signal to main first and
/// to everybody else after main. `None`: it handles or awaits the signal, or nobody can tell.
pub fn behind_an_init(signal: Signal, family: &Family) -> Option<Finding> {
    let main = &family.main;
    if cannot_be_caught(signal) {
        return None;
    }
    let line = main.command_line();
    match (main.reaction(signal), family.descendants.first()) {
        (Reaction::Handles | Reaction::Awaits | Reaction::Unknown, _) => None,
        (Reaction::Ignores, _) => Some(
            Finding::new(Code::SignalIgnored, format!("main is \"{line}\" and ignores {signal}."))
                .hint("Handle the signal, or name one that the program handles with --stop-signal."),
        ),
        (Reaction::Default, Some(program)) if main.is_shell() => Some(
            Finding::new(
                Code::ShellIsMain,
                format!(
                    "main is \"{line}\"; {signal} ends the shell, and only then does {} get it.",
                    program.who()
                ),
            )
            .hint(if main.runs_a_script() {
                "Let the script start the program with exec.".to_string()
            } else {
                format!("Use CMD {}.", exec_form(&program.command))
            }),
        ),
        (Reaction::Default, _) => Some(Finding::new(
            Code::SignalEndsAtOnce,
            format!(
                "main is \"{line}\" and has no handler for {signal}; it ends on the spot, whatever it is doing."
            ),
        )),
    }
}

/// Is main a shell that has a trap for the signal, and runs a command at present? It runs the trap when the command has ended,
/// and the command hears nothing of the signal.
pub fn is_shell_with_a_trap(signal: Signal, family: &Family) -> bool {
    let main = &family.main;
    main.is_shell() && main.reaction(signal) == Reaction::Handles && !family.descendants.is_empty()
}

/// Does the stop signal provably reach nobody, so that waiting for it is pointless?
///
/// True only for PID 1 of a namespace that neither handles nor awaits nor ignores the signal (a program that
/// ignores it may still poll for it), and that had time to install a handler.
pub fn reaches_nobody(signal: Signal, main: &Process) -> bool {
    main.is_namespace_init()
        && main.age >= START_UP_ALLOWANCE
        && !cannot_be_caught(signal)
        && main.reaction(signal) == Reaction::Default
}

/// In how much time [`reaches_nobody`] could be said of a program that has only just started, if it does nothing about it.
pub fn may_reach_nobody_in(signal: Signal, main: &Process) -> Option<Duration> {
    let older = Process { age: START_UP_ALLOWANCE, ..main.clone() };
    let left = START_UP_ALLOWANCE.checked_sub(main.age).filter(|left| !left.is_zero());
    left.filter(|_| reaches_nobody(signal, &older))
}

/// Does the main process neither handle nor await the stop signal, as far as can be seen?
fn is_deaf(signal: Signal, main: &Process) -> bool {
    if cannot_be_caught(signal) {
        return false;
    }
    match main.reaction(signal) {
        Reaction::Handles | Reaction::Awaits => false,
        Reaction::Ignores | Reaction::Default => true,
        // Shells and wrappers have handlers or nothing; an init such as tini awaits.
        Reaction::Unknown => main.is_shell() || main.is_wrapper(),
    }
}

/// SIGKILL and SIGSTOP act on everybody, also on the first process of a namespace, if they come from outside
/// (`pid_namespaces(7)`).
fn cannot_be_caught(signal: Signal) -> bool {
    signal == Signal::KILL || signal == Signal::STOP
}

/// The main process neither handles nor awaits the stop signal: say what that means.
fn deaf(signal: Signal, family: &Family) -> Finding {
    let main = &family.main;
    let init = main.is_namespace_init();
    let main_is = if init { "PID 1 is".to_string() } else { format!("pid {} is", main.pid) };
    let line = main.command_line();
    // The program that should have got the signal: the first that would act on it, else the first there is.
    let acts = |p: &&Process| matches!(p.reaction(signal), Reaction::Handles | Reaction::Awaits);
    let program = family.descendants.iter().find(acts).or(family.descendants.first());

    match program {
        _ if main.reaction(signal) == Reaction::Ignores => {
            let option = if init { "--stop-signal" } else { "--signal" };
            Finding::new(Code::SignalIgnored, format!("{main_is} \"{line}\" and ignores {signal}."))
                .hint(format!("Handle the signal, or name one that the program handles with {option}."))
        }
        Some(program) if main.is_shell() => Finding::new(
            Code::ShellIsMain,
            format!(
                "{main_is} \"{line}\"; a shell passes no signal on, so {} never sees {signal}.",
                program.who()
            ),
        )
        .hint(if main.runs_a_script() {
            "Let the script trap the signal, or start the program with exec.".to_string()
        } else {
            format!("Use CMD {}, or put gracefully-init in front.", exec_form(&program.command))
        }),
        Some(program) if main.is_wrapper() => Finding::new(
            Code::WrapperIsMain,
            format!("{main_is} \"{line}\", which does not pass {signal} on to {}.", program.who()),
        )
        .hint(format!(
            "Start the program itself: CMD {}, or put gracefully-init in front.",
            exec_form(&program.command)
        )),
        _ if init => Finding::new(
            Code::SignalReachesNobody,
            format!("{main_is} \"{line}\" and has no handler for {signal}; the kernel discards it."),
        )
        .hint("Handle the signal, or put gracefully-init in front, so that the default action applies."),
        // Any other process simply ends; only what it had in memory is worth a word.
        _ => Finding::new(
            Code::SignalEndsAtOnce,
            format!(
                "{main_is} \"{line}\" and has no handler for {signal}; it ends on the spot, whatever it is doing."
            ),
        ),
    }
}

fn still_alive(signal: Signal, budget: Timeout, family: &Family) -> Finding {
    let main = &family.main;
    let mut message = format!("{} got {signal} and had not exited after {budget}", main.who());
    if let Some(channel) = &main.wait_channel {
        message += &format!(", sleeping in {channel}");
    }
    match main.connections {
        Some(1) => message += ", with 1 open connection",
        Some(n) if n > 1 => message += &format!(", with {n} open connections"),
        _ => {}
    }
    message.push('.');
    if !family.descendants.is_empty() {
        let names: Vec<_> = family.descendants.iter().take(5).map(Process::who).collect();
        let more = family.descendants.len().saturating_sub(5);
        message += &format!(" Also alive: {}", names.join(", "));
        message += &if more > 0 { format!(" and {more} more.") } else { ".".to_string() };
    }
    let hint = if main.is_shell() && !family.descendants.is_empty() {
        "A shell runs a trap only after its foreground command has ended: start the command with exec, or with & and wait."
    } else {
        "Give it more time with -t or --stop-timeout, or make it exit when it gets the signal."
    };
    Finding::new(Code::StillAlive, message).hint(hint)
}

fn stopped(process: &Process) -> Finding {
    Finding::new(
        Code::ProcessStopped,
        format!("{} is stopped (state T) and handles no signal.", process.who()),
    )
    .hint("Continue it with SIGCONT, or detach the debugger.")
}

fn uninterruptible(process: &Process) -> Finding {
    let place = process.wait_channel.as_deref().map_or(String::new(), |channel| format!(" in {channel}"));
    Finding::new(
        Code::Uninterruptible,
        format!(
            "{} is in uninterruptible sleep (state D){place}; signals wait until that returns, and often even SIGKILL.",
            process.who()
        ),
    )
    .hint("Look at the disk or network file system that it waits for.")
}

/// A text of somebody else's for a terminal: a process may call itself anything, also something that a terminal obeys.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

/// A command as a Dockerfile's exec form: `["python3","app.py"]`.
fn exec_form(command: &[String]) -> String {
    let mut words = String::from("[");
    for (i, word) in command.iter().enumerate() {
        if i > 0 {
            words.push(',');
        }
        words.push('"');
        for c in word.chars() {
            match c {
                '"' | '\\' => words.extend(['\\', c]),
                '\n' => words.push_str("\\n"),
                '\t' => words.push_str("\\t"),
                c if c.is_control() => words += &format!("\\u{:04x}", u32::from(c)),
                c => words.push(c),
            }
        }
        words.push('"');
    }
    words.push(']');
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const TERM: Signal = Signal::TERM;

    fn process(pid: u32, command: &[&str]) -> Process {
        Process {
            pid: pid + 1000,
            inner_pid: pid,
            command: command.iter().map(|&s| s.to_string()).collect(),
            age: Duration::from_secs(60),
            ..Process::default()
        }
    }

    fn family(main: Process, descendants: Vec<Process>) -> Family {
        Family { main, descendants }
    }

    fn texts(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_shell_in_front_is_explained_with_the_exec_form_of_its_child() {
        let shell = process(1, &["/bin/sh", "-c", "python3 app.py \"x\"; true"]);
        let app = Process { caught: TERM.mask(), ..process(7, &["python3", "app.py", "x\"y"]) };
        let helper = process(8, &["logger"]);
        let all = family(shell, vec![helper, app]);
        let expected = [
            r#"PID 1 is "/bin/sh -c python3 app.py "x"; true"; a shell passes no signal on, so python3 (pid 7) never sees SIGTERM. Use CMD ["python3","app.py","x\"y"], or put gracefully-init in front."#,
        ];
        assert_eq!(texts(&before(TERM, &all)), expected);
        assert_eq!(texts(&after(TERM, Timeout::DEFAULT, &all)), expected);
    }

    #[test]
    fn the_child_of_a_script_is_not_the_program() {
        let hint = |command: &[&str]| {
            let all = family(process(1, command), vec![process(7, &["sleep", "1"])]);
            before(TERM, &all)[0].hint.clone().unwrap()
        };
        for script in
            [&["sh", "loop.sh"][..], &["bash", "-eu", "/loop.sh", "-c"], &["busybox", "sh", "loop.sh"]]
        {
            assert_eq!(hint(script), "Let the script trap the signal, or start the program with exec.");
        }
        for line in [&["sh", "-c", "sleep 1; true"][..], &["bash", "-ec", "x"], &["busybox", "sh", "-c", "x"]]
        {
            assert!(hint(line).starts_with(r#"Use CMD ["sleep","1"]"#), "{line:?}");
        }
    }

    #[test]
    fn nobody_is_deaf_to_what_cannot_be_caught() {
        let all = family(process(1, &["sh", "-c", "app"]), vec![process(7, &["app"])]);
        for signal in [Signal::KILL, Signal::STOP] {
            assert_eq!(before(signal, &all), []);
            assert!(!reaches_nobody(signal, &all.main));
        }
    }

    #[test]
    fn who_ignores_the_signal_is_told_by_which_option_to_choose_another() {
        let ignoring = |main: Process| family(Process { ignored: TERM.mask(), ..main }, vec![]);
        let inner = process(77, &["app"]);
        for (main, option) in [(process(1, &["app"]), "with --stop-signal."), (inner, "with --signal.")] {
            let findings = before(TERM, &ignoring(main));
            assert!(findings[0].hint.as_deref().unwrap().ends_with(option), "{findings:?}");
        }
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let all = family(process(1, &["evil\u{1b}[2J", "x\ny"]), vec![]);
        let text = &texts(&before(TERM, &all))[0];
        assert!(text.starts_with(r#"PID 1 is "evil\u{1b}[2J x\ny" and"#), "{text}");
    }

    #[test]
    fn npm_in_front_is_a_wrapper_however_it_shows_itself() {
        for command in
            [&["npm start"][..], &["node", "/usr/bin/npm", "start"], &["node", "/opt/yarn.js", "start"]]
        {
            let all = family(process(1, command), vec![process(18, &["node", "server.js"])]);
            assert_eq!(before(TERM, &all)[0].code, Code::WrapperIsMain, "{command:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_not_claimed() {
        let hidden = |command: &[&str]| Process { awaited_hidden: true, ..process(1, command) };
        let child = Process { caught: TERM.mask(), ..process(7, &["python3", "app.py"]) };

        let tini = family(hidden(&["/sbin/tini", "--", "python3", "app.py"]), vec![child.clone()]);
        assert_eq!(before(TERM, &tini), []);
        assert!(!reaches_nobody(TERM, &tini.main));

        let shell = family(hidden(&["/bin/sh", "-c", "python3 app.py"]), vec![child]);
        assert_eq!(before(TERM, &shell)[0].code, Code::ShellIsMain);
    }

    #[test]
    fn nothing_is_said_when_the_signal_is_handled_or_awaited() {
        for reacting in [
            Process { caught: TERM.mask(), ..process(1, &["/bin/sh", "-c", "x"]) },
            Process { awaited: TERM.mask(), ..process(1, &["/sbin/tini", "--", "x"]) },
        ] {
            assert_eq!(before(TERM, &family(reacting, vec![process(2, &["x"])])), []);
        }
    }

    #[test]
    fn pid_1_without_a_handler_is_told_from_one_that_has_only_just_started() {
        let young = Process { age: Duration::from_millis(30), ..process(1, &["app"]) };
        assert_eq!(before(TERM, &family(young.clone(), vec![]))[0].code, Code::StillStarting);
        assert!(!reaches_nobody(TERM, &young));
        assert_eq!(may_reach_nobody_in(TERM, &young), Some(Duration::from_millis(1970)));
        let handling = Process { caught: TERM.mask(), ..young };
        assert_eq!(may_reach_nobody_in(TERM, &handling), None);

        let old = process(1, &["app"]);
        assert_eq!(may_reach_nobody_in(TERM, &old), None);
        assert_eq!(before(TERM, &family(old.clone(), vec![]))[0].code, Code::SignalReachesNobody);
        assert!(reaches_nobody(TERM, &old));

        let ignoring = Process { ignored: TERM.mask(), ..old };
        assert_eq!(before(TERM, &family(ignoring.clone(), vec![]))[0].code, Code::SignalIgnored);
        assert!(!reaches_nobody(TERM, &ignoring), "it may poll sigpending(2)");
    }

    #[test]
    fn a_plain_process_without_a_handler_ends_at_once() {
        let plain = process(77, &["sleep", "100"]);
        assert!(!reaches_nobody(TERM, &plain));
        assert_eq!(before(TERM, &family(plain, vec![]))[0].code, Code::SignalEndsAtOnce);
    }

    #[test]
    fn who_is_still_alive_is_named_with_place_and_connections() {
        let main = Process {
            caught: TERM.mask(),
            wait_channel: Some("futex_wait".to_string()),
            connections: Some(3),
            ..process(1, &["/srv/app"])
        };
        let children = (2..9).map(|pid| process(pid, &["worker"])).collect();
        assert_eq!(
            texts(&after(TERM, Timeout::from_seconds(10), &family(main, children))),
            [
                "app (pid 1) got SIGTERM and had not exited after 10 s, sleeping in futex_wait, with 3 open connections. \
              Also alive: worker (pid 2), worker (pid 3), worker (pid 4), worker (pid 5), worker (pid 6) and 2 more. \
              Give it more time with -t or --stop-timeout, or make it exit when it gets the signal."
            ]
        );
    }

    #[test]
    fn a_shell_with_a_trap_gets_its_own_advice() {
        let shell = Process { caught: TERM.mask(), ..process(1, &["bash", "/entrypoint.sh"]) };
        let findings = after(TERM, Timeout::DEFAULT, &family(shell, vec![process(9, &["app"])]));
        assert!(findings[0].hint.as_deref().is_some_and(|hint| hint.contains("trap")), "{findings:?}");
    }

    #[test]
    fn stopped_and_uninterruptible_processes_are_named() {
        let main = Process { state: State::Stopped, caught: TERM.mask(), ..process(1, &["app"]) };
        let disk = Process {
            state: State::Uninterruptible,
            wait_channel: Some("nfs_wait".to_string()),
            ..process(5, &["writer"])
        };
        let codes: Vec<_> =
            after(TERM, Timeout::DEFAULT, &family(main, vec![disk])).into_iter().map(|f| f.code).collect();
        assert_eq!(codes, [Code::StillAlive, Code::ProcessStopped, Code::Uninterruptible]);
    }
}
