//! Work that is finished, and a journal that is on the disk: `02_finish_what_was_begun JOURNAL`.
//!
//! Every piece of work is written to the journal, and only then said on standard output. Whenever this is stopped, `kill -9`
//! included, what it has said is in the journal.

#![expect(clippy::print_stderr, reason = "it is for people to read")]

use std::io::Write;
use std::sync::Arc;

use gracefully::durable::DurableFile;
use gracefully::{Phase, Shutdown};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let shutdown = Shutdown::install()?;
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "journal".into());
    let (journal, found) = DurableFile::open(path)?;
    eprintln!("found {} records, and cut off {} bytes", found.records, found.cut);
    let journal = Arc::new(journal);
    let process = std::process::id();

    for worker in 0..4_u64 {
        let journal = Arc::clone(&journal);
        shutdown.spawn("worker", async move |token| {
            for piece in 0_u64.. {
                if token.is_requested() {
                    break;
                }
                let record = format!("{process} {worker} {piece}");
                if let Err(error) = journal.append_async(record.as_bytes()).await {
                    eprintln!("{record}: {error}");
                    break;
                }
                // Whoever reads it may be gone.
                let _ = writeln!(std::io::stdout(), "{record}");
            }
        })?;
    }
    shutdown.on(Phase::Flush, "journal", async move |_| journal.flush_async().await);
    shutdown.wait().await.exit()
}
