//! The embedded engine: libcontainer, and one small monitor process per container.

/// A connection to the monitor of one container.
#[derive(Debug)]
pub struct Control {}
