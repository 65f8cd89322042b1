//! Listening on `control.sock`: what clients ask goes to the supervisor, its answers go back.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use gracefully_engine::local::Home;
use gracefully_engine::local::protocol::{self, Answer, Ask};
use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Where answers go. Dropping it ends the conversation.
pub(super) type Answers = mpsc::UnboundedSender<Answer>;

/// What a client asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) ask: Ask,
    pub(super) answers: Answers,
}

/// Binds the socket in the container's directory.
pub(super) fn listen(home: &Home) -> io::Result<UnixListener> {
    // By way of the open directory: its path may be longer than the address of a socket may be.
    let dir = fs::File::open(home.path())?;
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join("control.sock");
    // A monitor that was killed has left it.
    let _ = fs::remove_file(&path);
    UnixListener::bind(path)
}

/// One conversation: a question, then answers until there are no more or nobody listens.
pub(super) async fn serve(stream: UnixStream, questions: mpsc::UnboundedSender<Question>) {
    let uid = stream.peer_cred().map(|peer| peer.uid());
    if !uid.is_ok_and(|uid| uid == 0 || uid == geteuid().as_raw()) {
        return;
    }
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::with_capacity(512, from);
    let Some(ask) = protocol::read(&mut from).await else { return };
    let (answers, mut answered) = mpsc::unbounded_channel();
    if questions.send(Question { ask, answers }).is_err() {
        return;
    }
    loop {
        tokio::select! {
            answer = answered.recv() => match answer {
                Some(answer) if protocol::write(&mut to, &answer).await.is_ok() => {}
                Some(_) | None => return,
            },
            // The client is gone.
            _ = from.read_u8() => return,
        }
    }
}
