//! A listening, non-blocking socket.

use crate::address::Address;
use crate::socket::{Socket, unless_blocked};
use crate::target::{Target, TargetError};
use socket2::{Domain, Protocol, Type};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Whether several sockets, of other processes too, may listen on the same port (SO_REUSEPORT).
    pub reuse_port: bool,
}

/// A socket that takes connections. A Unix socket's file goes with it.
#[derive(Debug)]
pub struct Listener {
    inner: socket2::Socket,
    address: Address,
    /// The file to remove.
    file: Option<PathBuf>,
}

impl Listener {
    /// Listens on all that `text` names: `[::]:50051` (both IPv6 and IPv4), `localhost:0`, `unix:/path`, … A port of 0 is
    /// chosen, the same for all.
    pub fn bind(text: &str, options: ListenOptions) -> io::Result<Vec<Self>> {
        let addresses = match parse(text)? {
            Target::Addresses(addresses) => addresses,
            Target::Name { host, port, .. } => {
                (host.as_str(), port).to_socket_addrs()?.map(Address::Tcp).collect()
            }
        };
        let mut listeners: Vec<Self> = Vec::new();
        let mut first_error = None;
        for mut address in addresses {
            if let Address::Tcp(tcp) = &mut address
                && tcp.port() == 0
                && let Some(port) = listeners.first().and_then(|first| first.address.port())
            {
                tcp.set_port(port);
            }
            match Self::bind_one(&address, options) {
                Ok(listener) => listeners.push(listener),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) if listeners.is_empty() => Err(error),
            _ => Ok(listeners),
        }
    }

    fn bind_one(address: &Address, options: ListenOptions) -> io::Result<Self> {
        match address {
            Address::Tcp(tcp) => match Self::bind_tcp(*tcp, options) {
                // No IPv6 here: all addresses are IPv4's.
                Err(error)
                    if tcp.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                        && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
                {
                    Self::bind_tcp(([0, 0, 0, 0], tcp.port()).into(), options)
                }
                bound => bound,
            },
            Address::Unix(path) => {
                // A server that was killed leaves its socket's file behind.
                let is_socket = |path: &PathBuf| {
                    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
                };
                if is_socket(path) {
                    std::fs::remove_file(path)?;
                }
                let inner = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
                Self::listen(inner, address, Some(path.clone()))
            }
            _ => {
                let inner = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
                Self::listen(inner, address, None)
            }
        }
    }

    fn bind_tcp(address: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let inner = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        inner.set_reuse_address(true)?;
        if options.reuse_port {
            inner.set_reuse_port(true)?;
        }
        if domain == Domain::IPV6 {
            inner.set_only_v6(!address.ip().is_unspecified())?;
        }
        Self::listen(inner, &Address::Tcp(address), None)
    }

