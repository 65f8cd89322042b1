//! What did not work, in words.

use alloc::string::String;
use core::fmt;

use gracefully_linux::Errno;
use gracefully_linux::errno::Described;

/// A result of this crate.
pub type Result<T, E = Failure> = core::result::Result<T, E>;

/// Something that was tried, and the kernel's reason why it did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The verb: "read", "create".
    pub what: &'static str,
    /// The file, or what else it was about.
    pub whom: String,
    /// The reason.
    pub errno: Errno,
}

impl Failure {
    /// For `map_err`.
    pub fn of(what: &'static str, whom: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        move |errno| Self { what, whom: whom.into(), errno }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.what, self.whom, Described(self.errno))
    }
}

impl core::error::Error for Failure {}
