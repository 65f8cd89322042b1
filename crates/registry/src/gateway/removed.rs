//! An instance that has registered itself where nothing can be hidden: its entry is removed while its heartbeats go on.

use std::fmt::Debug;
use std::time::Duration;

use crate::gateway::registered::which;
use crate::gateway::{Gateway, Serving};
use crate::url::Url;
use crate::{Deadline, Error, Result};

/// An entry that somebody else has made. Every call ends by its deadline.
pub(crate) trait Entry: Debug + Send {
    /// Where it stands, as its registry calls that.
    fn place(&self) -> &str;

    fn is_there(&mut self, deadline: Deadline) -> Result<bool>;

    /// `false`: there was none.
    fn remove(&mut self, deadline: Deadline) -> Result<bool>;

    /// As it was, unless it is there again.
    fn put_back(&mut self, deadline: Deadline) -> Result<()>;

    /// Consumers that watch have heard of a change within this time.
    fn settle(&self) -> Duration;
}

/// One that is removed, and put back.
#[derive(Debug)]
pub(super) struct Removed<T> {
    name: String,
    entry: T,
    is_out: bool,
    /// If it is not there, that is our affair.
    resumes: bool,
}

impl<T: Entry> Removed<T> {
    /// The URL is the registry's, and has two settings more: which instance it is.
    pub(super) fn open(url: &Url<'_>, open: impl FnOnce(&Url<'_>, &str, &str) -> Result<T>) -> Result<Self> {
        let (without, service, id) = which(url)?;
        let entry = open(&Url::parse(&without)?, &service, &id)?;
        Ok(Self { name: url.name(), entry, is_out: false, resumes: false })
    }

    fn failed(&self, why: &str) -> Error {
        let why = format!("{} {why}", self.entry.place());
        Error::Failed { registry: self.name.clone(), why }
    }
}

impl<T: Entry> Gateway for Removed<T> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn check(&mut self, deadline: Deadline) -> Result<()> {
        self.entry.is_there(deadline).map(drop)
    }

    fn resume(&mut self) {
        self.resumes = true;
    }

    fn drain(&mut self, _: &str, deadline: Deadline) -> Result<()> {
        self.is_out = self.entry.remove(deadline)?;
        if self.is_out || self.resumes { Ok(()) } else { Err(self.failed("is not there")) }
    }

    fn is_idle(&mut self, deadline: Deadline) -> Result<bool> {
        if self.entry.is_there(deadline)? {
            return Err(self.failed("was made again by its program"));
        }
        Ok(true)
    }

    /// A new program makes an entry of its own.
    fn undrain(&mut self, who: Serving, deadline: Deadline) -> Result<()> {
        let is_ours = std::mem::take(&mut self.is_out) || self.resumes;
        match who {
            Serving::TheSame if is_ours => self.entry.put_back(deadline),
            Serving::TheSame | Serving::ANewOne => Ok(()),
        }
    }

    fn settle(&self) -> Duration {
        self.entry.settle()
    }
}
