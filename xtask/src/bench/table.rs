//! The table, in Markdown.

use std::fs;

use anyhow::Result;

use super::sample::{Samples, quantile};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    what: &'static str,
    samples: Samples,
    goal: Goal,
    theirs: &'static str,
    ours: &'static str,
}

#[derive(Debug)]
enum Goal {
    /// At most this part of theirs.
    Ratio(f64),
    /// At most this many milliseconds.
    Limit(f64),
}

impl Row {
    /// Ours divided by theirs is to be at most `goal`.
    pub(crate) fn ratio(what: &'static str, samples: Samples, goal: f64) -> Self {
        Self { what, samples, goal: Goal::Ratio(goal), theirs: "", ours: "" }
    }

    /// Ours is to be at most `goal` milliseconds.
    pub(crate) fn limit(what: &'static str, samples: Samples, goal: f64) -> Self {
        Self { what, samples, goal: Goal::Limit(goal), theirs: "", ours: "" }
    }

    /// What was typed.
    pub(crate) fn commands(mut self, theirs: &'static str, ours: &'static str) -> Self {
        (self.theirs, self.ours) = (theirs, ours);
        self
    }

    fn line(&self) -> String {
        let ours = quantile(&self.samples.ours, 0.5);
        let (goal, value, reached) = match self.goal {
            Goal::Ratio(goal) => {
                let ratio = ours / quantile(&self.samples.theirs, 0.5);
                (
                    format!("≤ {goal:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
                    format!("{ratio:.3}"),
                    ratio <= goal,
                )
            }
            Goal::Limit(goal) => (format!("≤ {goal} ms"), format!("{ours:.2} ms"), ours <= goal),
        };
        format!(
            "| {} | {} | {} | {value} | {goal} | {} | {} |\n",
            self.what,
            spread(&self.samples.theirs),
            spread(&self.samples.ours),
            if reached { "yes" } else { "**no**" },
            self.samples.ours.len(),
        )
    }
}

/// `median (p10–p90)`
pub(super) fn spread(samples: &[f64]) -> String {
    if samples.is_empty() {
        return "–".to_string();
    }
    let [low, middle, high] = [0.1, 0.5, 0.9].map(|part| quantile(samples, part));
    format!("{middle:.1} ({low:.1}–{high:.1})")
}

/// The whole page.
pub(crate) fn page(rows: &[Row], sections: &str, versions: &str) -> Result<String> {
    let mut page = String::from(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench --write`. Both sides of a line were measured in the same run, in pairs, in random\n\
         order; milliseconds (kB where it says so): median (10th–90th percentile). The value is the ratio of the medians,\n\
         ours to theirs, or our median where there is nothing to compare with.\n\n",
    );
    page += &lines(rows);
    page += sections;
    page += &commands(rows);
    page += &format!("\n## Machine\n\n{}\n{versions}", machine()?);
    Ok(page)
}

/// What was measured.
pub(super) fn lines(rows: &[Row]) -> String {
    let mut text = String::from(
        "| what | theirs | ours | value | goal | reached | pairs |\n|---|---|---|---|---|---|---|\n",
    );
    text.extend(rows.iter().map(Row::line));
    text
}

/// What was typed for it.
pub(super) fn commands(rows: &[Row]) -> String {
    let mut text = String::from("\n## Commands\n\n| what | theirs | ours |\n|---|---|---|\n");
    for row in rows {
        text += &format!("| {} | `{}` | `{}` |\n", row.what, row.theirs, row.ours);
    }
    text
}

/// The machine, and what else it did.
pub(super) fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(format!(
        "{cores} × {}, Linux {}; load average at the end: {}.",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    ))
}
