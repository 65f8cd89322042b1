//! `run`: a program as PID 1 of a new container of the local engine.
//!
//! Everything is checked before anything is started. In the foreground we are only an onlooker: the container's
//! monitor owns the program, we print its log, pass signals on and return its exit code.

mod environment;
mod init;

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _};
use gracefully_core::exit;
use gracefully_core::signal::Signal;
use gracefully_engine::local::{Attached, Ended, Local};
use gracefully_engine::{Engine as _, Error, Restart, RunSpec};
use tokio::signal::unix::{SignalKind, signal};

use super::logs;
use crate::args::{EngineChoice, Run};
use crate::interrupt::{FORCED, FORCED_AFTER};
use crate::lookup::in_words;
use crate::settings::Settings;
use crate::usage::Refusal;
use crate::values;

pub(super) async fn run(settings: &Settings, args: Run) -> anyhow::Result<u8> {
    let refuse = |code, message: &str| {
        settings.console.error(&Refusal::run(settings.program, message).text);
        Ok(code)
    };
    let not_started = |error| match error {
        Error::Start { code, message } => refuse(code, &message),
        error => refuse(exit::USAGE, &format!("{:#}", anyhow::Error::from(error))),
    };
    let detach = args.detach;
    let spec = match spec(settings, args) {
        Ok(spec) => spec,
        Err(why) => return refuse(exit::USAGE, &format!("{why:#}")),
    };
    let engine = match Local::open() {
        Ok(engine) => engine,
        Err(error) => return not_started(error),
    };
    if detach {
        return match engine.run(spec).await {
            Ok(container) => {
                settings.console.line(&container.id);
                Ok(exit::OK)
            }
            Err(error) => not_started(error),
        };
    }
    // From here on a signal is meant for the program.
    let signals = Forwarded::new()?;
    match engine.run_attached(spec).await {
        Ok(attached) => attend(settings, &engine, attached, signals).await,
        Err(error) => not_started(error),
    }
}

/// Checks what was asked.
fn spec(settings: &Settings, args: Run) -> anyhow::Result<RunSpec> {
    if settings.engines.choice() == EngineChoice::Docker {
        anyhow::bail!("the docker engine runs images, not commands of this machine; use docker run");
    }
    let restart = values::restart(&args.restart).map_err(anyhow::Error::msg)?;
    if args.rm && restart != Restart::No {
        anyhow::bail!("conflicting options: cannot specify both --restart and --rm");
    }
    let stop_signal = super::signal(args.stop_signal.as_deref())?;
    if let Some(name) = &args.name {
        check_name(name)?;
    }
    if let Some(workdir) = &args.workdir {
        anyhow::ensure!(
            workdir.starts_with('/'),
            "the working directory '{workdir}' is invalid, it needs to be an absolute path"
        );
    }
    if let Some(user) = &args.user {
        check_user(user)?;
    }
    let rootfs = args.rootfs.map(|rootfs| {
        let whole = rootfs.canonicalize().with_context(|| format!("--rootfs {}", rootfs.display()))?;
        anyhow::ensure!(whole.is_dir(), "--rootfs {}: not a directory", rootfs.display());
        whole
            .into_os_string()
            .into_string()
            .map_err(|_| anyhow::anyhow!("--rootfs {}: not UTF-8", rootfs.display()))
    });
    let rootfs = rootfs.transpose()?;
    let command = if args.init { init::in_front(args.command, rootfs.as_deref())? } else { args.command };
    Ok(RunSpec {
        name: args.name,
        command,
        env: environment::resolve(&args.env_file, args.env)?,
        workdir: args.workdir,
        user: args.user,
        stop_signal,
        stop_timeout: args.stop_timeout,
        restart,
        auto_remove: args.rm,
        rootfs,
    })
}

/// A name is the name of a file.
const LONGEST_NAME: usize = 255;

