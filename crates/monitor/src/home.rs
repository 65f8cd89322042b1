//! The container's directory, as its monitor uses it.

use alloc::ffi::CString;
use alloc::string::String;

use gracefully_linux::Errno;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;

use crate::failure::{Failure, Result};
use crate::files;
use crate::record::{self, Record};

/// The directory of one container.
#[derive(Debug)]
pub(crate) struct Home {
    id: String,
    path: CString,
    dir: OwnedFd,
}

impl Home {
    /// The directory at this path; its name is the container's id.
    pub(crate) fn open(path: CString) -> Result<Self> {
        let text = path.to_str().unwrap_or_default();
        let failed = |errno| Failure { what: "open", whom: path.to_string_lossy().into_owned(), errno };
        let id = text.rsplit('/').next().filter(|id| !id.is_empty()).ok_or(Errno::INVAL).map_err(failed)?;
        let dir = files::open_dir(CWD, text).map_err(failed)?;
        Ok(Self { id: String::from(id), dir, path })
    }

    /// 64 hexadecimal digits.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Its path, as it was given to us.
    pub(crate) fn path(&self) -> &CString {
        &self.path
    }

    /// The engine's directory.
    pub(crate) fn root(&self) -> Result<OwnedFd> {
        files::open_dir(&self.dir, "../..").map_err(self.failed("open", ".."))
    }

    /// What is written down about the container; or what is wrong with it.
    pub(crate) fn record(&self) -> Result<Record, String> {
        let text = files::read(&self.dir, record::FILE, record::LIMIT);
        let text = text.map_err(|errno| alloc::format!("{}", self.failed("read", record::FILE)(errno)))?;
        Record::parse(&text, &self.id)
    }

    /// Replaces a file atomically.
    pub(crate) fn replace(&self, name: &str, text: &[u8]) -> Result<()> {
        files::replace(&self.dir, name, text).map_err(self.failed("write", name))
    }

    fn failed(&self, what: &'static str, file: &str) -> impl FnOnce(Errno) -> Failure {
        Failure::of(what, alloc::format!("{}/{file}", self.path.to_string_lossy()))
    }
}

impl AsFd for Home {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
