//! `ps`: the containers of all engines, the youngest first.

use std::cmp::Reverse;
use std::time::SystemTime;

use gracefully_core::exit;
use gracefully_engine::{Container, Error, Kind};

use crate::args::{EngineChoice, Ps};
use crate::display::{Truncate, json_row, short_id, table};
use crate::interrupt::Interrupts;
use crate::lookup::in_words;
use crate::settings::Settings;
use crate::values::Format;

pub(super) async fn ps(settings: &Settings, args: Ps) -> anyhow::Result<u8> {
    let mut interrupts = Interrupts::new()?;
    let containers = match interrupts.or(list(settings, args.all)).await {
        Ok(containers) => containers?,
        Err(interrupt) => return Ok(interrupt.code()),
    };
    let truncate = if args.no_trunc { Truncate::No } else { Truncate::Yes };
    let console = &settings.console;
    let now = SystemTime::now();
    if args.quiet {
        for (_, container) in &containers {
            console.line(short_id(&container.id, truncate));
        }
    } else if args.format == Format::Json {
        for (kind, container) in &containers {
            console.line(&json_row(*kind, container, truncate, now).to_string());
        }
    } else {
        for row in table(&containers, truncate, now) {
            console.line(&row);
        }
    }
    Ok(exit::OK)
}

/// An engine that is not there has no containers, unless it was asked for by name. One that is there and does not
/// answer is worth a note, because then the list is not the whole one.
async fn list(settings: &Settings, all: bool) -> anyhow::Result<Vec<(Kind, Container)>> {
    let engines = &settings.engines;
    let mut containers = Vec::new();
    for &kind in engines.listed() {
        let listed = match engines.get(kind).await {
            Ok(engine) => engine.list(all).await.map_err(Into::into),
            Err(error) => Err(error),
        };
        match listed {
            Ok(listed) => containers.extend(listed.into_iter().map(|container| (kind, container))),
            Err(error) if engines.choice() != EngineChoice::Auto => anyhow::bail!(in_words(kind, &error)),
            Err(error) if matches!(*error, Error::NoDaemon { .. }) => {}
            Err(error) => settings.console.note(&in_words(kind, &error)),
        }
    }
    containers.sort_by_key(|(_, container)| Reverse(container.created));
    Ok(containers)
}
