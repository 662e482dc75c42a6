//! What a connection reads and writes: a socket as it is, or TLS over one.
//!
//! Both have the face of [`Socket`]. TLS adds two things that a socket does not have: octets of its own that wait for
//! the socket (a handshake, the rest of a record), and a handshake before which nothing of the caller's goes out.

use crate::address::Address;
use crate::socket::Socket;
use crate::tls::{Handshake, TlsStream};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// A non-blocking stream of octets. Closed when dropped.
#[derive(Debug)]
pub enum Stream {
    /// The socket itself.
    Plain(Socket),
    /// TLS over a socket.
    Tls(Box<TlsStream>),
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Self {
        Self::Plain(socket)
    }
}

impl Stream {
    /// The other end.
    pub fn peer(&self) -> &Address {
        self.socket().peer()
    }

    /// Reads what is there. `Ok(None)`: nothing now; `Ok(Some(0))`: the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }

    /// Whether a read that gave `len` octets for a room of `room` has left nothing behind, as far as is known.
    pub fn is_drained(&self, len: usize, room: usize) -> bool {
        match self {
            Self::Plain(_) => len < room,
            Self::Tls(tls) => tls.is_drained(),
        }
    }

    /// Takes as much as there is room for. `Ok(None)`: nothing now; see [`is_blocked`](Self::is_blocked) for why.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        match self {
            Self::Plain(socket) => socket.write(slices),
            Self::Tls(tls) => tls.write(slices),
        }
    }

    /// Begins, or goes on with, what TLS itself has to say. `true`: the socket takes no more of it now.
    pub fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Plain(_) => Ok(false),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Whether a write that took nothing waits for the socket. TLS may wait for its peer instead.
    pub fn is_blocked(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => tls.is_blocked(),
        }
    }

    /// Whether something that the socket has not taken waits here.
    pub fn has_pending(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.is_blocked(),
        }
    }

    /// Whether something can be read that the socket knows nothing of.
    pub fn has_buffered(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_buffered(),
        }
    }

    /// Whether a read that gave nothing has taken something off the socket, since this was asked last.
    pub fn take_heard(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.take_heard(),
        }
    }

    /// What the handshake came to, once it has ended; `None` where there is none.
    pub fn handshake(&self) -> Option<&Arc<Handshake>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.handshake(),
        }
    }

    /// Tells the peer that nothing more comes, and that nothing was cut off.
    pub fn shut_down_write(&mut self) {
        self.say_goodbye();
        self.socket().shut_down_write();
    }

    /// Says that what comes to its end here was not cut off (RFC 8446 §6.1).
    pub fn say_goodbye(&mut self) {
        if let Self::Tls(tls) = self {
            tls.close_notify();
        }
    }

    /// Ends both directions without closing the socket: whoever waits for it sees the end. Safe from any thread.
    pub fn shut_down(&self) {
        self.socket().shut_down();
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}
