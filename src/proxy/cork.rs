//! A connection to a server that can hold back what is written to it for a moment, so that a request's header
//! section leaves with its body: one system call instead of two, and one packet where both are small. The
//! framework sends and flushes the header section before it is given a byte of the body.
//!
//! Invariant: bytes leave in the order in which they were written, and all of them with the next flush after
//! [`release`]. Cost: a copy of the header section, freed once it has gone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora_core::protocols::{Peek, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::delegate::delegate;

/// A stream that holds back what is written while it is corked.
#[derive(Debug)]
pub(super) struct Corked {
    inner: Stream,
    is_corked: AtomicBool,
    held: BytesMut,
}

impl Corked {
    /// Wraps `inner`, uncorked.
    pub(super) fn new(inner: Stream) -> Self {
        Self { inner, is_corked: AtomicBool::new(false), held: BytesMut::new() }
    }

    /// Whether `stream` can hold back.
    pub(super) fn is(stream: &Stream) -> bool {
        (**stream).as_any().is::<Self>()
    }

    fn send_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.held))?;
            self.forget(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives up the first `written` bytes of what is held.
    fn forget(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held.advance(written);
        if self.held.is_empty() {
            // Idle connections and long streams need no buffer.
            self.held = BytesMut::new();
        }
        Ok(())
    }
}

/// From now on `stream` holds back what is written, if it can.
pub(super) fn hold(stream: &Stream) {
    set(stream, true);
}

/// What `stream` holds back goes with the next write or flush.
pub(super) fn release(stream: &Stream) {
    set(stream, false);
}

fn set(stream: &Stream, is_corked: bool) {
    if let Some(corked) = (**stream).as_any().downcast_ref::<Corked>() {
        corked.is_corked.store(is_corked, Ordering::Relaxed);
    }
}

impl AsyncWrite for Corked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if *this.is_corked.get_mut() {
            this.held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        while !this.held.is_empty() {
            // Where the stream cannot write two pieces at once, it writes the first.
            let both = [IoSlice::new(&this.held), IoSlice::new(buf)];
            let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, &both))?;
            let of_held = written.min(this.held.len());
            this.forget(of_held)?;
            if written > of_held {
                return Poll::Ready(Ok(written - of_held));
            }
        }
        Pin::new(&mut this.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if *this.is_corked.get_mut() {
            return Poll::Ready(Ok(()));
        }
        ready!(this.send_held(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A connection that is shut down over an unsent header section has nothing to say.
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl AsyncRead for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

delegate!(Corked);

impl Peek for Corked {}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\n\r\n";

    #[tokio::test]
    async fn nothing_leaves_while_it_is_held() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut stream: Stream = Box::new(Corked::new(Box::new(near)));
        hold(&stream);
        stream.write_all(HEAD).await.expect("it is held");
        stream.flush().await.expect("a flush waits for the release");
        let mut got = [0; 64];
        assert!(far.read(&mut got).now_or_never().is_none(), "bytes left while they were held");
        release(&stream);
        stream.write_all(b"body").await.expect("there is room");
        let read = far.read(&mut got).await.expect("it is open");
        assert_eq!(&got[..read], b"POST / HTTP/1.1\r\n\r\nbody");
    }

    #[tokio::test]
    async fn a_flush_sends_what_was_held() {
        let (near, mut far) = tokio::io::duplex(1024);
        let mut stream: Stream = Box::new(Corked::new(Box::new(near)));
        hold(&stream);
        stream.write_all(HEAD).await.expect("it is held");
        release(&stream);
        stream.flush().await.expect("there is room");
        let mut got = [0; 64];
        let read = far.read(&mut got).await.expect("it is open");
        assert_eq!(&got[..read], HEAD);
    }

    #[tokio::test]
    async fn order_and_bytes_survive_a_stream_that_takes_little() {
        let body: Vec<u8> = (0..1000_u16).map(|at| (at % 251) as u8).collect();
        for room in [1, 2, HEAD.len() - 1, HEAD.len(), HEAD.len() + 1, 64, 4096] {
            let (near, mut far) = tokio::io::duplex(room);
            let mut stream: Stream = Box::new(Corked::new(Box::new(near)));
            let write = async {
                for _ in 0..2 {
                    hold(&stream);
                    stream.write_all(HEAD).await.expect("it is held");
                    release(&stream);
                    stream.write_all(&body).await.expect("the other side reads");
                    stream.flush().await.expect("the other side reads");
                }
                drop(stream);
            };
            let mut got = Vec::new();
            let (read, ()) = tokio::join!(far.read_to_end(&mut got), write);
            read.expect("it ends");
            let once = [HEAD, &body].concat();
            assert_eq!(got, [&once[..], &once].concat(), "room for {room}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_takes_no_more_is_an_error() {
        let (near, far) = tokio::io::duplex(1024);
        let mut stream: Stream = Box::new(Corked::new(Box::new(near)));
        hold(&stream);
        stream.write_all(HEAD).await.expect("it is held");
        drop(far);
        release(&stream);
        let error = stream.write_all(b"body").await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
