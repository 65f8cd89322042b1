//! The same program in the two forms that a Dockerfile's CMD can have, and what a stop makes of each.

use std::path::Path;

use gracefully_core::policy::Request;
use gracefully_core::report::Report;

use super::{Stage, tell, word};
use crate::settings::Settings;

pub(super) async fn show(settings: &Settings, stage: &Stage) -> anyhow::Result<()> {
    let console = &settings.console;
    console.line("The same program as PID 1 of two containers; both get SIGTERM and 3 seconds.\n");
    let mut rows = Vec::new();
    for form in [Form::Exec, Form::Shell] {
        let command = form.command(&stage.program("seed"));
        console.line(&format!("{} form   CMD {}", form.name(), serde_json::to_string(&command)?));
        let ended = run_and_stop(settings, stage, form, command).await?;
        for line in ended.log.lines() {
            console.line(&format!("  log     {line}"));
        }
        tell(console, &ended.report);
        console.line("");
        rows.push(ended.row(form));
    }
    console.line(&format!("{:<12} {:<24} {:<28} {}", "", "the program saw SIGTERM", "it ended by", "after"));
    for row in rows {
        console.line(&row);
    }
    Ok(())
}

async fn run_and_stop(
    settings: &Settings,
    stage: &Stage,
    form: Form,
    command: Vec<String>,
) -> anyhow::Result<Ended> {
    let name = format!("{}-form", form.name());
    let container = stage.run(&name, command, "Program started...\n").await?;
    let report = stage.stop(settings, &name, &container, Request::default()).await?;
    Ok(Ended { log: stage.log(&container).await?, report })
}

/// How a Dockerfile's CMD names its command.
#[derive(Clone, Copy)]
enum Form {
    /// `CMD ["seed"]`: the program is PID 1.
    Exec,
    /// `CMD seed; true`: a shell is PID 1, and the program its child.
    Shell,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Shell => "shell",
        }
    }

    fn command(self, program: &Path) -> Vec<String> {
        let program = word(program);
        match self {
            Self::Exec => vec![program],
            // With a second command the shell cannot simply become the program, as some do.
            Self::Shell => vec!["/bin/sh".into(), "-c".into(), format!("{program}; true")],
        }
    }
}

/// One program's end.
struct Ended {
    log: String,
    report: Report,
}

impl Ended {
    /// A row of the closing table.
    fn row(&self, form: Form) -> String {
        let saw = if self.log.contains("SIGTERM received!") { "yes" } else { "no" };
        let exit = self.report.exit.map_or_else(String::new, |exit| exit.to_string());
        let took = self.report.took.as_secs_f64();
        format!("{:<12} {saw:<24} {exit:<28} {took:.3} s", format!("{} form", form.name()))
    }
}