/// Docker's rule for names, and its text.
fn check_name(name: &str) -> anyhow::Result<()> {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = letters.as_str();
    let valid =
        first && !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    anyhow::ensure!(
        name.len() <= LONGEST_NAME,
        "Invalid container name: it has {} characters, the longest may have {LONGEST_NAME}",
        name.len()
    );
    anyhow::ensure!(valid, "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    Ok(())
}

/// The form only; whether there is such a user is for the engine to say.
fn check_user(user: &str) -> anyhow::Result<()> {
    let parts: Vec<_> = user.split(':').collect();
    let valid = (1..=2).contains(&parts.len()) && parts.iter().all(|part| !part.is_empty());
    anyhow::ensure!(valid, "invalid user {user:?}: write USER or USER:GROUP, by name or number");
    Ok(())
}

/// Prints what the program writes, passes signals on, and returns its exit code.
async fn attend(
    settings: &Settings,
    engine: &Local,
    attached: Attached,
    mut signals: Forwarded,
) -> anyhow::Result<u8> {
    let Attached { container, output, exit: exited } = attached;
    let words = |error: &Error| in_words(engine.kind(), error);
    let ended = async {
        let (printed, exited) = tokio::join!(logs::print(&settings.console, output), exited);
        if let Err(error) = printed {
            settings.console.note(&words(&error));
        }
        match exited {
            Some(Ended { code, lost }) => {
                if let Some(lost) = lost {
                    settings.console.error(&lost.to_string());
                }
                Ok(code)
            }
            // Its monitor was killed: what is written down about it is put right by whoever asks next.
            None => engine.wait(&container).await,
        }
    };
    let forwarding = async {
        let mut interrupts = 0;
        while let Some(signal) = signals.next().await {
            if matches!(signal, Signal::INT | Signal::TERM) {
                interrupts += 1;
                if interrupts == FORCED_AFTER {
                    return;
                }
            }
            match engine.signal(&container, signal).await {
                Ok(()) => {}
                // It has just ended: its exit code is on its way.
                Err(error) if error.is_not_running() || error.is_not_found() => {}
                Err(error) => settings.console.error(&words(&error)),
            }
        }
        std::future::pending::<()>().await;
    };
    let code = tokio::select! {
        code = ended => code.map_err(|error| anyhow::anyhow!(words(&error)))?,
        () = forwarding => {
            settings.console.error(FORCED);
            return Ok(exit::FAILURE);
        }
    };
    // An exit code has eight bits; what has not is not one.
    Ok(u8::try_from(code).unwrap_or(exit::USAGE))
}

/// The signals that are passed on: all that can be caught and that mean something to a program, but
///
/// * CHLD, PIPE and URG, which the kernel sends to us for our own sake,
/// * ILL, FPE, SEGV, BUS, TRAP, ABRT and SYS, which say that we are broken,
/// * TSTP, TTIN and TTOU, so that a shell can suspend us; CONT, which resumes us.
struct Forwarded(stream::SelectAll<stream::BoxStream<'static, Signal>>);

impl Forwarded {
    fn new() -> std::io::Result<Self> {
        let streams = Signal::all().filter(|signal| is_forwarded(*signal)).map(|sent| {
            let arrivals = signal(SignalKind::from_raw(i32::from(sent.number())))?;
            let arrivals = stream::unfold(arrivals, move |mut arrivals| async move {
                arrivals.recv().await.map(|()| (sent, arrivals))
            });
            Ok(arrivals.boxed())
        });
        Ok(Self(stream::select_all(streams.collect::<std::io::Result<Vec<_>>>()?)))
    }

    async fn next(&mut self) -> Option<Signal> {
        self.0.next().await
    }
}

fn is_forwarded(signal: Signal) -> bool {
    const KEPT: [&str; 16] = [
        "SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGILL", "SIGFPE", "SIGSEGV", "SIGBUS",
        "SIGTRAP", "SIGABRT", "SIGSYS", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT",
    ];
    !KEPT.contains(&&*signal.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for name in ["web", "w1", "0a", "a_b.c-d"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "w", "-web", "we b", "wéb", "a/b", "../etc", "a!", "_a"] {
            assert_eq!(
                check_name(name).unwrap_err().to_string(),
                format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
            );
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_told_so() {
        assert!(check_name(&"x".repeat(255)).is_ok());
        let why = check_name(&"x".repeat(300)).unwrap_err().to_string();
        assert_eq!(why, "Invalid container name: it has 300 characters, the longest may have 255");
    }

    #[test]
    fn users_are_one_or_two_parts() {
        for user in ["root", "1000", "1000:1000", "app:staff"] {
            assert!(check_user(user).is_ok(), "{user}");
        }
        for user in ["", ":", "a:", ":b", "a:b:c"] {
            assert!(check_user(user).is_err(), "{user}");
        }
    }

    #[test]
    fn what_the_kernel_sends_for_our_sake_is_kept() {
        assert!(is_forwarded(Signal::TERM) && is_forwarded(Signal::HUP) && is_forwarded(Signal::USR1));
        assert!(!is_forwarded(Signal::KILL) && !is_forwarded(Signal::STOP) && !is_forwarded(Signal::CONT));
        assert_eq!(Signal::all().filter(|signal| is_forwarded(*signal)).count(), 62 - 16);
    }
}
