//! A daemon that answers what a test tells it to.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;

/// What the daemon does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// It sends this and closes the connection.
    Bytes(String),
    /// It closes the connection.
    Close,
    /// It sends this and then nothing more.
    Hang(String),
}

impl Reply {
    /// 200 with this body.
    pub(crate) fn ok(body: &str) -> Self {
        Self::status(200, body)
    }

    /// Any status with this body.
    pub(crate) fn status(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::Bytes(format!(
            "HTTP/1.1 {status} X\r\nApi-Version: 1.41\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// The answer to `inspect` for a container that runs as this process. Its identifier is one that is part of every
    /// process's control groups, so that the process passes for the container's.
    pub(crate) fn running(pid: u32) -> Self {
        Self::running_as("0::", pid)
    }

    pub(crate) fn running_as(id: &str, pid: u32) -> Self {
        Self::ok(&format!(
            r#"{{"Id":"{id}","Name":"/web","State":{{"Status":"running","Running":true,"Pid":{pid}}},"Config":{{}}}}"#
        ))
    }

    /// What dockerd sends at once when it has registered a `wait`.
    pub(crate) fn head_of_wait() -> String {
        "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nTransfer-Encoding: chunked\r\n\r\n".into()
    }

    /// As a server would answer that is no daemon.
    pub(crate) fn without_version(self) -> Self {
        match self {
            Self::Bytes(text) => Self::Bytes(text.replace("Api-Version: 1.41\r\n", "")),
            other => other,
        }
    }
}

/// A request without its headers.
#[derive(Clone, Debug)]
pub(crate) struct Request(String);

impl Request {
    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }
}

/// A daemon on a unix socket; it ends with the test's runtime.
pub(crate) struct Fake {
    path: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Fake {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read_request(&mut stream).await else { continue };
                seen.lock().unwrap().push(request.0.clone());
                let reply = answer(&request);
                tokio::spawn(respond(stream, reply));
            }
        });
        Self { path, requests, _dir: dir }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Method, path and query of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads a request's head; `None` if there is none.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let line = head.lines().next()?;
    Some(Request(line.trim_end_matches(" HTTP/1.1").to_owned()))
}

/// Answers and closes, or not.
pub(crate) async fn respond(mut stream: impl AsyncWrite + Unpin, reply: Reply) {
    let (text, hang) = match reply {
        Reply::Bytes(text) => (text, false),
        Reply::Close => (String::new(), false),
        Reply::Hang(text) => (text, true),
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.flush().await;
    if hang {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}
