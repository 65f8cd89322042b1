//! Reading a log that a monitor [writes](gracefully_monitor::log), to its end or as long as the container runs.

use std::collections::VecDeque;
use std::fs::File;
use std::future::{Future, pending};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use futures_util::stream::{self, BoxStream, StreamExt};
use gracefully_monitor::log::{CURRENT, Entry, OLDER, PIECE, TIME, time_of};
use rustix::fs::{FlockOperation, flock, inotify};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};
use crate::{LogChunk, LogOptions, LogStream};

use super::paths::io_error;
use super::record::system_time;

/// The container has stopped, or its monitor is dead: nothing more will be written.
pub(super) type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a reader is told that was so slow that the file after the one it has read was put aside as well.
const OVERTAKEN: &[u8] = b"gracefully: output may have been lost here: it came faster than it was read\n";

/// What becomes of a reader that is slower than the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// The program waits for it: what it has still to read is locked, and so not replaced. It must be there before the
    /// program is.
    Awaited,
    /// It is overtaken, and told so.
    Overtaken,
}

/// What is in the log of the container in `dir`. If `stopped` is given, everything that is written until then, too.
pub(super) fn read(
    dir: &Path,
    options: &LogOptions,
    pace: Pace,
    stopped: Option<Stopped>,
) -> Result<BoxStream<'static, Result<LogChunk>>> {
    // The watch comes first, so that nothing is written unseen between the last look and the first wait.
    let watch = stopped.is_some().then(|| watch(dir)).transpose()?;
    let mut reader = Reader {
        dir: dir.to_owned(),
        options: options.clone(),
        pace,
        watch,
        stopped,
        files: VecDeque::new(),
        line: Vec::new(),
        overtaken: false,
        in_line: [false; 2],
    };
    reader.open(options.tail).map_err(|source| io_error("read", &dir.join(CURRENT), source))?;
    Ok(stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

struct Reader {
    dir: PathBuf,
    options: LogOptions,
    pace: Pace,
    watch: Option<AsyncFd<OwnedFd>>,
    stopped: Option<Stopped>,
    /// What is left to be read. The last one is written to, unless it has been put aside meanwhile.
    files: VecDeque<BufReader<File>>,
    /// The entry that is being read; it may still be half.
    line: Vec<u8>,
    /// The second file is not the successor of the first, as far as one can tell.
    overtaken: bool,
    /// Is the line of this stream unfinished?
    in_line: [bool; 2],
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LogChunk>> {
        loop {
            match self.next_written() {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) => {}
                Err(source) => return Err(io_error("read", &self.dir.join(CURRENT), source)),
            }
            let Some(stopped) = &mut self.stopped else { return Ok(None) };
            tokio::select! {
                () = stopped => self.stopped = None,
                changed = changed(self.watch.as_ref()) => changed?,
            }
        }
    }

    /// The next chunk of what is there now.
    fn next_written(&mut self) -> io::Result<Option<LogChunk>> {
        loop {
            let Some(file) = self.files.front_mut() else {
                match self.open_file(CURRENT)? {
                    Some(file) => self.files.push_back(file),
                    None => return Ok(None),
                }
                continue;
            };
            if file.read_until(b'\n', &mut self.line)? > 0 && self.line.ends_with(b"\n") {
                let chunk = self.chunk();
                self.line.clear();
                if chunk.is_some() {
                    return Ok(chunk);
                }
                continue;
            }
            // The end of this file, as far as it is written.
            if self.files.len() > 1 {
                self.files.pop_front();
                self.line.clear();
                if std::mem::take(&mut self.overtaken) {
                    self.in_line = [false; 2];
                    return Ok(Some(LogChunk { stream: LogStream::Stderr, bytes: OVERTAKEN.to_vec() }));
                }
                continue;
            }
            if !self.is_put_aside()? {
                return Ok(None);
            }
            // More may have been written to it until it was put aside, so it is kept, and read on, until its successor
            // is open.
            let read = inode(&self.files[0])?;
            let mut next = self.open_both()?;
            match next.front().map(inode).transpose()? {
                Some(older) if older == read => drop(next.pop_front()),
                Some(_) => self.overtaken = true,
                // The log was removed.
                None => return Ok(None),
            }
            self.files.extend(next);
        }
    }

    fn is_put_aside(&self) -> io::Result<bool> {
        let Some(file) = self.files.back() else { return Ok(false) };
        match std::fs::metadata(self.dir.join(CURRENT)) {
            Ok(current) => Ok(current.ino() != inode(file)?),
            Err(_) => Ok(false),
        }
    }

    /// What is shown of the entry that was read.
    fn chunk(&mut self) -> Option<LogChunk> {
        let line = self.line.strip_suffix(b"\n")?;
        let entry = Entry::parse(line)?;
        let begins = !std::mem::replace(&mut self.in_line[index(entry.stream)], !entry.ends_line);
        if let Some(since) = self.options.since
            && time_of(line).is_some_and(|time| system_time(time) < since)
        {
            return None;
        }
        let mut bytes = Vec::with_capacity(line.len());
        if self.options.timestamps && begins {
            bytes.extend_from_slice(&line[..TIME]);
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&line[entry.text]);
        if entry.ends_line {
            bytes.push(b'\n');
        }
        Some(LogChunk { stream: entry.stream, bytes })
    }

    /// Opens what is there, at the beginning or where the last `tail` lines begin.
    fn open(&mut self, tail: Option<usize>) -> io::Result<()> {
        self.files = self.open_both()?;
        let Some(tail) = tail else { return Ok(()) };

        let mut begins: VecDeque<(usize, u64)> = VecDeque::new();
        let mut ends = Vec::new();
        let mut in_line = [false; 2];
        let mut line = Vec::new();
        for (which, file) in self.files.iter_mut().enumerate() {
            let mut at = 0;
            loop {
                line.clear();
                let read = file.read_until(b'\n', &mut line)?;
                let Some(whole) = line.strip_suffix(b"\n") else { break };
                if let Some(entry) = Entry::parse(whole)
                    && !std::mem::replace(&mut in_line[index(entry.stream)], !entry.ends_line)
                {
                    begins.push_back((which, at));
                    if begins.len() > tail {
                        begins.pop_front();
                    }
                }
                at += read as u64;
            }
            ends.push(at);
        }
        let end = (ends.len().saturating_sub(1), ends.last().copied().unwrap_or(0));
        let (first, at) = begins.front().copied().unwrap_or(end);
        self.files.drain(..first);
        for (file, at) in self.files.iter_mut().zip([at, 0]) {
            file.seek(SeekFrom::Start(at))?;
        }
        Ok(())
    }

    /// Both files, of one moment.
    fn open_both(&self) -> io::Result<VecDeque<BufReader<File>>> {
        loop {
            let older = self.open_file(OLDER)?;
            let current = self.open_file(CURRENT)?;
            // If it is still the older one, nothing was put aside in between.
            let still = self.open_file(OLDER)?;
            if older.as_ref().map(inode).transpose()? == still.as_ref().map(inode).transpose()? {
                return Ok(older.into_iter().chain(current).collect());
            }
        }
    }

    fn open_file(&self, name: &str) -> io::Result<Option<BufReader<File>>> {
        let file = match File::open(self.dir.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.pace == Pace::Awaited {
            flock(&file, FlockOperation::LockShared)?;
            // It was handed over at the end of the one before, and removed.
            if file.metadata()?.nlink() == 0 {
                return Ok(None);
            }
        }
        Ok(Some(BufReader::with_capacity(4 * PIECE, file)))
    }
}

fn inode(file: &BufReader<File>) -> io::Result<u64> {
    file.get_ref().metadata().map(|metadata| metadata.ino())
}

fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; an OwnedFd stays the same file, which is what it asks for"
)]
fn watch(dir: &Path) -> Result<AsyncFd<OwnedFd>> {
    use inotify::{CreateFlags, WatchFlags};
    let failed = |errno: Errno| io_error("watch", dir, errno);
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
    inotify::add_watch(&fd, dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVE)
        .map_err(failed)?;
    AsyncFd::new(fd).map_err(|source| io_error("watch", dir, source))
}

