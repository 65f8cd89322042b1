//! An instance that has registered itself: hidden from consumers, while its own heartbeats go on.

use std::time::Duration;

use crate::gateway::{Gateway, Serving};
use crate::url::{Url, unescaped};
use crate::{Deadline, Error, Instance, Registry, Result, open};

/// One instance in a registry that can hide it.
#[derive(Debug)]
pub(super) struct Registered {
    name: String,
    registry: Box<dyn Registry>,
    is_drained: bool,
    /// If it is hidden already, that is our affair.
    resumes: bool,
}

impl Registered {
    /// The URL is the registry's, and has two settings more: which instance it is.
    pub(super) fn open(url: &Url<'_>) -> Result<Self> {
        let (without, service, id) = which(url)?;
        let mut registry = open(&without)?;
        registry.adopt(&Instance { id, ..Instance::new(&service, "", 0) }).map_err(|why| url.error(why))?;
        Ok(Self { name: url.name(), registry, is_drained: false, resumes: false })
    }
}

/// Which instance a URL is about: the URL without that, its service, its id.
pub(super) fn which(url: &Url<'_>) -> Result<(String, String, String)> {
    let (service, without_service) = url.without("service");
    let rest = Url::parse(&without_service)?;
    let (Some(service), (Some(id), without)) = (service, rest.without("id")) else {
        return Err(url.error("service=NAME and id=ID say which instance it is"));
    };
    Ok((without, unescaped(service), unescaped(id)))
}

impl Gateway for Registered {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn check(&mut self, deadline: Deadline) -> Result<()> {
        // Whether it is found now is its own affair; it has to be possible to ask.
        self.registry.is_visible(deadline).map(drop)
    }

    fn resume(&mut self) {
        self.resumes = true;
    }

    fn drain(&mut self, reason: &str, deadline: Deadline) -> Result<()> {
        // One that nobody finds was hidden by somebody else, or is ill.
        if self.resumes || self.registry.is_visible(deadline)? {
            self.is_drained = self.registry.drain(reason, deadline)?;
            if !self.is_drained {
                let why = "it does not hide what is registered".into();
                return Err(Error::Failed { registry: self.name.clone(), why });
            }
        }
        Ok(())
    }

    fn is_idle(&mut self, deadline: Deadline) -> Result<bool> {
        Ok(!self.registry.is_visible(deadline)?)
    }

    /// It is hidden by its name, whoever bears that.
    fn undrain(&mut self, _: Serving, deadline: Deadline) -> Result<()> {
        if std::mem::take(&mut self.is_drained) {
            self.registry.undrain(deadline)?;
        }
        Ok(())
    }

    /// Whoever registers by this name later would be hidden, too.
    fn forget(&mut self, deadline: Deadline) -> Result<()> {
        if std::mem::take(&mut self.is_drained) {
            self.registry.deregister(deadline)?;
        }
        Ok(())
    }

    fn settle(&self) -> Duration {
        self.registry.hints().settle
    }
}
