//! A stream that remembers the first octets that its peer sent, and how reading ended.
//!
//! They say what the peer speaks when it is not what was expected, and that a gRPC server is there at all: an HTTP/2 server
//! begins with SETTINGS (RFC 9113 section 3.4), which the client's handshake does not wait for.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Octets that are enough to recognise any protocol: a frame header of HTTP/2 has 9, a status line of HTTP/1 more.
const ENOUGH: usize = 64;

/// What has been seen of a peer.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    octets: Vec<u8>,
    ended: bool,
    alert: Option<rustls::Error>,
    error: Option<String>,
}

impl Seen {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The first octets that the peer sent.
    pub(crate) fn octets(&self) -> Vec<u8> {
        self.state().octets.clone()
    }

    /// The TLS error that ended reading.
    pub(crate) fn tls_error(&self) -> Option<rustls::Error> {
        self.state().alert.clone()
    }

    /// The error that ended reading, in words.
    pub(crate) fn error(&self) -> Option<String> {
        self.state().error.clone()
    }

    /// Waits until `octets` octets have come, or no more will.
    pub(crate) async fn wait_for(&self, octets: usize) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change is missed between the two.
            changed.as_mut().enable();
            {
                let state = self.state();
                if state.octets.len() >= octets || state.ended {
                    return;
                }
            }
            changed.await;
        }
    }

    fn note(&self, result: &Poll<io::Result<()>>, new: &[u8]) -> bool {
        let mut state = self.state();
        match result {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => {
                let room = ENOUGH - state.octets.len();
                state.octets.extend_from_slice(&new[..new.len().min(room)]);
                state.ended |= new.is_empty();
            }
            Poll::Ready(Err(error)) => {
                state.ended = true;
                state.alert = tls_error(error);
                state.error = Some(error.to_string());
            }
        }
        let done = state.ended || state.octets.len() == ENOUGH;
        drop(state);
        self.changed.notify_waiters();
        done
    }
}

/// The TLS error within an IO error.
pub(crate) fn tls_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

/// A stream under observation.
#[derive(Debug)]
pub(crate) struct Observed<S> {
    inner: S,
    seen: Arc<Seen>,
    done: bool,
}

impl<S> Observed<S> {
    pub(crate) fn new(inner: S) -> (Self, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        (Self { inner, seen: seen.clone(), done: false }, seen)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if !self.done || matches!(result, Poll::Ready(Err(_))) {
            self.done = self.seen.note(&result, &buffer.filled()[before..]);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
