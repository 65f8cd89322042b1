//! bench
use anyhow::{Result, bail};
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.is_empty() {
        bail!("later")
    }
    Ok(())
}
