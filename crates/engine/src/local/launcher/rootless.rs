//! Making a container without being root.
//!
//! Mount and PID namespaces need `CAP_SYS_ADMIN`, and a user namespace gives it to whoever makes one, over what belongs
//! to that namespace (`user_namespaces(7)`). Exactly one user and one group can be mapped without help: our own. So the
//! launcher enters a user namespace in which it is the same user as outside and nobody else exists. setgroups(2) is
//! given up there, as the kernel demands.

use std::fs;
use std::io;
use std::path::Path;

use gracefully_core::exit::USAGE;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::process::{getegid, geteuid};

use gracefully_monitor::cgroup::ROOT;

use super::Refusal;
use super::user::User;

/// Enters a user namespace and a mount namespace of its own.
pub(super) fn enter(user: &User) -> Result<(), Refusal> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| Refusal { code: USAGE, message: why_not(&errno.into()) })?;
    let failed = |error| Refusal::ours("cannot set up the user namespace", error);
    fs::write("/proc/self/setgroups", "deny").map_err(failed)?;
    fs::write("/proc/self/uid_map", format!("{} {uid} 1", user.uid)).map_err(failed)?;
    fs::write("/proc/self/gid_map", format!("{} {gid} 1", user.gid)).map_err(failed)?;
    mounts_are_ours().map_err(failed)?;
    // Beside version 1 the second version is what libcontainer can do without when it is not root.
    let unified = Path::new(ROOT).join("unified");
    if unified.exists() {
        mount_bind_recursive(&unified, ROOT).map_err(|errno| failed(errno.into()))?;
    }
    Ok(())
}

/// From here on nobody outside sees what this process mounts. It has just entered a mount namespace of its own.
pub(super) fn mounts_are_ours() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

/// What is missing, as exactly as the machine tells.
fn why_not(error: &io::Error) -> String {
    let setting = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
    let missing = if setting("user/max_user_namespaces").trim() == "0" {
        "user.max_user_namespaces is 0; root can raise it with: sysctl user.max_user_namespaces=15000"
            .to_owned()
    } else if setting("kernel/unprivileged_userns_clone").trim() == "0" {
        "kernel.unprivileged_userns_clone is 0; root can allow it with: sysctl kernel.unprivileged_userns_clone=1"
            .to_owned()
    } else if setting("kernel/apparmor_restrict_unprivileged_userns").trim() == "1" {
        "AppArmor forbids it (kernel.apparmor_restrict_unprivileged_userns is 1); root can allow it with: \
         sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned()
    } else {
        format!("the kernel refuses it ({error}); a container around us may forbid it by seccomp")
    };
    format!("a container needs root, or a user namespace of its own, and {missing}")
}
