//! The directory of one container, and the lock that says who is in charge of it.
//!
//! ```text
//! state.json    the record; only whoever has the lock writes it
//! *.new         room for the next record, reserved; what takes the place of another file, while it is written
//! lock          flock(2) held by the monitor as long as it lives
//! launch        flock(2) held by the launcher and by what it forks, until the program is executed
//! control.sock  where the monitor listens
//! log, log.1    what the program wrote
//! report.json   the last stop
//! bundle, oci   libcontainer's
//! ```
//!
//! **Who is in charge.** A lock belongs to an open file, which parent and child share (flock(2)). The client takes the
//! lock before the directory has its final name and hands the open file to the monitor, so there is no moment at which
//! a container exists and nobody holds it. When the lock is free the monitor is dead, however it died, and whoever gets
//! the lock may put things right. No PID is involved.
//!
//! `launch` closes the last gap: a monitor that is killed while a container is being made leaves half-made processes
//! behind. They end by themselves (see `launcher`), and until then they hold this lock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gracefully_monitor::files;
use gracefully_monitor::record::{FILE, Record};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use crate::error::{Error, Result};

use super::paths::io_error;

/// How long half-made processes may take to notice that their monitor is dead.
const HALF_MADE: Duration = Duration::from_secs(10);

/// How often a lock is tried again.
const RETRY: Duration = Duration::from_millis(2);

/// The directory of one container.
#[derive(Clone, Debug)]
pub struct Home {
    id: String,
    path: PathBuf,
}

/// Being in charge of a container; given up when the last copy of the open file is closed.
#[derive(Debug)]
pub struct Lock(File);

impl Home {
    pub(super) fn new(containers: &Path, id: &str) -> Self {
        Self { id: id.to_owned(), path: containers.join(id) }
    }

    /// Of the directory that a monitor was given.
    pub fn at(path: &Path) -> Option<Self> {
        let id = path.file_name()?.to_str()?.to_owned();
        Some(Self { id, path: path.to_owned() })
    }

    /// Makes a directory with this record in it. It appears with its record, and locked, or not at all.
    pub(super) fn create(containers: &Path, record: &Record) -> Result<(Self, Lock)> {
        let hidden = Self { id: record.id.clone(), path: containers.join(format!(".{}", record.id)) };
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&hidden.path)
            .map_err(|source| io_error("create", &hidden.path, source))?;
        let made = hidden.fill(record).and_then(|lock| {
            let home = Self::new(containers, &record.id);
            fs::rename(&hidden.path, &home.path).map_err(|source| io_error("create", &home.path, source))?;
            Ok((home, lock))
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&hidden.path);
        }
        made
    }

    fn fill(&self, record: &Record) -> Result<Lock> {
        let file = open_lock(&self.path.join("lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| io_error("lock", &self.path, errno))?;
        // Whoever wants to read the log can open it before anything is written to it.
        self.replace("log", b"")?;
        self.save(record)?;
        Ok(Lock(file))
    }

    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state root that this home is in.
    pub(super) fn root(&self) -> PathBuf {
        self.path.ancestors().nth(2).unwrap_or(&self.path).to_owned()
    }

    /// What is written down about the container.
    ///
    /// Fails with [`Error::NotFound`] if there is no such container, with [`Error::State`] if its record is torn or
    /// not ours.
    pub fn record(&self) -> Result<Record> {
        let text = match fs::read(self.path.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.path.exists() => {
                return Err(self.gone());
            }
            Err(error) => return Err(self.unusable(error.to_string())),
        };
        Record::parse(&text, &self.id).map_err(|why| self.unusable(why))
    }

    /// Writes the record. rename(2) is atomic: a reader sees the old one or the new one.
    pub fn save(&self, record: &Record) -> Result<()> {
        self.replace(FILE, &record.to_json())
    }

    /// Replaces a file atomically.
    pub fn replace(&self, name: &str, text: &[u8]) -> Result<()> {
        File::open(&self.path)
            .and_then(|dir| files::replace(dir, name, text).map_err(io::Error::from))
            .map_err(|source| io_error("write", &self.path.join(name), source))
    }

    /// Takes charge if nobody is; `None`: a monitor lives, or half-made processes do.
    pub fn try_lock(&self) -> Result<Option<Lock>> {
        let path = self.path.join("lock");
        let file = match open_lock(&path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(self.gone());
            }
            opened => opened?,
        };
        if !lock_now(&file, &path)? {
            return Ok(None);
        }
        // Between the opening and the locking the container may have been removed.
        let inode = |found: io::Result<fs::Metadata>| found.map(|found| found.ino()).ok();
        if inode(fs::metadata(&path)) != inode(file.metadata()) {
            return Err(self.gone());
        }
        let launch = open_lock(&self.path.join("launch"))?;
        Ok(lock_now(&launch, &path)?.then_some(Lock(file)))
    }

    /// As [`try_lock`](Self::try_lock), but waits for half-made processes and for others that look at the container.
    pub(super) async fn lock(&self) -> Result<Option<Lock>> {
        self.lock_within(Duration::from_millis(50)).await
    }

    /// After the monitor was killed.
    pub(super) async fn lock_orphan(&self) -> Result<Option<Lock>> {
        self.lock_within(HALF_MADE).await
    }

    /// Tries again and again, because flock(2) has no deadline.
    async fn lock_within(&self, patience: Duration) -> Result<Option<Lock>> {
        let end = Instant::now() + patience;
        loop {
            match self.try_lock()? {
                None if Instant::now() < end => sleep(RETRY).await,
                tried => return Ok(tried),
            }
        }
    }

    /// Removes the directory; the lock says that nobody else uses it.
    pub(super) fn remove(&self, _in_charge: &Lock) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &self.path, error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn gone(&self) -> Error {
        Error::NotFound { name: self.id.clone() }
    }

    fn unusable(&self, why: String) -> Error {
        Error::State { id: self.id.clone(), path: self.path.clone(), why }
    }
}

impl Lock {
    pub(super) fn try_clone(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

/// Opens a lock file, and makes it if its directory exists.
fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| io_error("lock", path, source))
}

fn lock_now(file: &File, path: &Path) -> Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(io_error("lock", path, errno)),
    }
}
