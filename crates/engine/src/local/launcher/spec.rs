//! The container as an OCI runtime specification.
//!
//! Without `--rootfs` its root is the host's, with everything mounted below it: a recursive bind mount that libcontainer
//! makes inside the container's own mount namespace, so that the host's table of mounts does not change. The kernel's
//! own file systems are fresh: /proc because it must show the new PID namespace, /dev because libcontainer replaces
//! device nodes in it, /dev/shm and /dev/mqueue because they belong to the IPC namespace.
//!
//! The network is the host's. libcontainer's defaults that take something away from root (capabilities, a limit of
//! 1,024 open files, masked paths) are undone: the program may what it may without us.

use std::path::PathBuf;

use gracefully_monitor::cgroup;
use gracefully_monitor::record::Record;
use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    LinuxBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};
use rustix::system::uname;

use crate::local::home::Home;

use super::user::User;

/// As whom the launcher makes the container.
#[derive(Debug)]
pub(super) enum Surroundings {
    /// As root of the host.
    Root,
    /// As root of a user namespace in which nobody else exists.
    OwnUserNamespace,
}

pub(super) fn build(
    record: &Record,
    home: &Home,
    user: &User,
    surroundings: &Surroundings,
) -> Result<Spec, OciSpecError> {
    let namespaces = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
    ];
    let namespaces = namespaces.into_iter().map(|typ| LinuxNamespaceBuilder::default().typ(typ).build());
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces.collect::<Result<Vec<_>, _>>()?)
        .rootfs_propagation("slave")
        .cgroups_path(cgroup::path_of(home.id()))
        .masked_paths(Vec::new())
        .readonly_paths(Vec::new())
        .build()?;
    linux.set_resources(None);

    let mut process = ProcessBuilder::default()
        .terminal(false)
        .user(UserBuilder::default().uid(user.uid).gid(user.gid).build()?)
        .args(record.spec.command.clone())
        .env(record.env.clone())
        .cwd(&record.workdir)
        .no_new_privileges(false)
        .build()?;
    process.set_capabilities(None).set_rlimits(None);

    let root = record.spec.rootfs.as_ref().map_or_else(|| mount_point(home), PathBuf::from);
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .process(process)
        .root(RootBuilder::default().path(root).readonly(false).build()?)
        .hostname(uname().nodename().to_string_lossy())
        .mounts(mounts(record.spec.rootfs.is_none(), surroundings)?)
        .linux(linux)
        .build()?;
    spec.set_annotations(None);
    Ok(spec)
}

fn mount_point(home: &Home) -> PathBuf {
    home.root().join("rootfs")
}

fn mounts(host_root: bool, surroundings: &Surroundings) -> Result<Vec<Mount>, OciSpecError> {
    let pts: &[&str] = match surroundings {
        Surroundings::Root => &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        // The group tty does not exist there.
        Surroundings::OwnUserNamespace => &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    };
    let mut mounts = Vec::new();
    if host_root {
        mounts.push(mount("/", "bind", "/", &["rbind"])?);
    }
    mounts.push(mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?);
    mounts.push(mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?);
    mounts.push(mount("/dev/pts", "devpts", "devpts", pts)?);
    mounts.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "nodev", "mode=1777"])?);
    mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?);
    if !host_root {
        mounts.push(mount("/sys", "bind", "/sys", &["rbind"])?);
    }
    Ok(mounts)
}

fn mount(at: &str, typ: &str, source: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    MountBuilder::default().destination(at).typ(typ).source(source).options(options).build()
}
