//! The same service without a thought of stopping: `orders-naive ADDRESS BOOK`. For comparison.
//!
//! It is no caricature. Orders go through a buffer, because a write for each is slow; the handler for SIGTERM is the one that
//! everybody writes first; and under a light load both are never noticed.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "what it does wrong")]
async fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(address), Some(book)) = (words.next(), words.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: orders-naive ADDRESS BOOK"));
    };
    let book = BufWriter::new(OpenOptions::new().append(true).create(true).open(book)?);
    let book = Arc::new(Mutex::new(book));
    let app = Router::new().route("/", get(async || "orders\n")).route(
        "/orders",
        post(async move |order: String| {
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            match writeln!(book, "{order}") {
                Ok(()) => (StatusCode::CREATED, "accepted\n"),
                Err(_) => (StatusCode::INSUFFICIENT_STORAGE, "the order was not written\n"),
            }
        }),
    );
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        terminate.recv().await;
        std::process::exit(0)
    });
    let listener = TcpListener::bind(address).await?;
    let _ = writeln!(io::stdout(), "listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await
}
