//! `run`: a new container.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use futures_util::future::{BoxFuture, FutureExt, Shared};
use futures_util::stream::BoxStream;
use gracefully_core::diagnosis::Finding;
use gracefully_core::exit::USAGE;
use gracefully_monitor::record::{Record, RunSpec};
use rustix::system::uname;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::{LogChunk, LogOptions, now};

use super::home::{Home, Lock};
use super::launcher::DEFAULT_PATH;
use super::paths::io_error;
use super::record::to_container;
use super::spawn::End;
use super::{Local, log, names, settle, spawn};

/// A container with whose output and end the caller is connected since before it was started. So nothing is missed,
/// also if it ends, and is removed, at once.
pub struct Attached {
    /// The container, as it was right after its start.
    pub container: Container,
    /// Everything that it writes, until it has ended for good.
    pub output: BoxStream<'static, Result<LogChunk>>,
    /// How it ended, when it has ended for good and, with `--rm`, is removed. `None`: the monitor was killed.
    pub exit: Shared<BoxFuture<'static, Option<Ended>>>,
}

/// How a container has ended for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: i64,
    /// What its log, and so the output, lacks.
    pub lost: Option<Finding>,
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attached").field("container", &self.container).finish_non_exhaustive()
    }
}

/// A container that is written down and not started.
struct Created {
    home: Home,
    lock: Lock,
    record: Record,
}

impl Local {
    /// Makes a container and starts it. Returns when its program is executed.
    ///
    /// Fails with [`Error::InvalidName`], [`Error::NameInUse`] and [`Error::Start`]; then there is no container.
    pub async fn run(&self, spec: RunSpec) -> Result<Container> {
        let (container, _) = self.begin(self.create(spec)?).await?;
        Ok(container)
    }

    /// As [`run`](Self::run), for a caller that stays.
    pub async fn run_attached(&self, spec: RunSpec) -> Result<Attached> {
        let created = self.create(spec)?;
        let (end, ended) = tokio::sync::oneshot::channel::<End>();
        let exit = async move { ended.await.ok()?.wait().await }.boxed().shared();
        let stopped = exit.clone().map(drop).boxed();
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let output = log::read(created.home.path(), &options, log::Pace::Awaited, Some(stopped))?;
        let (container, begun) = self.begin(created).await?;
        // The receiver is in `exit`, which we hold.
        let _ = end.send(begun);
        Ok(Attached { container, output, exit })
    }

    /// Writes a container down, with its name.
    fn create(&self, spec: RunSpec) -> Result<Created> {
        let id = new_id()?;
        let name = match &spec.name {
            Some(name) => names::valid(name)?.to_owned(),
            None => names::made_up(&id),
        };
        let refuse = |message: String| Error::Start { code: USAGE, message };
        if spec.command.is_empty() {
            return Err(refuse("no command specified".to_owned()));
        }
        if spec.command.iter().any(|word| word.contains('\0')) {
            return Err(refuse("the command contains a zero byte".to_owned()));
        }
        let mut spec = spec;
        if let Some(dir) = &spec.rootfs {
            let found =
                Path::new(dir).canonicalize().map_err(|source| io_error("use", dir.as_ref(), source))?;
            if !found.is_dir() {
                return Err(refuse(format!("--rootfs {dir} is not a directory")));
            }
            spec.rootfs = Some(text(found)?);
        }
        let workdir = workdir(&spec)?;
        let env = environment(&spec);
        let record = Record::new(id, name, now(), spec, env, workdir);

        let alone = self.root.alone()?;
        self.root.sweep(&alone)?;
        let (home, lock) = Home::create(&self.root.containers(), &record)?;
        if let Err(error) = names::reserve(&self.root, &alone, &record.name, &record.id) {
            home.remove(&lock)?;
            return Err(error);
        }
        Ok(Created { home, lock, record })
    }

