//! The smallest service: it waits for SIGTERM, and exits.
//!
//! ```console
//! $ cargo run --package gracefully --example 01_wait_for_sigterm
//! ```

#![expect(clippy::print_stdout, reason = "it is for people to read")]

use gracefully::Shutdown;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let shutdown = Shutdown::install()?;
    println!("Program started...");
    shutdown.requested().await;
    println!("SIGTERM received!");
    let ended = shutdown.wait().await;
    println!("Exiting...");
    ended.exit()
}
