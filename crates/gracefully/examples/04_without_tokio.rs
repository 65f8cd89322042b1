//! A program without a runtime: a flag between two pieces of work, and a file that is on the disk: `04_without_tokio JOURNAL`.

use std::io::{self, Write};
use std::time::Duration;

use gracefully::blocking::Stop;
use gracefully::durable::DurableFile;

fn main() -> io::Result<()> {
    let stop = Stop::install()?;
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "journal".into());
    let (journal, _) = DurableFile::open(path)?;
    for piece in 0_u64.. {
        journal.append(format!("piece {piece}").as_bytes())?;
        // Whoever reads it may be gone.
        let _ = writeln!(io::stdout(), "piece {piece}");
        if stop.wait_timeout(Duration::from_millis(100)) {
            break;
        }
    }
    journal.close()
}
