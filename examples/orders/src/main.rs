//! An order service that loses no order and no request, however it is stopped.
//!
//! ```console
//! $ orders serve 127.0.0.1:8080 /var/lib/orders/book --register file:///run/services
//! $ orders list /var/lib/orders/book
//! ```
//!
//! `--register` tells a registry of it while it serves.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gracefully::durable::DurableFile;
use gracefully::registry::Instance;
use gracefully::{Phase, Shutdown};
use orders::{Orders, router};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// An order that was acknowledged before it was written is written within this time.
const WRITTEN_WITHIN: Duration = Duration::from_millis(200);

const USAGE: &str = "usage: orders serve ADDRESS BOOK [--register URL] | orders list BOOK";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", address, book] => serve(address, book.as_ref(), None),
        ["serve", address, book, "--register", url] => serve(address, book.as_ref(), Some(url)),
        ["list", book] => list(book.as_ref()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "orders: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(address: &str, book: &Path, registry: Option<&str>) -> io::Result<()> {
    let shutdown = Shutdown::install()?;
    let orders = Arc::new(Orders::open(book).map_err(|error| named(book, &error))?);
    let listener = TcpListener::bind(address).await.map_err(|error| named(address.as_ref(), &error))?;
    let address = listener.local_addr()?;

    let app = router(Arc::clone(&orders), shutdown.token()).route_service("/readyz", shutdown.readiness());
    shutdown.serve("http", listener, app)?;
    let book = Arc::clone(&orders);
    shutdown.spawn("early orders", async move |token| {
        while timeout(WRITTEN_WITHIN, token.requested()).await.is_err() {
            // An error is told to whoever orders next, and to the report.
            let _ = book.flush().await;
        }
    })?;
    shutdown.on(Phase::Flush, "book", async move |_| orders.flush().await);
    if let Some(url) = registry {
        let instance = Instance::new("orders", &address.ip().to_string(), address.port());
        shutdown.register(url, instance).await?;
    }
    // Whoever has started us waits for this line, or does not read at all.
    let _ = writeln!(io::stdout(), "listening on {address}");
    shutdown.wait().await.exit()
}

/// Every order of a book that nobody is writing, as a line.
fn list(book: &Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for order in DurableFile::read(book).map_err(|error| named(book, &error))? {
        out.write_all(&order)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn named(what: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", what.display()))
}
