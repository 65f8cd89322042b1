//! What the Linux kernel says about processes. The crate only observes, and needs no privilege for it.
