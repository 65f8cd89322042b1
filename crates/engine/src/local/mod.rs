//! The embedded engine: libcontainer, and one small monitor process per container.

use gracefully_core::event::Progress;
use gracefully_core::policy::Request;
use gracefully_core::report::Report;

use crate::{Error, Result};

/// A connection to the monitor of one container.
#[derive(Debug)]
pub struct Control {}

impl Control {
    /// Has the monitor stop its container.
    #[expect(clippy::unused_async, reason = "placeholder")]
    pub async fn stop(self, _: &Request, _: &mut (dyn FnMut(Progress) + Send)) -> Result<Report> {
        Err(Error::Unsupported { what: "placeholder".into() })
    }
}
