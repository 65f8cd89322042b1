//! The program of [`hello::serve`]: `hello [ADDRESS]`.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    match hello::serve(&address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "hello: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}
