//! `-u user[:group]`, looked up in the container's own root.

use std::io::Read;
use std::path::Path;

use gracefully_core::exit::USAGE;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::process::{Gid, geteuid};

use super::Refusal;

/// Longer files are not read to their end.
const LIMIT: u64 = 16 * 1024 * 1024;

/// As whom the program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The supplementary groups; `None` if a user namespace forbids to set them.
    pub(super) groups: Option<Vec<Gid>>,
    pub(super) home: String,
}

/// Who `asked` is in `root`; root if nobody is asked for, and ourselves if we are not root.
pub(super) fn resolve(root: &Path, asked: Option<&str>) -> Result<User, Refusal> {
    let read = |file: &str| -> Vec<u8> {
        let mut text = Vec::new();
        let opened = open_in(root, Path::new(file), OFlags::RDONLY);
        // An absent file is an empty one: a root file system need not have users.
        if let Ok(fd) = opened {
            let _ = std::fs::File::from(fd).take(LIMIT).read_to_end(&mut text);
        }
        text
    };
    let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
    if geteuid().is_root() {
        return look_up(asked.unwrap_or("0"), &passwd, &group)
            .map_err(|message| Refusal { code: USAGE, message });
    }
    let ourselves = geteuid().as_raw().to_string();
    let user = look_up(asked.unwrap_or(&ourselves), &passwd, &group);
    let user = user.map_err(|message| Refusal { code: USAGE, message })?;
    if user.uid == geteuid().as_raw() {
        return Ok(User { gid: rustix::process::getegid().as_raw(), groups: None, ..user });
    }
    Err(Refusal {
        code: USAGE,
        message: format!("only root can run a program as another user (-u {})", asked.unwrap_or_default()),
    })
}

/// Opens a path as a process with this root would (openat2(2), Linux 5.6).
pub(super) fn open_in(root: &Path, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
}

/// The error is docker's text.
fn look_up(asked: &str, passwd: &[u8], group: &[u8]) -> Result<User, String> {
    let (user, of_group) = match asked.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (asked, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    // name:password:uid:gid:comment:home:shell
    let entry = lines(passwd).find(|fields| {
        fields.first() == Some(&user)
            || (number.is_some() && fields.get(2).and_then(|id| id.parse().ok()) == number)
    });
    let field = |at: usize| entry.as_ref().and_then(|fields| fields.get(at).copied());
    let uid = field(2).and_then(|id| id.parse().ok()).or(number);
    let uid = uid.ok_or_else(|| format!("unable to find user {user}: no matching entries in passwd file"))?;
    let home = field(5).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    let name = field(0).unwrap_or_default();

    // name:password:gid:members
    let gid = match of_group {
        None => field(3).and_then(|id| id.parse().ok()).unwrap_or(0),
        Some(wanted) => lines(group)
            .find(|fields| fields.first() == Some(&wanted))
            .and_then(|fields| fields.get(2)?.parse().ok())
            .or_else(|| wanted.parse().ok())
            .ok_or_else(|| format!("unable to find group {wanted}: no matching entries in group file"))?,
    };
    let is_member = |fields: &Vec<&str>| {
        !name.is_empty()
            && fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name))
    };
    let mut groups: Vec<u32> = match of_group {
        None => lines(group).filter(is_member).filter_map(|fields| fields.get(2)?.parse().ok()).collect(),
        Some(_) => Vec::new(),
    };
    groups.insert(0, gid);
    groups.dedup();
    Ok(User { uid, gid, groups: Some(groups.into_iter().map(Gid::from_raw).collect()), home })
}

/// The lines of a file of fields; those that are no text are left out.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|&b| b == b'\n')
        .filter_map(|line| Some(str::from_utf8(line).ok()?.trim().split(':').collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# comment\nbad\n\xff\xff:x:1:1::/:\nann:x:1000:100::/home/ann:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:100:\naudio:x:29:bob,ann\nvideo:x:44:annie,ann\n";

    fn found(asked: &str) -> (u32, u32, Vec<u32>, String) {
        let user = look_up(asked, PASSWD, GROUP).unwrap();
        let groups = user.groups.unwrap().iter().map(|gid| gid.as_raw()).collect();
        (user.uid, user.gid, groups, user.home)
    }

    #[test]
    fn by_name_by_number_and_with_a_group() {
        assert_eq!(found("0"), (0, 0, vec![0], "/root".into()));
        assert_eq!(found("ann"), (1000, 100, vec![100, 29, 44], "/home/ann".into()));
        assert_eq!(found("1000"), found("ann"));
        assert_eq!(found("ann:"), found("ann"));
        assert_eq!(found("ann:audio"), (1000, 29, vec![29], "/home/ann".into()));
        assert_eq!(found("ann:7"), (1000, 7, vec![7], "/home/ann".into()));
        assert_eq!(found("4242"), (4242, 0, vec![0], "/".into()));
        assert_eq!(found("4242:users"), (4242, 100, vec![100], "/".into()));
        assert_eq!(found(":users"), (0, 100, vec![100], "/root".into()));
    }

    #[test]
    fn nobody_is_refused_in_dockers_words() {
        let user = look_up("nope", PASSWD, GROUP).unwrap_err();
        assert_eq!(user, "unable to find user nope: no matching entries in passwd file");
        let group = look_up("ann:nope", PASSWD, GROUP).unwrap_err();
        assert_eq!(group, "unable to find group nope: no matching entries in group file");
        assert!(look_up("-1", PASSWD, GROUP).is_err());
        assert!(look_up("4294967296", b"", b"").is_err());
    }

    #[test]
    fn links_stay_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/real", dir.path().join("etc/passwd")).unwrap();
        std::fs::write(dir.path().join("etc/real"), "inner:x:5:6::/:\n").unwrap();
        let fd = open_in(dir.path(), Path::new("/etc/passwd"), OFlags::RDONLY).unwrap();
        let mut text = String::new();
        std::fs::File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "inner:x:5:6::/:\n");
        assert!(open_in(dir.path(), Path::new("/../../etc/hostname"), OFlags::RDONLY).is_err());
    }
}