    fn listen(
        inner: socket2::Socket,
        address: &Address,
        file: Option<PathBuf>,
    ) -> io::Result<Self> {
        inner.set_nonblocking(true)?;
        inner.bind(&address.to_sockaddr()?)?;
        inner.listen(BACKLOG)?;
        let address = match address {
            Address::Tcp(_) => Address::of(&inner.local_addr()?),
            other => other.clone(),
        };
        Ok(Self { inner, address, file })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Takes a connection. `Ok(None)`: there is none now.
    pub fn accept(&self) -> io::Result<Option<Socket>> {
        match unless_blocked(|| self.inner.accept())? {
            None => Ok(None),
            Some((socket, peer)) => Socket::accepted(socket, Address::of(&peer)).map(Some),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Somebody may have removed it before.
            let _ = std::fs::remove_file(file);
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// A server's address is written like a target, but its port is 0 where there is none.
fn parse(text: &str) -> io::Result<Target> {
    let invalid = |error: TargetError| io::Error::new(io::ErrorKind::InvalidInput, error);
    let has_no_port = !text.contains(':') || text.ends_with(']');
    match has_no_port {
        true => Target::parse(&format!("{text}:0")).map_err(invalid),
        false => Target::parse(text).map_err(invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::IoSlice;
    use std::time::{Duration, Instant};

    const OPTIONS: ListenOptions = ListenOptions { reuse_port: false };

    /// Repeats a call that has nothing to give yet.
    fn eventually<T>(mut call: impl FnMut() -> io::Result<Option<T>>) -> T {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if let Some(value) = call().unwrap() {
                return value;
            }
            std::thread::yield_now();
        }
        panic!("nothing came");
    }

    fn exchange(listener: &Listener) -> Address {
        let client = Socket::connect(listener.address()).unwrap();
        let server = eventually(|| listener.accept());
        client.finish_connect().unwrap();
        let sent = client.write(&[IoSlice::new(b"he"), IoSlice::new(b"llo")]).unwrap();
        assert_eq!(sent, Some(5));
        let mut buffer = [0; 16];
        assert_eq!(eventually(|| server.read(&mut buffer)), 5);
        assert_eq!(&buffer[..5], b"hello");
        drop(client);
        assert_eq!(eventually(|| server.read(&mut buffer)), 0);
        server.peer().clone()
    }

    #[test]
    fn tcp_over_both_families() {
        // Containers often have no IPv6.
        let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
        let texts = ["127.0.0.1:0", "[::]:0", "localhost", "[::1]:0"];
        for text in &texts[..if has_ipv6 { 4 } else { 3 }] {
            for listener in Listener::bind(text, OPTIONS).unwrap() {
                let port = listener.address().port().unwrap();
                assert_ne!(port, 0);
                let reachable = Address::Tcp(match listener.address() {
                    Address::Tcp(address) if address.ip().is_unspecified() => {
                        ([127, 0, 0, 1], port).into()
                    }
                    Address::Tcp(address) => *address,
                    other => panic!("{other}"),
                });
                let client = Socket::connect(&reachable).unwrap();
                let server = eventually(|| listener.accept());
                client.finish_connect().unwrap();
                let Address::Tcp(peer) = server.peer() else { panic!("{}", server.peer()) };
                assert!(peer.ip().is_loopback());
            }
        }
    }

    #[test]
    fn localhost_has_one_port() {
        let ports: Vec<_> = Listener::bind("localhost:0", OPTIONS)
            .unwrap()
            .iter()
            .map(|listener| listener.address().port().unwrap())
            .collect();
        assert!(ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn octets_go_both_ways_and_end() {
        let listener = Listener::bind("127.0.0.1:0", OPTIONS).unwrap().remove(0);
        assert!(matches!(exchange(&listener), Address::Tcp(_)));
    }

    #[test]
    fn unix_sockets_replace_and_remove_their_file() {
        let path = std::env::temp_dir().join(format!("oxgrpc-io-{}", std::process::id()));
        let text = format!("unix:{}", path.display());
        for _ in 0..2 {
            let listener = Listener::bind(&text, OPTIONS).unwrap().remove(0);
            assert_eq!(exchange(&listener), Address::Unnamed);
            // Left behind as by a server that was killed.
            std::mem::forget(listener);
        }
        let listener = Listener::bind(&text, OPTIONS).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn abstract_unix_sockets() {
        let text = format!("unix-abstract:oxgrpc-io-{}", std::process::id());
        let listener = Listener::bind(&text, OPTIONS).unwrap().remove(0);
        assert_eq!(listener.address().to_string(), text);
        exchange(&listener);
    }

    #[test]
    fn a_port_is_taken_once_unless_it_is_to_be_shared() {
        let listener = Listener::bind("127.0.0.1:0", OPTIONS).unwrap().remove(0);
        let text = format!("127.0.0.1:{}", listener.address().port().unwrap());
        assert!(Listener::bind(&text, OPTIONS).is_err());

        let shared = ListenOptions { reuse_port: true };
        let listener = Listener::bind("127.0.0.1:0", shared).unwrap().remove(0);
        let text = format!("127.0.0.1:{}", listener.address().port().unwrap());
        assert!(Listener::bind(&text, shared).is_ok());
    }

    #[test]
    fn a_refused_connection_is_an_error() {
        let listener = Listener::bind("127.0.0.1:0", OPTIONS).unwrap().remove(0);
        let address = listener.address().clone();
        drop(listener);
        let refused = Socket::connect(&address).and_then(|socket| {
            let until = Instant::now() + Duration::from_secs(5);
            loop {
                match socket.finish_connect() {
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                        assert!(Instant::now() < until);
                    }
                    other => return other,
                }
            }
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
