//! An instance that has registered itself: hidden from consumers, while its own heartbeats go on.

use std::time::Duration;

use crate::gateway::Gateway;
use crate::url::Url;
use crate::{Deadline, Instance, Registry, Result, open};

/// One instance in a registry that can hide it.
#[derive(Debug)]
pub(crate) struct Registered {
    name: String,
    registry: Box<dyn Registry>,
    is_drained: bool,
    /// If it is hidden already, that is our affair.
    resumes: bool,
}

impl Registered {
    /// The URL is the registry's, and has two settings more: which instance it is.
    pub(crate) fn open(url: &Url<'_>) -> Result<Self> {
        let (service, without_service) = url.without("service");
        let rest = Url::parse(&without_service)?;
        let (id, without_id) = rest.without("id");
        let (Some(service), Some(id)) = (service, id) else {
            return Err(url.error("service=NAME and id=ID say which instance it is"));
        };
        let mut registry = open(&without_id)?;
        if !registry.adopt(&Instance { id: id.to_owned(), ..Instance::new(service, "", 0) }) {
            return Err(url.error("it cannot hide what others have registered"));
        }
        Ok(Self { name: url.name(), registry, is_drained: false, resumes: false })
    }
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
        }
        Ok(())
    }

    fn is_idle(&mut self, deadline: Deadline) -> Result<bool> {
        Ok(!self.registry.is_visible(deadline)?)
    }

    fn undrain(&mut self, deadline: Deadline) -> Result<()> {
        if std::mem::take(&mut self.is_drained) {
            self.registry.undrain(deadline)?;
        }
        Ok(())
    }

    fn settle(&self) -> Duration {
        self.registry.hints().settle
    }
}