    async fn begin(&self, created: Created) -> Result<(Container, End)> {
        let Created { home, lock, record } = created;
        match spawn::monitor(&home, lock).await {
            Ok(end) => {
                let container = match settle::container(&self.root, &home) {
                    // With --rm it is gone already.
                    Err(Error::NotFound { .. }) => to_container(&record, None),
                    looked => looked?,
                };
                Ok((container, end))
            }
            Err(error) => {
                // A program that could not be started leaves nothing behind.
                if let Some(lock) = home.lock_orphan().await? {
                    settle::remove(&self.root, &home, &lock)?;
                }
                Err(error)
            }
        }
    }
}

/// 32 random bytes, as 64 hexadecimal digits.
fn new_id() -> Result<String> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0; 32];
    let mut random = File::open(path).map_err(|source| io_error("open", path, source))?;
    random.read_exact(&mut bytes).map_err(|source| io_error("read", path, source))?;
    let mut id = String::with_capacity(64);
    for byte in bytes {
        write!(id, "{byte:02x}").expect("a String takes everything");
    }
    Ok(id)
}

fn workdir(spec: &RunSpec) -> Result<String> {
    let system = |source| Error::System { what: "finding the current directory".to_owned(), source };
    match (&spec.workdir, &spec.rootfs) {
        (Some(dir), None) => std::path::absolute(dir).map_err(system).and_then(text),
        (None, None) => std::env::current_dir().map_err(system).and_then(text),
        (Some(dir), Some(_)) if dir.starts_with('/') => Ok(dir.clone()),
        (Some(dir), Some(_)) => Err(Error::Start {
            code: USAGE,
            message: format!("the working directory '{dir}' is invalid, it needs to be an absolute path"),
        }),
        (None, Some(_)) => Ok("/".to_owned()),
    }
}

/// OCI, and our own record, know only text.
fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|path| Error::Start {
        code: USAGE,
        message: format!("the path {} is not UTF-8", path.display()),
    })
}

/// As `K=V`, every name once. OCI knows only text: what is not UTF-8 becomes U+FFFD, as it does with docker.
fn environment(spec: &RunSpec) -> Vec<String> {
    let inherited: Vec<(String, String)> = match &spec.rootfs {
        None => std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| !name.starts_with("LISTEN_"))
            .collect(),
        Some(_) => vec![
            ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
            ("HOSTNAME".to_owned(), uname().nodename().to_string_lossy().into_owned()),
        ],
    };
    let mut seen = HashSet::new();
    let mut env: Vec<String> = spec
        .env
        .iter()
        .rev()
        .chain(&inherited)
        .filter(|(name, _)| seen.insert(name.clone()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    env.reverse();
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::record::tests::record;
    use std::os::unix::ffi::OsStringExt;

    fn spec(rootfs: Option<&str>, workdir: Option<&str>) -> RunSpec {
        RunSpec { rootfs: rootfs.map(Into::into), workdir: workdir.map(Into::into), ..record("a").spec }
    }

    #[test]
    fn ids_are_64_hexadecimal_digits_and_differ() {
        let (one, two) = (new_id().unwrap(), new_id().unwrap());
        assert_eq!(one.len(), 64);
        assert!(one.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_ne!(one, two);
    }

    #[test]
    fn the_later_of_two_values_wins() {
        let mut spec = spec(Some("/x"), None);
        spec.env = vec![("A".into(), "1".into()), ("PATH".into(), "/bin".into()), ("A".into(), "2".into())];
        let env = environment(&spec);
        assert!(env[0].starts_with("HOSTNAME="), "{env:?}");
        assert_eq!(env[1..], ["PATH=/bin", "A=2"]);
    }

    #[test]
    fn where_a_program_starts() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(workdir(&spec(None, None)).unwrap(), here.to_str().unwrap());
        assert_eq!(workdir(&spec(None, Some("sub"))).unwrap(), here.join("sub").to_str().unwrap());
        assert_eq!(workdir(&spec(Some("/x"), None)).unwrap(), "/");
        assert_eq!(workdir(&spec(Some("/x"), Some("/srv"))).unwrap(), "/srv");
        assert!(text(PathBuf::from(std::ffi::OsString::from_vec(vec![b'/', 0xff]))).is_err());
        assert!(workdir(&spec(Some("/x"), Some("srv"))).is_err());
    }
}
