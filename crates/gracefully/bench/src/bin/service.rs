//! The routes of `examples/orders`, served by the library or by axum alone: `service ours|axum ADDRESS BOOK`.

use std::io::{self, Write};
use std::sync::Arc;

use gracefully::Shutdown;
use orders::{Orders, router};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [how, address, book] = &words[..] else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: service ours|axum ADDRESS BOOK"));
    };
    let orders = Arc::new(Orders::open(book)?);
    let listener = TcpListener::bind(address).await?;
    if how == "ours" {
        let shutdown = Shutdown::install()?;
        shutdown.serve("http", listener, router(orders, shutdown.token()))?;
        let _ = writeln!(io::stdout(), "listening on {address}");
        shutdown.wait().await.exit()
    }
    // What axum's example does. The streams have a token that is never asked.
    let unused = Shutdown::builder().without_signals().install()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let serving = axum::serve(listener, router(orders, unused.token()));
    let _ = writeln!(io::stdout(), "listening on {address}");
    serving.with_graceful_shutdown(async move { terminate.recv().await.unwrap_or_default() }).await
}
