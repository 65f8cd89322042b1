//! The verbs, one file each.

mod demo;
mod inspect;
mod kill;
mod logs;
mod pages;
mod ps;
mod register;
mod rm;
mod run;
mod stop;
mod wait;

pub(crate) use self::register::{Check, resume};
use gracefully_core::exit;
use gracefully_core::signal::Signal;

use crate::args::{Plugin, Verb};
use crate::interrupt::Interrupts;
use crate::parallel::{AT_ONCE, in_order};
use crate::settings::Settings;
use crate::{plugin, usage};

/// Does what was asked and returns the exit code. An error is for stderr, with exit code 1.
pub(crate) fn execute(settings: &Settings, verb: Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Run(args) => wait_for(run::run(settings, args)),
        Verb::Stop(args) => wait_for(stop::stop(settings, args)),
        Verb::Restart(args) => wait_for(stop::restart(settings, args)),
        Verb::Kill(args) => wait_for(kill::kill(settings, args)),
        Verb::Register(args) => register::register(settings, &args),
        Verb::Wait(args) => wait_for(wait::wait(settings, args)),
        Verb::Ps(args) => wait_for(ps::ps(settings, args)),
        Verb::Logs(args) => wait_for(logs::logs(settings, args)),
        Verb::Inspect(args) => wait_for(inspect::inspect(settings, args)),
        Verb::Rm(args) => wait_for(rm::rm(settings, args)),
        Verb::Demo(args) => wait_for(demo::demo(settings, args)),
        Verb::Version => {
            settings.console.line(usage::version().trim_end());
            Ok(exit::OK)
        }
        Verb::Plugin(Plugin::Install) => plugin::install(settings),
        Verb::Plugin(Plugin::Uninstall) => plugin::uninstall(settings),
        Verb::Completions { shell } => Ok(pages::completions(settings, shell)),
        Verb::Man { directory } => pages::man(settings, &directory),
    }
}

/// Runs a verb that has to wait for something. One thread is enough: the work is done elsewhere.
pub(crate) fn wait_for(verb: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(verb);
    // Whoever is still looking up a name is not waited for.
    runtime.shutdown_background();
    result
}

/// Does `work` for every target, at most 50 at once, and prints what each comes to in the order of the targets;
/// errors at the end.
async fn each(
    settings: &Settings,
    targets: &[String],
    work: impl AsyncFn(&str) -> Result<Option<String>, String>,
) -> anyhow::Result<u8> {
    let mut interrupts = Interrupts::new()?;
    let mut failures = Failures::default();
    let jobs = targets.iter().map(|target| work(target));
    let all = in_order(jobs, AT_ONCE, |_, result| match result {
        Ok(line) => line.iter().for_each(|line| settings.console.line(line)),
        Err(why) => failures.add(why),
    });
    match interrupts.or(all).await {
        Ok(()) => Ok(failures.tell(settings)),
        Err(interrupt) => Ok(interrupt.code()),
    }
}

/// What went wrong, told at the end.
#[derive(Debug, Default)]
struct Failures(Vec<String>);

impl Failures {
    fn add(&mut self, why: String) {
        self.0.push(why);
    }

    /// Prints them and returns the exit code that they make.
    fn tell(&self, settings: &Settings) -> u8 {
        if self.0.is_empty() {
            return exit::OK;
        }
        settings.console.error(&self.0.join("\n"));
        exit::FAILURE
    }
}

/// `-s`, where the empty text is the default, as with docker.
fn signal(text: Option<&str>) -> anyhow::Result<Option<Signal>> {
    Ok(text.filter(|text| !text.is_empty()).map(str::parse).transpose()?)
}

#[cfg(test)]
mod tests;
