//! The services of the demo, `examples/orders`, which are programs of their own: a web framework is nothing for a tool that stops
//! others.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::display::Console;

/// The service on the library.
pub(super) const SERVICE: &str = "orders";

/// The one without a thought of stopping.
pub(super) const NAIVE: &str = "orders-naive";

/// The directory in which they are.
pub(super) struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Where cargo puts them, or whoever has installed them. `cargo run` builds only the program that it runs; so where it runs us it
    /// is asked to build them, too.
    pub(super) fn beside_us(console: &Console) -> Option<Self> {
        let directory = std::env::current_exe().ok()?.parent()?.to_owned();
        let programs = Self { directory };
        if !programs.are_there()
            && let (Some(cargo), Some(root)) =
                (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"))
        {
            console.line("Building the services of the demo.\n");
            let profile = if programs.directory.ends_with("release") { "release" } else { "dev" };
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "--package", "orders", "--profile", profile, "--target-dir"]);
            // If it fails it has said why.
            let _ = build.arg(programs.directory.parent()?).current_dir(root).stdin(Stdio::null()).status();
        }
        programs.are_there().then_some(programs)
    }

    fn are_there(&self) -> bool {
        [SERVICE, NAIVE].iter().all(|name| self.path(name).is_file())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
