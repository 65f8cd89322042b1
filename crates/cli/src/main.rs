//! placeholder
mod drive;
fn main() {}
