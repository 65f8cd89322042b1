//! A connection that is waited for, whoever has it: hyper, or after an upgrade the handler.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::conversation::{Conversation, Who};
use crate::tasks::{Guard, Stage};

/// How long somebody may go on sending who was answered before he was at the end. As nginx: `lingering_timeout` is 5 s there, and
/// starts again with every byte.
const LINGER: Duration = Duration::from_secs(2);

/// The stream with its guard. When it is cut every read and write fails, and so whoever has it ends.
pub(super) struct Connection<I> {
    io: TokioIo<I>,
    conversation: Arc<Conversation>,
    _guard: Guard,
    lingers: Option<Pin<Box<Sleep>>>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    pub(super) fn new(io: I, guard: Guard, conversation: Arc<Conversation>) -> Self {
        Self { io: TokioIo::new(io), conversation, _guard: guard, lingers: None }
    }

    fn check(&self) -> io::Result<()> {
        let is_cut = self.conversation.has_heard(Stage::Cut);
        if is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// What the stream has to say, unless the connection is cut; whoever has to wait is woken also when it is.
    fn unless_cut<T>(
        &mut self,
        who: Who,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TokioIo<I>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.check()?;
        let polled = poll(Pin::new(&mut self.io), context);
        if polled.is_pending() {
            self.conversation.wake_me(who, context);
            self.check()?;
        }
        polled
    }

    /// Reads what nobody wants until the client has heard the answer and closes, or its time is up.
    ///
    /// Who is answered in the middle of an upload goes on sending. If the socket is closed before that is read, the kernel sends
    /// a reset (tcp(7); RFC 9112, 9.6), and the reset throws away the answer that the client has not read.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut discarded = [const { MaybeUninit::uninit() }; 4096];
        loop {
            if let Some(lingers) = &mut self.lingers
                && lingers.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::uninit(&mut discarded);
            match Pin::new(self.io.inner_mut()).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingers.get_or_insert_with(|| Box::pin(sleep(LINGER)));
                }
                Poll::Pending if self.lingers.is_some() => return Poll::Pending,
                // It has closed, or nothing is on its way, as far as we can see.
                Poll::Ready(_) | Poll::Pending => return Poll::Ready(()),
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Read for Connection<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.unless_cut(Who::Reader, context, |io, context| io.poll_read(context, into))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Write for Connection<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_cut(Who::Writer, context, |io, context| io.poll_write(context, from))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cut(Who::Writer, context, Write::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingers.is_none() {
            ready!(self.unless_cut(Who::Writer, context, Write::poll_shutdown))?;
        }
        self.poll_linger(context).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unless_cut(Who::Writer, context, |io, context| io.poll_write_vectored(context, from))
    }
}
