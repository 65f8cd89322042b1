//! Tests that cannot run here are skipped visibly: see [`skip`].

#[path = "../../../../../xtask/skip.rs"]
mod counted;

pub(crate) use self::counted::skip;

/// Why a test cannot run here.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);
