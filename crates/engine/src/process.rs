//! `pid:N`: any process tree of this host.
