//! How many records get onto the disk: `appends ours FILE SECONDS WRITERS`, or `appends raw FILE SECONDS BATCH`.
//!
//! *ours*: so many tasks, each of which waits until its record is on the disk. *raw*: one thread that writes so many records at
//! once and syncs, again and again: as fast as this disk can be with such batches. Both print records per second, and records per
//! batch.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gracefully::durable::DurableFile;
use tokio::runtime::Runtime;

/// An order, more or less.
const RECORD: [u8; 100] = [b'x'; 100];

/// What a record has besides its bytes in our file.
const HEAD: usize = 8;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [how, file, seconds, number] = &words[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let parse =
        |word: &String| word.parse::<usize>().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let limit = Duration::from_secs(parse(seconds)? as u64);
    let began = Instant::now();
    let (records, batches) = match how.as_str() {
        "ours" => ours(file.as_ref(), limit, parse(number)?)?,
        _ => raw(file.as_ref(), limit, parse(number)?)?,
    };
    let took = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "of what is measured three digits count")]
    let [rate, batch] = [records as f64 / took, records as f64 / batches as f64];
    writeln!(io::stdout(), "{rate:.1} {batch:.2}")
}

fn ours(path: &Path, limit: Duration, writers: usize) -> io::Result<(u64, u64)> {
    let (file, _) = DurableFile::open(path)?;
    let (file, over) = (Arc::new(file), Arc::new(AtomicBool::new(false)));
    let runtime = Runtime::new()?;
    let writers: Vec<_> = (0..writers)
        .map(|_| {
            let (file, over) = (Arc::clone(&file), Arc::clone(&over));
            runtime.spawn(async move {
                let mut records = 0;
                while !over.load(Ordering::Relaxed) {
                    file.append_async(&RECORD).await?;
                    records += 1;
                }
                io::Result::Ok(records)
            })
        })
        .collect();
    std::thread::park_timeout(limit);
    over.store(true, Ordering::Relaxed);
    let records = writers.into_iter().map(|writer| runtime.block_on(writer)?).sum::<io::Result<u64>>()?;
    Ok((records, file.batches()))
}

fn raw(path: &Path, limit: Duration, batch: usize) -> io::Result<(u64, u64)> {
    let mut file = File::create(path)?;
    let batch_bytes = vec![b'x'; batch * (RECORD.len() + HEAD)];
    let (began, mut batches) = (Instant::now(), 0);
    while began.elapsed() < limit {
        file.write_all(&batch_bytes)?;
        file.sync_data()?;
        batches += 1;
    }
    Ok((batches * batch as u64, batches))
}
