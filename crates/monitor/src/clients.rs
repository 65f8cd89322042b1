//! Conversations on `control.sock`.

use alloc::format;
use alloc::vec::Vec;

use gracefully_linux::Errno;
use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::{read, write};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use rustix::process::geteuid;

use crate::home::Home;
use crate::protocol::{Answer, Ask, Lines, line, value};
use crate::supervisor::Client;

/// Its file.
const SOCKET: &str = "control.sock";

/// How many may wait to be accepted.
const BACKLOG: i32 = 128;

/// Everybody who is connected.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: OwnedFd,
    conversations: Vec<Conversation>,
    next: Client,
}

/// One question, which may be taken back, then answers until the last one is sent or nobody listens.
#[derive(Debug)]
struct Conversation {
    client: Client,
    socket: OwnedFd,
    lines: Lines,
    asked: bool,
    /// What the socket would not take yet.
    unsent: Vec<u8>,
    /// Nothing comes after what is unsent.
    last: bool,
    over: bool,
}

impl Clients {
    /// Binds the socket in the container's directory.
    pub(crate) fn listen(home: &Home) -> Result<Self, Errno> {
        // A monitor that was killed has left it.
        let _ = unlinkat(home, SOCKET, AtFlags::empty());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // By way of the open directory: its path may be longer than the address of a socket may be (unix(7)).
        let path = format!("/proc/self/fd/{}/{SOCKET}", home.as_fd().as_raw_fd());
        bind(&listener, &SocketAddrUnix::new(&*path)?)?;
        listen(&listener, BACKLOG)?;
        Ok(Self { listener, conversations: Vec::new(), next: 0 })
    }

    /// Nobody connects any more. Those who have are served.
    pub(crate) fn close(&mut self, home: &Home) {
        // With --rm it is gone already.
        let _ = unlinkat(home, SOCKET, AtFlags::empty());
        self.accept();
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Whom to wait for, and for what.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (Client, BorrowedFd<'_>, PollFlags)> {
        self.conversations.iter().map(|conversation| {
            let unsent = !conversation.unsent.is_empty();
            let flags = if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            (conversation.client, conversation.socket.as_fd(), flags)
        })
    }

    /// Takes in everybody who waits.
    pub(crate) fn accept(&mut self) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            let peer = socket_peercred(&socket).map(|peer| peer.uid);
            if !peer.is_ok_and(|uid| uid.is_root() || uid == geteuid()) {
                continue;
            }
            let client = self.next;
            self.next += 1;
            self.conversations.push(Conversation {
                client,
                socket,
                lines: Lines::default(),
                asked: false,
                unsent: Vec::new(),
                last: false,
                over: false,
            });
        }
    }

    /// Sends and reads what is possible now. Says what was asked.
    pub(crate) fn serve(&mut self, client: Client) -> Vec<Ask> {
        let Some(place) = self.place_of(client) else { return Vec::new() };
        let asked = self.conversations[place].serve();
        self.end_if_over(place);
        asked
    }

    fn place_of(&self, client: Client) -> Option<usize> {
        self.conversations.iter().position(|conversation| conversation.client == client)
    }

    fn end_if_over(&mut self, place: usize) {
        if self.conversations[place].over {
            self.conversations.swap_remove(place);
        }
    }

    /// What was asked by those who have just connected.
    pub(crate) fn last_asks(&mut self) -> Vec<(Client, Ask)> {
        let clients: Vec<Client> =
            self.conversations.iter().map(|conversation| conversation.client).collect();
        let asks = |client| self.serve(client).into_iter().map(move |ask| (client, ask));
        clients.into_iter().flat_map(asks).collect()
    }

    /// Nobody may be there any more to hear it.
    pub(crate) fn answer(&mut self, client: Client, answer: &Answer) {
        let Some(place) = self.place_of(client) else { return };
        let conversation = &mut self.conversations[place];
        if !conversation.last {
            conversation.unsent.extend(line(answer));
            conversation.last = !matches!(answer, Answer::Progress(_));
        }
        conversation.send();
        self.end_if_over(place);
    }

    /// Ends the conversations with those who have no answer coming.
    pub(crate) fn keep_those_with_unsent(&mut self) {
        self.conversations.retain(|conversation| !conversation.unsent.is_empty());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }
}

impl Conversation {
    fn serve(&mut self) -> Vec<Ask> {
        self.send();
        self.read()
    }

    fn send(&mut self) {
        while !self.unsent.is_empty() {
            match write(&self.socket, &self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
        self.over |= self.last;
    }

    fn read(&mut self) -> Vec<Ask> {
        match read(&self.socket, spare_capacity(self.lines.room())) {
            Ok(0) => self.over = true,
            Ok(_) => return self.understand(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.over = true,
        }
        Vec::new()
    }

    /// Who says anything but one question, and that it is taken back, is not one of ours.
    fn understand(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        while let Some(line) = self.lines.pop() {
            match value(&line) {
                Some(Ask::Abort) if self.asked => asks.push(Ask::Abort),
                Some(ask) if !self.asked => {
                    self.asked = true;
                    asks.push(ask);
                }
                Some(_) | None => self.over = true,
            }
        }
        self.over |= self.lines.overflow();
        asks
    }
}
