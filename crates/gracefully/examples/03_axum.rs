//! An HTTP service on axum: `03_axum [ADDRESS]`.
//!
//! On SIGTERM it goes on serving for a moment, so that load balancers and clients that keep their connections turn elsewhere, then
//! finishes what it has begun.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use gracefully::Shutdown;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let shutdown = Shutdown::builder().settle(Duration::from_secs(2)).install()?;
    let app = Router::new().route("/", get(async || "hello\n"));
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    shutdown.serve("http", TcpListener::bind(address).await?, app)?;
    shutdown.wait().await.exit()
}
