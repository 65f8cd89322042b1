//! What `--help`, `--version` and `-l` say.

use alloc::format;
use alloc::string::String;
use core::ffi::CStr;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `--version`. Whoever calls us by the name of tini's wants its version: `docker info` looks for these words (moby,
/// `parseInitVersion`).
pub fn version(name: Option<&CStr>) -> String {
    let name = name.map_or(&b""[..], CStr::to_bytes);
    let name = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    match name {
        b"docker-init" | b"tini" | b"tini-static" => format!("tini version {VERSION} - gracefully-init\n"),
        _ => format!("gracefully-init {VERSION}\n"),
    }
}

/// `-l`
pub const LICENSE: &str =
    "gracefully-init may be used under the MIT license or the Apache License, Version 2.0.\n";

/// `--help`
pub const HELP: &str = "\
Runs a program as PID 1 of a container should: passes signals on, reaps orphans, and ends when everybody has ended.

Usage: gracefully-init [OPTIONS] [--] COMMAND [ARGUMENT…]
       gracefully-init status [PID]

The stop, which SIGTERM begins:
  --grace TIME           the whole stop may take so long (GRACEFULLY_GRACE); what is left is killed shortly before.
                         Not said: 10s are planned for, and killing is left to the engine
  --stop-signal S[,S]    what main gets instead of SIGTERM, and then, when its time is up (GRACEFULLY_STOP_SIGNAL)
  --settle TIME|auto     first wait until no new connection comes (GRACEFULLY_SETTLE)
  --drain auto|PORT,…    then wait until no request is under way (GRACEFULLY_DRAIN)
  --on-stop COMMAND      run this first; repeatable; a JSON array is executed without a shell
  --hook-limit TIME      the commands that follow may take so long each
  --sidecar COMMAND      runs beside main, and is stopped before main is drained
  --sidecar-after start|listen  start sidecars at once, or when main listens
  --sync PATH            write the file system of PATH to the disk at the end
A second SIGTERM ends the waiting for connections.

The end:
  -e CODE                exit with 0 instead of CODE
  --map-exit N=M         exit with M instead of N after a stop that was asked for
  --clean-exit           the same as --map-exit 143=0 --map-exit 130=0 (GRACEFULLY_CLEAN_EXIT=1)
  --wait-all             go on when main has ended, until nobody is left
  --report FILE          write how it ended there, as JSON of at most 4096 bytes (GRACEFULLY_REPORT)

Signals:
  -g, --group            pass signals on to the process group of main (TINI_KILL_PROCESS_GROUP)
  -r, --rewrite S:S      pass the second on for the first; 0: nothing
  -p SIGNAL              the kernel sends us this when our parent ends

  -v                     say more; repeatable (TINI_VERBOSITY)
  -w                     say which orphans were reaped
  -s, -c                 nothing: always so (subreaper, signals to main alone)
  -h, --help   -V, --version   -l

status tells what the init with this PID (1 if not said) is doing, as JSON.
Exit code: main's, 128+n if signal n ended it, 127 and 126 if the command is not there or not executable, else 1.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_info_finds_the_words_that_it_looks_for() {
        for name in [c"/usr/bin/docker-init", c"docker-init", c"/sbin/tini"] {
            assert!(version(Some(name)).starts_with("tini version 0."), "{name:?}");
        }
        assert!(version(Some(c"/gracefully-init")).starts_with("gracefully-init 0."));
        assert!(version(None).starts_with("gracefully-init 0."));
    }

    #[test]
    fn help_fits_a_terminal() {
        assert!(HELP.lines().all(|line| line.chars().count() <= 120));
    }
}
