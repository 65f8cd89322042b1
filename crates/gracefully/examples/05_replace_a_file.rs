//! Settings that are never half: `05_replace_a_file FILE NAME VALUE` sets one of them.
//!
//! A file that is written where it is has neither the old content nor the new one for a moment, and if that is the last
//! moment, for ever. Whenever this is stopped, `kill -9` and a power cut included, the file has one of them; when it has said
//! so, the new one.

use std::io::{self, Write};

use gracefully::durable::atomic_replace;

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let (Some(file), Some(name), Some(value)) = (words.next(), words.next(), words.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "use: 05_replace_a_file FILE NAME VALUE"));
    };
    let old = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    let others = old.lines().filter(|line| line.split_once('=').is_none_or(|(old, _)| old != name));
    let new: String = others.map(|line| format!("{line}\n")).chain([format!("{name}={value}\n")]).collect();
    atomic_replace(&file, new.as_bytes())?;
    writeln!(io::stdout(), "{name} is {value}")
}
