//! `ps`: the containers of all engines, the youngest first.

use std::cmp::Reverse;
use std::time::SystemTime;

use gracefully_core::exit;
use gracefully_engine::{Container, Error, Kind, ListOptions};

use crate::args::{EngineChoice, Ps};
use crate::display::{Truncate, json_row, short_id, table};
use crate::interrupt::Interrupts;
use crate::lookup::in_words;
use crate::settings::Settings;
use crate::template::Template;
use crate::values::Filtered;

/// What is printed.
enum Form {
    Ids,
    Table,
    Json,
    Lines(Template),
}

impl Form {
    fn of(args: &Ps) -> anyhow::Result<Self> {
        Ok(match args.format.as_str() {
            _ if args.quiet => Self::Ids,
            "" | "table" => Self::Table,
            "json" => Self::Json,
            table if table.starts_with("table ") => anyhow::bail!(
                "a table has the columns that it has: write only the fields, or leave --format out"
            ),
            text => {
                // A shell passes these on as they are typed.
                let text = text.replace(r"\t", "\t").replace(r"\n", "\n");
                let failed = |why| anyhow::anyhow!("failed to parse template: {why}");
                Self::Lines(Template::parse(&text).map_err(failed)?)
            }
        })
    }
}

pub(super) async fn ps(settings: &Settings, args: Ps) -> anyhow::Result<u8> {
    let form = Form::of(&args)?;
    if args.quiet && !["", "table"].contains(&args.format.as_str()) {
        let console = &settings.console;
        console.note("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let filters = args.filter.into_iter().filter_map(|Filtered(filter)| filter).collect();
    let options = ListOptions { all: args.all, filters };
    let mut interrupts = Interrupts::new()?;
    let containers = match interrupts.or(list(settings, &options)).await {
        Ok(containers) => containers?,
        Err(interrupt) => return Ok(interrupt.code()),
    };
    let truncate = if args.no_trunc { Truncate::No } else { Truncate::Yes };
    let now = SystemTime::now();
    let row = |(kind, container): &(Kind, Container)| json_row(*kind, container, truncate, now);
    let lines: Vec<String> = match form {
        Form::Ids => containers.iter().map(|(_, it)| short_id(&it.id, truncate).to_owned()).collect(),
        Form::Table => table(&containers, truncate, now),
        Form::Json => containers.iter().map(|it| row(it).to_string()).collect(),
        Form::Lines(template) => containers
            .iter()
            .map(|it| template.render(&row(it)))
            .collect::<Result<_, _>>()
            .map_err(|why| anyhow::anyhow!("failed to execute template: {why}"))?,
    };
    for line in lines {
        settings.console.line(&line);
    }
    Ok(exit::OK)
}

/// An engine that is not there has no containers, unless it was asked for, by name or by its address. One that is there and does not
/// answer is worth a note, because then the list is not the whole one.
async fn list(settings: &Settings, options: &ListOptions) -> anyhow::Result<Vec<(Kind, Container)>> {
    let engines = &settings.engines;
    let mut containers = Vec::new();
    for &kind in engines.listed() {
        let listed = match engines.get(kind).await {
            Ok(engine) => engine.list(options).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        match listed {
            Ok(listed) => containers.extend(listed.into_iter().map(|container| (kind, container))),
            Err(error)
                if engines.choice() != EngineChoice::Auto
                    || (kind == Kind::Docker && engines.docker_is_named())
                    || matches!(*error, Error::Filter { .. }) =>
            {
                anyhow::bail!(in_words(kind, &error))
            }
            Err(error) if matches!(*error, Error::NoDaemon { .. }) => {}
            Err(error) => settings.console.note(&in_words(kind, &error)),
        }
    }
    containers.sort_by_key(|(_, container)| Reverse(container.created));
    Ok(containers)
}
