//! How the program is linked.

fn main() {
    gracefully_link::link("gracefully-init");
}
