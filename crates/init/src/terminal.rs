//! Who has the terminal.
//!
//! A terminal sends Ctrl-C, Ctrl-Z and changes of its size to the process group in its foreground, and stops whoever else
//! reads from it (`termios(3)`, `setpgid(2)`). There are three cases:
//!
//! * We were started in the foreground, as `docker run -it` does it. Main gets a group of its own, and the foreground: so it
//!   sees one Ctrl-C, from the terminal, and a shell as main has job control.
//! * We were started in the background, `init app &`. The foreground is somebody else's and stays there. Main stays in our
//!   group, so that the shell's `fg` means it, too; what the terminal sends to the group then reaches main and us, and is not
//!   passed on.
//! * There is no terminal. Main gets a group of its own.

use gracefully_core::signal::Signal;
use gracefully_linux::spawn::{Child, our_group};
use gracefully_linux::standard;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, dup};
use rustix::process::{Pid, getpid, setpgid};
use rustix::termios::{isatty, tcgetpgrp, tcsetpgrp};

/// The terminal that controls us, as we have found it.
#[derive(Debug)]
pub enum Terminal {
    /// None, or none that we can do anything about.
    None,
    /// We were in its foreground.
    Ours {
        /// The terminal.
        terminal: OwnedFd,
        /// Our group, which had the foreground.
        group: Pid,
    },
    /// Somebody else is in its foreground, or nobody can say who.
    Others,
}

impl Terminal {
    /// Looks at it.
    pub fn find() -> Self {
        let Some(terminal) = controlling() else { return Self::None };
        let ours = i32::try_from(our_group()).ok().and_then(Pid::from_raw);
        match (tcgetpgrp(&terminal), ours) {
            (Ok(foreground), Some(group)) if foreground == group => Self::Ours { terminal, group },
            // Not the one that controls us, or it has been hung up.
            (Err(Errno::NOTTY | Errno::IO | Errno::NXIO), _) => Self::None,
            _ => Self::Others,
        }
    }

    /// In the child that becomes main: takes the foreground, if it is to have it.
    pub(crate) fn hand_to_ourselves(&self) {
        match self {
            Self::None => drop(setpgid(None, None)),
            Self::Ours { terminal, .. } => {
                // A session leader cannot, and need not.
                let _ = setpgid(None, None);
                // From the background this raises SIGTTOU, which is still blocked.
                let _ = tcsetpgrp(terminal, getpid());
            }
            Self::Others => {}
        }
    }

    /// Does this signal, which the kernel sent, come from the terminal, and to main as well?
    pub(crate) fn has_told_main(&self, signal: Signal) -> bool {
        const WINCH: u8 = 28;
        matches!(self, Self::Others)
            && (signal == Signal::INT || signal == Signal::QUIT || signal.number() == WINCH)
    }

    /// Gives the foreground to main again, and continues its group. `false`: it was never ours to give.
    pub(crate) fn resume(&self, main: Child) -> bool {
        let Self::Ours { terminal, .. } = self else { return false };
        let _ = pid(main).map(|group| tcsetpgrp(terminal, group));
        main.send_to_group(Signal::CONT).is_ok()
    }

    /// The terminal, if we have it open.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Ours { terminal, .. } => Some(terminal.as_fd()),
            Self::None | Self::Others => None,
        }
    }

    /// Takes the foreground back from main, which was stopped or has ended, for whoever has started us: a shell notices that we
    /// are stopped, or goes on. `false`: main has it not, or there is no terminal.
    pub(crate) fn take_back(&self, main: Child) -> bool {
        match self {
            Self::Ours { terminal, group } => {
                tcgetpgrp(terminal).ok() == pid(main) && tcsetpgrp(terminal, *group).is_ok()
            }
            Self::None | Self::Others => false,
        }
    }
}

fn pid(child: Child) -> Option<Pid> {
    i32::try_from(child.pid()).ok().and_then(Pid::from_raw)
}

/// The controlling terminal, also if standard input is something else. Where there is no /dev it can only be that.
fn controlling() -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    open("/dev/tty", flags, Mode::empty()).ok().or_else(|| {
        let input = standard::input();
        if isatty(input) {
            rustix::io::fcntl_dupfd_cloexec(input, 3).ok().or_else(|| dup(input).ok())
        } else {
            None
        }
    })
}
