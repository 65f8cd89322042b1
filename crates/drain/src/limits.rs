//! What cannot be done here, why, and what would help: for people.

use std::fmt;

use gracefully_core::traffic::Method;
use rustix::io::Errno;

/// Where it is described how to get the rights that are missing.
const RIGHTS: &str = "Run gracefully as root, or as docs/how-it-works.md describes under \"Rights\".";

/// Something that cannot be done with the connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is not done, and why not.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
}

impl Limit {
    /// The connections cannot be looked at.
    pub(crate) fn watch(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::right(
                "Its connections cannot be looked at, so nothing waits for them: that needs CAP_SYS_ADMIN and CAP_SYS_PTRACE",
            ),
            Errno::NOENT | Errno::SRCH => Self::plain("Its connections cannot be looked at: it has ended"),
            errno => Self::plain(&format!("Its connections cannot be looked at: {errno}")),
        }
    }

    /// New connections cannot be kept waiting.
    pub(crate) fn hold(tried: &[(Method, Errno)]) -> Self {
        if tried.iter().all(|(_, errno)| matches!(*errno, Errno::PERM | Errno::ACCESS)) {
            return Self::right(
                "New connections are not held, so clients may be refused: that needs CAP_NET_ADMIN",
            );
        }
        let reasons: Vec<_> = tried.iter().map(|(method, errno)| format!("{method}: {errno}")).collect();
        Self::plain(&format!("New connections are not held ({})", reasons.join("; ")))
    }

    /// New connections cannot be refused.
    pub(crate) fn refuse(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::right(
                "New connections are not refused during the drain, so it may not end early: that needs CAP_NET_ADMIN",
            ),
            errno => Self::plain(&format!("New connections are not refused during the drain: {errno}")),
        }
    }

    /// Idle connections cannot be closed.
    pub(crate) fn freeze(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::right(
                "Idle keep-alive connections are left to the program, so a request on one of them may be cut: closing them \
                 needs CAP_BPF and CAP_SYS_PTRACE",
            ),
            errno => Self::plain(&format!(
                "Idle keep-alive connections are left to the program, so a request on one of them may be cut: {errno}"
            )),
        }
    }

    /// The kernel refused something that it usually does.
    pub(crate) fn system(errno: Errno) -> Self {
        Self::plain(&format!("Its connections cannot be looked after: {errno}"))
    }

    fn right(message: &str) -> Self {
        Self { message: format!("{message}."), hint: Some(RIGHTS.to_owned()) }
    }

    fn plain(message: &str) -> Self {
        Self { message: format!("{message}."), hint: None }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " {hint}"))
    }
}

impl std::error::Error for Limit {}
