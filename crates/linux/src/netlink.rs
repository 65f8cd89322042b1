//! Netlink: how the kernel answers questions that have no file in /proc (netlink(7)).
//!
//! A message is a header of 16 bytes and a payload; most payloads are a fixed structure followed by attributes, each a
//! header of four bytes and a value; everything begins at a multiple of four. Numbers are in the machine's byte order
//! unless a family says otherwise (netfilter's are big-endian).
//!
//! [`Socket`] carries messages, [`Message`] and [`Attribute`] read them without copying, [`Writer`] builds them.

use alloc::vec;
use alloc::vec::Vec;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

/// `NLMSG_ERROR`: the kernel's verdict on a message, zero if it was accepted.
pub const ERROR: u16 = 2;

/// `NLMSG_DONE`: the end of a dump.
pub const DONE: u16 = 3;

/// `NLM_F_REQUEST`: every message to the kernel has it.
pub const REQUEST: u16 = 0x1;

/// `NLM_F_ACK`: answer also if all is well.
pub const ACK: u16 = 0x4;

/// `NLM_F_ROOT | NLM_F_MATCH`: tell everything there is.
pub const DUMP: u16 = 0x300;

/// `NLA_F_NESTED`: the value is attributes.
const NESTED: u16 = 0x8000;

/// `NLA_TYPE_MASK`: the rest of an attribute's type are flags.
const TYPE: u16 = 0x3fff;

/// The kernel fills dumps into buffers of at most 32 KiB (`netlink_dump` in `net/netlink/af_netlink.c`).
const BUFFER: usize = 32 * 1024;

/// A socket to one part of the kernel. It belongs for ever to the network namespace in which its thread was when it was
/// opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket of a protocol from [`rustix::net::netlink`]; `None` is `NETLINK_ROUTE`, whose number is zero.
    pub fn open(protocol: impl Into<Option<Protocol>>) -> Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let fd = socket_with(family, kind, SocketFlags::CLOEXEC, protocol.into())?;
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { fd, buffer: vec![0; BUFFER] })
    }

    /// Sends messages; the kernel works on them before this returns.
    pub fn send(&self, messages: &[u8]) -> Result<()> {
        retry_on_intr(|| sendto(&self.fd, messages, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)))
            .map(|_| ())
    }

    /// Waits for the next messages. Fails with `ENOBUFS` if some were lost because they came faster than they were read.
    pub fn receive(&mut self) -> Result<Messages<'_>> {
        self.read(RecvFlags::empty())
    }

    /// The messages that are there; `None` if there are none.
    pub fn try_receive(&mut self) -> Result<Option<Messages<'_>>> {
        match self.read(RecvFlags::DONTWAIT) {
            Ok(messages) => Ok(Some(messages)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Sends messages, and reads verdicts until the one on message number `last`, which asks for an [`ACK`]. The first refusal is
    /// the error. One that concerns message number 1 concerns all: a batch that is not allowed is refused at its beginning
    /// (`nfnetlink_rcv`).
    pub fn acknowledged(&mut self, messages: &[u8], last: u32) -> Result<()> {
        self.send(messages)?;
        let mut verdict = Ok(());
        loop {
            // The verdicts come while we send. If none comes, the kernel has not taken the messages for ours.
            if !self.ready()? {
                return Err(Errno::PROTO);
            }
            for message in self.receive()? {
                if let Some(answer) = message.verdict() {
                    verdict = verdict.and(answer);
                    if message.sequence == last || (message.sequence == 1 && answer.is_err()) {
                        return verdict;
                    }
                }
            }
        }
    }

    fn ready(&self) -> Result<bool> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        retry_on_intr(|| poll(&mut fds, Some(&second))).map(|ready| ready > 0)
    }

    fn read(&mut self, flags: RecvFlags) -> Result<Messages<'_>> {
        let fd = &self.fd;
        let buffer = &mut self.buffer;
        let (read, length) = retry_on_intr(|| recv(fd, &mut buffer[..], flags | RecvFlags::TRUNC))?;
        // More than the buffer holds was there, and is gone.
        if length > read { Err(Errno::MSGSIZE) } else { Ok(Messages(&self.buffer[..read])) }
    }
}

impl AsFd for Socket {
    /// Readable when there is a message (poll(2)).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is about; [`ERROR`], [`DONE`] or a number of the protocol's.
    pub kind: u16,
    /// The number of the question that it answers.
    pub sequence: u32,
    /// What it says.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// The kernel's verdict, if this is one.
    pub fn verdict(&self) -> Option<Result<()>> {
        if self.kind != ERROR {
            return None;
        }
        let code = self.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        Some(if code == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(code.wrapping_neg())) })
    }
}

