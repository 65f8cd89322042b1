//! Holding by dropping: where the kernel has no queues. A client sends its SYN again after one second, and after two more.

use std::time::Duration;

use gracefully_core::traffic::Method;
use rustix::io::Result;

use super::{Doors, Hold, Tally};
use crate::nftables::{Table, Verdict};
use crate::target::Target;

/// New connections are dropped until the hold opens.
#[derive(Debug)]
pub(crate) struct NftDrop {
    rules: Option<Table>,
}

impl NftDrop {
    pub(super) fn new(target: &Target, doors: &Doors, at_most: Duration) -> Result<Self> {
        Ok(Self { rules: Some(doors.table(target, Verdict::Drop, at_most)?) })
    }
}

impl Hold for NftDrop {
    fn method(&self) -> Method {
        Method::NftDrop
    }

    fn turn(&mut self, _: Duration) -> Result<()> {
        Ok(())
    }

    fn open(&mut self) {
        self.rules = None;
    }

    fn let_go(&mut self, _: u32, _: Duration) -> Result<()> {
        Ok(())
    }

    /// Nobody knows.
    fn waiting(&self) -> u32 {
        0
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }
}
