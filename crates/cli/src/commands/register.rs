//! `register`: keeps a program in service discovery, from when it is ready until it is about to be stopped.
//!
//! Alone it is a **sidecar**, of `gracefully-init --sidecar` for one: asked to end, it leaves the registries, waits until their consumers
//! have heard of it, and exits; then the program is stopped by whoever stops it.
//!
//! With a **command** it starts the program itself. Asked to end, it walks a whole stop on it ([`drive`](crate::drive)): leave, settle, drain,
//! and only then pass the signal on. If the program ends by itself it is taken out at once, which is the other thing that nobody else does in
//! time: a registry hears of a crash only when a time to live is over.
//!
//! Until it is asked to end this is a thread that waits for news ([`agent`]); it needs no runtime. It stays as long as its program, and there is
//! one for each: so when the command line is understood, this process executes itself again, without what understanding it took, which is
//! a third of its memory.

mod agent;
mod check;
mod places;
mod program;
mod settle;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use gracefully_core::exit;
use gracefully_core::policy::{Timeout, Within};
use gracefully_registry::Instance;
use serde::{Deserialize, Serialize};

pub(crate) use self::check::Check;
use crate::args::{ProgressChoice, Register};
use crate::display::Console;
use crate::settings::Settings;

/// The command line, understood.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Spec {
    urls: Vec<String>,
    id: Option<String>,
    service: String,
    address: String,
    port: u16,
    metadata: BTreeMap<String, String>,
    check: Check,
    settle: Within,
    budget: Option<Timeout>,
    command: Vec<String>,
    progress: ProgressChoice,
}

/// Where a [`Spec`] is from one execution of this program to the next. Its own programs do not get it.
const SPEC: &str = "GRACEFULLY_REGISTER";

pub(super) fn register(settings: &Settings, args: &Register) -> anyhow::Result<u8> {
    let budget = match budget(args) {
        Ok(budget) => budget,
        Err(why) => {
            settings.console.error(&format!("{why:#}"));
            return Ok(exit::USAGE);
        }
    };
    let spec = Spec {
        urls: args.urls.clone(),
        id: args.id.clone(),
        service: args.service.clone(),
        address: args.address.clone().unwrap_or_else(|| places::our_address(&args.urls)),
        port: args.port,
        metadata: args.metadata.iter().cloned().collect(),
        check: args.check.clone().unwrap_or(Check::Tcp),
        settle: args.settle.unwrap_or(Within::Budget),
        budget,
        command: args.command.clone(),
        progress: settings.console.choice(),
    };
    let mut words = std::env::args_os();
    let mut again = Command::new("/proc/self/exe");
    again.arg0(words.next().unwrap_or_default()).args(words);
    // It returns only if it fails, and then it goes without.
    let _ = again.env(SPEC, serde_json::to_string(&spec)?).exec();
    Ok(run(&settings.console, &spec))
}

/// What cannot be begun was asked for wrongly.
fn run(console: &Console, spec: &Spec) -> u8 {
    agent::run(console, spec).unwrap_or_else(|error| {
        console.error(&format!("{error:#}"));
        exit::USAGE
    })
}

/// The second execution; `None` if this is none.
pub(crate) fn resume() -> Option<ExitCode> {
    let spec: Spec = serde_json::from_str(&std::env::var(SPEC).ok()?).ok()?;
    let console = Console::new(spec.progress);
    let code = run(&console, &spec);
    Some(ExitCode::from(console.conclude(code)))
}

impl Spec {
    fn instance(&self) -> Instance {
        let made = Instance::new(&self.service, &self.address, self.port);
        Instance { id: self.id.clone().unwrap_or(made.id), metadata: self.metadata.clone(), ..made }
    }
}

/// `-t`, else `GRACEFULLY_GRACE`, else nobody has said.
fn budget(args: &Register) -> anyhow::Result<Option<Timeout>> {
    if args.timeout.is_some() {
        return Ok(args.timeout);
    }
    let Ok(text) = std::env::var("GRACEFULLY_GRACE") else { return Ok(None) };
    let parsed = crate::values::timeout(&text).map_err(anyhow::Error::msg);
    parsed.map(Some).with_context(|| format!("GRACEFULLY_GRACE={text}"))
}