/// The messages of one reading.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Reads bytes as messages; what is torn ends them.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (header, _) = self.0.split_first_chunk::<16>()?;
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let payload = self.0.get(16..length)?;
        let message = Message { kind: u16_at(header, 4)?, sequence: u32_at(header, 8)?, payload };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

/// One attribute of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// What it is, without flags.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The attributes in some bytes; what is torn ends them.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads bytes as attributes.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16_at(self.0, 0)?);
        let attribute = Attribute { kind: u16_at(self.0, 2)? & TYPE, value: self.0.get(4..length)? };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(attribute)
    }
}

/// Builds messages one after the other.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends a message; `fill` writes its payload.
    ///
    /// # Panics
    /// If it is longer than a message can be: 4 GiB.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.put(&kind.to_ne_bytes());
        self.put(&flags.to_ne_bytes());
        self.put(&sequence.to_ne_bytes());
        self.put(&[0; 4]);
        fill(self);
        let length = self.bytes.len() - start;
        let length = u32::try_from(length).expect("a message of less than 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.align();
    }

    /// Appends an attribute; `fill` writes its value.
    ///
    /// # Panics
    /// If it is longer than an attribute can be: 64 KiB.
    pub fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.put(&kind.to_ne_bytes());
        fill(self);
        let length = self.bytes.len() - start;
        let length = u16::try_from(length).expect("an attribute of less than 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.align();
    }

    /// Appends an attribute that consists of attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, fill);
    }

    /// Appends bytes as they are.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives the first message another number, to send it again.
    pub fn renumber(&mut self, sequence: u32) {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }

    /// Everything so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn align(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// The number of 32 bits at an offset, in the machine's byte order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut writer = Writer::default();
        writer.message(17, REQUEST | ACK, 42, |message| {
            message.put(b"head");
            message.attribute(1, |value| value.put(b"odd"));
            message.nested(2, |value| value.attribute(3, |inner| inner.put(&7_u32.to_ne_bytes())));
        });
        writer.message(18, REQUEST, 43, |_| {});

        let messages: Vec<_> = Messages::of(writer.as_bytes()).collect();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].kind, messages[0].sequence), (17, 42));
        assert_eq!((messages[1].kind, messages[1].payload), (18, &b""[..]));
        let (head, rest) = messages[0].payload.split_at(4);
        assert_eq!(head, b"head");
        let attributes: Vec<_> = Attributes::of(rest).collect();
        assert_eq!(attributes[0], Attribute { kind: 1, value: b"odd" });
        assert_eq!(attributes[1].kind, 2);
        let inner = Attribute { kind: 3, value: &7_u32.to_ne_bytes() };
        assert_eq!(Attributes::of(attributes[1].value).collect::<Vec<_>>(), [inner]);
    }

    #[test]
    fn torn_messages_end_the_reading_and_never_panic() {
        let mut writer = Writer::default();
        writer.message(17, REQUEST, 1, |message| message.attribute(1, |value| value.put(b"value")));
        let whole = writer.as_bytes();
        for end in 0..whole.len() {
            assert_eq!(Messages::of(&whole[..end]).count(), 0, "{end}");
        }
        // A length below the header's must not go round in circles.
        for length in 0..16_u32 {
            let mut short = whole.to_vec();
            short[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Messages::of(&short).count(), 0);
        }
        for length in 0..4_u16 {
            let mut short = [0; 8];
            short[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(Attributes::of(&short).count(), 0);
        }
    }

    #[test]
    fn a_verdict_is_an_error_number() {
        let verdict = |payload: &[u8]| Message { kind: ERROR, sequence: 0, payload }.verdict();
        assert_eq!(verdict(&0_i32.to_ne_bytes()), Some(Ok(())));
        assert_eq!(verdict(&(-2_i32).to_ne_bytes()), Some(Err(Errno::NOENT)));
        assert_eq!(Message { kind: DONE, sequence: 0, payload: b"" }.verdict(), None);
    }

    #[test]
    fn the_kernel_answers() {
        // Socket diagnostics without a body is refused, which is an answer too.
        let mut socket = Socket::open(rustix::net::netlink::SOCK_DIAG).unwrap();
        let mut writer = Writer::default();
        writer.message(20, REQUEST | ACK, 1, |_| {});
        assert_eq!(socket.acknowledged(writer.as_bytes(), 1), Err(Errno::INVAL));
    }
}
