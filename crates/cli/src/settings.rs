//! What the command line means on this machine.

use crate::args::Global;
use crate::display::Console;
use crate::lookup::Engines;
use crate::usage::Program;

/// What every verb is given.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) program: Program,
    pub(crate) console: Console,
    pub(crate) engines: Engines,
}

impl Settings {
    pub(crate) fn new(program: Program, global: Global) -> Self {
        Self { program, console: Console::new(global.progress), engines: Engines::new(global) }
    }
}