/// Returns when something in the directory has changed.
async fn changed(watch: Option<&AsyncFd<OwnedFd>>) -> Result<()> {
    let Some(watch) = watch else { return pending().await };
    let system = |source| Error::System { what: "inotify".to_owned(), source };
    let mut ready = watch.readable().await.map_err(system)?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch.get_ref(), &mut buffer);
    loop {
        match events.next() {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => return Err(system(errno.into())),
        }
    }
    ready.clear_ready();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now;
    use gracefully_monitor::log::LogWriter;
    use std::fs;
    use std::time::SystemTime;
    use tokio::sync::oneshot;

    fn text(chunks: &[LogChunk]) -> String {
        chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.bytes)).collect()
    }

    async fn all(dir: &Path, options: LogOptions) -> String {
        let chunks: Vec<_> =
            read(dir, &options, Pace::Overtaken, None).unwrap().map(Result::unwrap).collect().await;
        text(&chunks)
    }

    fn log_in(dir: &Path) -> LogWriter {
        LogWriter::open(File::open(dir).unwrap().into(), 0)
    }

    fn tail(n: usize) -> LogOptions {
        LogOptions { tail: Some(n), ..LogOptions::default() }
    }

    #[tokio::test]
    async fn the_whole_log_and_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(all(dir.path(), LogOptions::default()).await, "", "no log yet");
        assert_eq!(all(dir.path(), tail(1)).await, "");

        let mut log = log_in(dir.path());
        log.write(now(), LogStream::Stdout, b"one\ntwo\nthr");
        log.write(now(), LogStream::Stderr, b"oops\n");
        log.write(now(), LogStream::Stdout, b"ee\nfour");
        assert_eq!(all(dir.path(), LogOptions::default()).await, "one\ntwo\nthroops\nee\nfour");
        assert_eq!(all(dir.path(), tail(0)).await, "");
        assert_eq!(all(dir.path(), tail(1)).await, "four");
        assert_eq!(all(dir.path(), tail(2)).await, "oops\nee\nfour");
        assert_eq!(all(dir.path(), tail(3)).await, "throops\nee\nfour");
        assert_eq!(all(dir.path(), tail(99)).await, "one\ntwo\nthroops\nee\nfour");

        fs::rename(dir.path().join(CURRENT), dir.path().join(OLDER)).unwrap();
        let mut log = log_in(dir.path());
        log.write(now(), LogStream::Stdout, b" more\nfive\n");
        assert_eq!(all(dir.path(), LogOptions::default()).await, "one\ntwo\nthroops\nee\nfour more\nfive\n");
        assert_eq!(all(dir.path(), tail(1)).await, "five\n");
        assert_eq!(all(dir.path(), tail(2)).await, "four more\nfive\n");
    }

    #[tokio::test]
    async fn times_begin_lines_and_old_entries_can_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let old = "2016-10-06T00:17:09.669794202Z stdout F old\nnot ours\n2016-10-06T00:17:09.6";
        fs::write(dir.path().join(CURRENT), old).unwrap();
        let since = SystemTime::now();
        let mut log = log_in(dir.path());
        log.write(now(), LogStream::Stdout, b"ne");
        log.write(now(), LogStream::Stdout, b"w\n");
        assert_eq!(all(dir.path(), LogOptions::default()).await, "old\nnew\n");
        assert_eq!(
            all(dir.path(), LogOptions { since: Some(since), ..LogOptions::default() }).await,
            "new\n"
        );
        let with_times = all(dir.path(), LogOptions { timestamps: true, ..LogOptions::default() }).await;
        let lines: Vec<&str> = with_times.lines().collect();
        assert_eq!(lines[0], "2016-10-06T00:17:09.669794202Z old");
        assert_eq!(lines[1].split_once("Z ").unwrap().1, "new");
        assert_eq!(lines.len(), 2);
    }

    #[tokio::test]
    async fn following_ends_when_the_container_has_stopped_and_everything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log_in(dir.path());
        log.write(now(), LogStream::Stdout, b"one\n");
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped: Stopped = Box::pin(async move { drop(stopped.await) });
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut stream = read(dir.path(), &options, Pace::Overtaken, Some(stopped)).unwrap();

        assert_eq!(stream.next().await.unwrap().unwrap().bytes, b"one\n");
        let writer = async {
            log.write(now(), LogStream::Stdout, b"two\n");
        };
        let (next, ()) = tokio::join!(stream.next(), writer);
        assert_eq!(next.unwrap().unwrap().bytes, b"two\n");

        // Put aside in between: nothing is lost and nothing is read twice.
        log.write(now(), LogStream::Stdout, b"three\n");
        fs::rename(dir.path().join(CURRENT), dir.path().join(OLDER)).unwrap();
        let mut log = log_in(dir.path());
        log.write(now(), LogStream::Stdout, b"four\n");
        assert_eq!(stream.next().await.unwrap().unwrap().bytes, b"three\n");
        assert_eq!(stream.next().await.unwrap().unwrap().bytes, b"four\n");

        log.write(now(), LogStream::Stdout, b"five\n");
        stop.send(()).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().bytes, b"five\n");
        assert!(stream.next().await.is_none());
    }
    fn put_aside(dir: &Path) -> LogWriter {
        fs::rename(dir.join(CURRENT), dir.join(OLDER)).unwrap();
        log_in(dir)
    }

    /// The stream of a reader that follows.
    fn follow(dir: &Path, pace: Pace) -> BoxStream<'static, Result<LogChunk>> {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        read(dir, &options, pace, Some(Box::pin(pending()))).unwrap()
    }

    #[tokio::test]
    async fn a_reader_that_is_overtaken_is_told() {
        let dir = tempfile::tempdir().unwrap();
        log_in(dir.path()).write(now(), LogStream::Stdout, b"one\n");
        let mut stream = follow(dir.path(), Pace::Overtaken);
        assert_eq!(stream.next().await.unwrap().unwrap().bytes, b"one\n");
        for text in [b"two\n", b"3rd\n", b"4th\n"] {
            put_aside(dir.path()).write(now(), LogStream::Stdout, text);
        }
        let told: Vec<_> = stream.take(3).map(Result::unwrap).collect().await;
        assert_eq!(told[0], LogChunk { stream: LogStream::Stderr, bytes: OVERTAKEN.to_vec() });
        assert_eq!(text(&told[1..]), "3rd\n4th\n");
    }

    #[tokio::test]
    async fn a_reader_that_is_awaited_keeps_what_it_has_still_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log_in(dir.path());
        let mut stream = follow(dir.path(), Pace::Awaited);
        log.write(now(), LogStream::Stdout, b"one\n");
        let held = |name| {
            let file = File::open(dir.path().join(name)).unwrap();
            flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
        };
        assert!(held(CURRENT), "from the beginning");
        let mut log = put_aside(dir.path());
        log.write(now(), LogStream::Stdout, b"two\n");
        assert!(held(OLDER) && !held(CURRENT));
        assert_eq!(stream.next().await.unwrap().unwrap().bytes, b"one\n");
        assert_eq!(stream.next().await.unwrap().unwrap().bytes, b"two\n");
        assert!(!held(OLDER) && held(CURRENT), "only what is still to be read");
        drop(stream);
        assert!(!held(CURRENT), "who is gone keeps nothing");
    }
}
