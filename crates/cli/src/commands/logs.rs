//! `logs`: what was written to stdout on stdout, what was written to stderr on stderr, byte for byte.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{Stream, StreamExt as _};
use gracefully_core::exit;
use gracefully_engine::{LogChunk, LogOptions, LogStream, Result};

use crate::args::Logs;
use crate::display::Console;
use crate::interrupt::Interrupts;
use crate::settings::Settings;
use crate::values::{Since, Tail};

pub(super) async fn logs(settings: &Settings, args: Logs) -> anyhow::Result<u8> {
    let mut interrupts = Interrupts::new()?;
    let Tail(tail) = args.tail;
    let options =
        LogOptions { follow: args.follow, tail, since: args.since.map(moment), timestamps: args.timestamps };
    let print = async {
        let found = settings.engines.find(&args.target).await?;
        let printed = match found.engine.logs(&found.container, &options).await {
            Ok(log) => print(&settings.console, log).await,
            Err(error) => Err(error),
        };
        printed.map_err(|error| anyhow::anyhow!(found.in_words(&error)))
    };
    match interrupts.or(print).await {
        Ok(printed) => printed.map(|()| exit::OK),
        Err(interrupt) => Ok(interrupt.code()),
    }
}

/// Prints a log until it ends or nobody reads it any more.
pub(super) async fn print(
    console: &Console,
    mut log: impl Stream<Item = Result<LogChunk>> + Unpin,
) -> Result<()> {
    while let Some(chunk) = log.next().await {
        let LogChunk { stream, bytes } = chunk?;
        match stream {
            LogStream::Stdout => console.bytes(&bytes),
            LogStream::Stderr => console.foreign_stderr(&bytes),
        }
        if console.is_broken() {
            break;
        }
    }
    Ok(())
}

fn moment(since: Since) -> SystemTime {
    match since {
        Since::Ago(ago) => SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH),
        Since::Epoch(time) => UNIX_EPOCH.checked_add(time).unwrap_or(UNIX_EPOCH),
    }
}
