//! What can go wrong with an engine, in docker's words where docker has some.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens at the daemon's address.
    #[error("Cannot connect to the Docker daemon at {address}. Is the docker daemon running?")]
    NoDaemon {
        /// The address as the user would write it.
        address: String,
    },

    /// The daemon's socket may not be opened.
    #[error(
        "permission denied while trying to connect to the Docker daemon at {address}: run it as root or join the group that owns the socket"
    )]
    SocketPermission {
        /// The address as the user would write it.
        address: String,
    },

    /// The daemon refused. The text is the daemon's own.
    #[error("Error response from daemon: {message}")]
    Daemon {
        /// The HTTP status.
        status: u16,
        /// What the daemon said.
        message: String,
    },

    /// The connection broke or the answer made no sense; what became of the order is unknown.
    #[error("lost the Docker daemon at {address}: {why}")]
    Lost {
        /// The address as the user would write it.
        address: String,
        /// What broke.
        why: String,
    },

    /// Where the daemon is cannot be told: a flag, a variable or a file of the docker CLI's makes no sense.
    #[error("{why}")]
    Endpoint {
        /// What is wrong, in docker's words where it has some.
        why: String,
    },

    /// No answer in time.
    #[error("no answer from {who} within {} s", .after.as_secs())]
    Timeout {
        /// The address or the process that did not answer.
        who: String,
        /// How long we waited.
        after: Duration,
    },

    /// There is no such container.
    #[error("No such container: {name}")]
    NotFound {
        /// The name as typed.
        name: String,
    },

    /// Several containers begin with this identifier.
    #[error("Multiple IDs found with provided prefix: {prefix}")]
    Ambiguous {
        /// The beginning as typed.
        prefix: String,
    },

    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name asked for.
        name: String,
        /// Who has it.
        id: String,
    },

    /// The name has characters that a name cannot have.
    #[error("invalid container name ({name}): a name matches [a-zA-Z0-9][a-zA-Z0-9_.-]+")]
    InvalidName {
        /// The name asked for.
        name: String,
    },

    /// The order needs a running container.
    #[error("Container {id} is not running")]
    NotRunning {
        /// The container.
        id: String,
    },

    /// The order needs a container that is not running.
    #[error(
        "cannot remove container \"{name}\": container is running: stop the container before removing or force remove"
    )]
    Running {
        /// The container.
        name: String,
    },

    /// A list cannot be filtered so.
    #[error("{why}")]
    Filter {
        /// Which filter, and what is wrong with it.
        why: String,
    },

    /// The engine cannot do this.
    #[error("{what}")]
    Unsupported {
        /// What cannot be done, and what to do instead.
        what: String,
    },

    /// The kernel does not allow it, or we do not do it because it would hit ourselves.
    #[error("{what}")]
    Refused {
        /// What is refused, why, and what to do.
        what: String,
    },

    /// The program could not be started.
    #[error("{message}")]
    Start {
        /// 125, 126 or 127 (see `gracefully_core::exit`).
        code: u8,
        /// What failed.
        message: String,
    },

    /// A container's state on the disk cannot be used.
    #[error("the state of container {id} in {} cannot be used: {why}", .path.display())]
    State {
        /// The container.
        id: String,
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// A file operation failed.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// The verb: "read", "create".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },

    /// A system call failed.
    #[error("{what} failed")]
    System {
        /// What was tried.
        what: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// What Docker (older and newer) and Podman say about a beginning that fits several containers.
const AMBIGUOUS: [&str; 3] =
    ["Multiple IDs found", "multiple IDs found", "more than one result for container"];

impl Error {
    /// Is there no such container? Docker's refusals keep the daemon's text ([`Error::Daemon`]), so that they print
    /// as the docker CLI prints them; this tells what they mean. Podman says so with status 500 if the container is
    /// removed while it looks.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Daemon { status: 404, .. } => !self.is_ambiguous(),
            Self::Daemon { status: 500, message } => message.ends_with(": no such container"),
            _ => false,
        }
    }

    /// Do several containers begin with this identifier? Which status says so depends on the daemon's version.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Ambiguous { .. } => true,
            Self::Daemon { message, .. } => AMBIGUOUS.iter().any(|text| message.contains(text)),
            _ => false,
        }
    }

    /// Is the container not running? Podman says so with status 500 and its own text.
    pub fn is_not_running(&self) -> bool {
        match self {
            Self::NotRunning { .. } => true,
            Self::Daemon { status: 409, message } => message.contains("is not running"),
            Self::Daemon { status: 500, message } => message.contains("can only kill running containers"),
            _ => false,
        }
    }
}
