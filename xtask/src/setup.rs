//! What the tests need from the system.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// A program that the tests use, and Debian's package with it.
struct Need {
    program: &'static str,
    package: &'static str,
    what_for: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        program: "dockerd",
        package: "docker.io",
        what_for: "the docker engine's tests and the reference",
    },
    Need { program: "ip", package: "iproute2", what_for: "the private dockerd's network namespace" },
    Need { program: "iptables", package: "iptables", what_for: "its published ports" },
    Need { program: "podman", package: "podman", what_for: "the docker engine's tests on Podman's socket" },
    Need { program: "busybox", package: "busybox-static", what_for: "/bin/sh in the shell-form image" },
    Need {
        program: "tini",
        package: "tini",
        what_for: "a PID 1 that waits for signals instead of handling them",
    },
    Need { program: "catatonit", package: "catatonit", what_for: "the same with signalfd" },
    Need { program: "dumb-init", package: "dumb-init", what_for: "the same with sigwait" },
    Need { program: "conmon", package: "conmon", what_for: "the bench: our monitor's memory against it" },
    Need { program: "wrk", package: "wrk", what_for: "the bench: requests for a service on the library" },
    Need { program: "setpriv", package: "util-linux", what_for: "tests without privileges" },
    Need { program: "python3", package: "python3", what_for: "a program that is stopped under load" },
    Need { program: "nginx", package: "nginx-light", what_for: "the same" },
    Need { program: "haproxy", package: "haproxy", what_for: "the same" },
    Need { program: "pip3", package: "python3-pip", what_for: "gateways that are not in Debian" },
    Need { program: "node", package: "nodejs", what_for: "the same" },
    Need { program: "gunicorn", package: "gunicorn", what_for: "the same" },
    Need { program: "etcd", package: "etcd-server", what_for: "a registry" },
    Need { program: "etcdctl", package: "etcd-client", what_for: "its own client" },
    Need { program: "java", package: "default-jre-headless", what_for: "a registry in Java" },
    Need { program: "/usr/share/java/zookeeper.jar", package: "zookeeper", what_for: "the same" },
    Need { program: "curl", package: "curl", what_for: "clients that speak TLS and HTTP/2" },
    Need { program: "openssl", package: "openssl", what_for: "a certificate for them" },
    Need {
        program: "strace",
        package: "strace",
        what_for: "what a program asks of a disk, and calls that fail",
    },
    Need { program: "mkfs.ext4", package: "e2fsprogs", what_for: "a disk that is too small" },
    Need { program: "perl", package: "perl-base", what_for: "a process in uninterruptible sleep" },
];

/// Installs what is missing if we are root on Debian; else says what is missing. Only an installation that fails is an
/// error: without a program its tests are skipped and counted.
pub(crate) fn run() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| command::find(need.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !rustix::process::geteuid().is_root() || command::find("apt-get").is_none() {
        for need in &missing {
            eprintln!("setup: {} is not installed: {}", need.program, need.what_for);
        }
        eprintln!(
            "setup: the tests that need it are skipped. To install: apt-get install {}",
            packages.join(" ")
        );
        return Ok(());
    }
    eprintln!("setup: installing {}", packages.join(" "));
    let _quiet = NoServices::while_installing()?;
    command::output(apt().args(["update", "-qq"]))?;
    command::output(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&packages))
        .context("the packages could not be installed")?;
    match NEEDS.iter().find(|need| command::find(need.program).is_none()) {
        Some(need) => bail!("{} is installed, but there is no {}", need.package, need.program),
        None => Ok(()),
    }
}

/// Programs are what we need, not services: while this is there, none of Debian's packages starts one (`invoke-rc.d(8)`).
struct NoServices;

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    /// Does nothing where the machine has a policy of its own.
    fn while_installing() -> Result<Option<Self>> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(Self::POLICY);
        match new {
            // 101: forbidden by the policy.
            Ok(mut file) => file.write_all(b"#!/bin/sh\nexit 101\n")?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error).context("no policy for services could be written"),
        }
        Ok(Some(Self))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(Self::POLICY);
    }
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
