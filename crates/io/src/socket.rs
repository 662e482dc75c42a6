//! A connected, non-blocking stream socket.

use crate::address::Address;
use socket2::{Domain, Protocol, Type};
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// A stream socket that never blocks. Closed when dropped.
#[derive(Debug)]
pub struct Socket {
    inner: socket2::Socket,
    peer: Address,
}

impl Socket {
    /// Begins to connect. The connection stands, or has failed, when the socket is writable: see
    /// [`finish_connect`](Self::finish_connect).
    pub fn connect(address: &Address) -> io::Result<Self> {
        let (domain, protocol) = match address {
            Address::Tcp(address) => (Domain::for_address(*address), Some(Protocol::TCP)),
            _ => (Domain::UNIX, None),
        };
        let inner = socket2::Socket::new(domain, Type::STREAM, protocol)?;
        inner.set_nonblocking(true)?;
        if domain != Domain::UNIX {
            inner.set_tcp_nodelay(true)?;
        }
        match inner.connect(&address.to_sockaddr()?) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { inner, peer: address.clone() })
    }

    /// Whether the connection stands, once the socket is writable.
    pub fn finish_connect(&self) -> io::Result<()> {
        match self.inner.take_error()? {
            None => self.inner.peer_addr().map(drop),
            Some(error) => Err(error),
        }
    }

    /// Takes over an accepted socket.
    pub(crate) fn accepted(inner: socket2::Socket, peer: Address) -> io::Result<Self> {
        inner.set_nonblocking(true)?;
        if matches!(peer, Address::Tcp(_)) {
            inner.set_tcp_nodelay(true)?;
        }
        Ok(Self { inner, peer })
    }

    /// Gives the connection up when what was sent is not acknowledged for so long, where the system can (gRFC A18).
    pub fn set_user_timeout(&self, timeout: Duration) {
        #[cfg(target_os = "linux")]
        if let Address::Tcp(_) = self.peer {
            // A system that refuses leaves it to the PINGs.
            let _ = self.inner.set_tcp_user_timeout(Some(timeout));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = timeout;
    }

    /// The other end.
    pub fn peer(&self) -> &Address {
        &self.peer
    }

    /// Reads what is there. `Ok(None)`: nothing now; `Ok(Some(0))`: the end.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        unless_blocked(|| (&self.inner).read(buffer))
    }

    /// Writes as much as there is room for. `Ok(None)`: nothing now.
    pub fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        // A peer that has gone away is an error, not a signal.
        let flags = libc::MSG_NOSIGNAL;
        match slices {
            [slice] => unless_blocked(|| self.inner.send_with_flags(slice, flags)),
            _ => unless_blocked(|| self.inner.send_vectored_with_flags(slices, flags)),
        }
    }

    /// Tells the peer that nothing more comes.
    pub fn shut_down_write(&self) {
        // The peer may be gone, which is as good.
        let _ = self.inner.shutdown(Shutdown::Write);
    }

    /// Ends both directions without closing the socket: whoever waits for it sees the end. Safe from any thread.
    pub fn shut_down(&self) {
        let _ = self.inner.shutdown(Shutdown::Both);
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// Repeats what a signal interrupted; `None` where the call would block.
pub(crate) fn unless_blocked<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
