//! A connection that is waited for, whoever has it: hyper, or after an upgrade the handler.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::tasks::Guard;

/// How long somebody may go on sending who was answered before he was at the end. As nginx: `lingering_timeout` is 5 s there, and
/// starts again with every byte.
const LINGER: Duration = Duration::from_secs(2);

/// The stream with its guard. When it is cut every read and write fails, and so whoever has it ends.
pub(super) struct Connection<I> {
    io: TokioIo<I>,
    _guard: Guard,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    is_cut: bool,
    lingers: Option<Pin<Box<Sleep>>>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Connection<I> {
    pub(super) fn new(io: I, guard: Guard, cut: CancellationToken) -> Self {
        let io = TokioIo::new(io);
        Self { io, _guard: guard, cut: Box::pin(cut.cancelled_owned()), is_cut: false, lingers: None }
    }

    /// Fails if it is cut, and else has the task woken when it is.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(context).is_ready();
        if self.is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Reads what nobody wants until the client has heard the answer and closes, or its time is up.
    ///
    /// Who is answered in the middle of an upload goes on sending. If the socket is closed before that is read, the kernel sends
    /// a reset (tcp(7); RFC 9112, 9.6), and the reset throws away the answer that the client has not read.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut discarded = [0; 4096];
        loop {
            if let Some(lingers) = &mut self.lingers
                && lingers.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(());
            }
            let mut buffer = ReadBuf::new(&mut discarded);
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
        self.check(context)?;
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Write for Connection<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        if self.lingers.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
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
        self.check(context)?;
        Pin::new(&mut self.io).poll_write_vectored(context, from)
    }
}
