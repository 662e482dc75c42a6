//! Where a socket can be: an IP address with a port, or a Unix socket's name.

use socket2::SockAddr;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An address that needs no further look-up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket in the file system.
    Unix(PathBuf),
    /// A Unix socket in Linux's abstract name space.
    UnixAbstract(Vec<u8>),
    /// The nameless end of a Unix socket: a client's.
    Unnamed,
}

impl Address {
    pub(crate) fn of(address: &SockAddr) -> Self {
        if let Some(address) = address.as_socket() {
            return Self::Tcp(unmap(address));
        }
        if let Some(path) = address.as_pathname() {
            return Self::Unix(path.to_owned());
        }
        match address.as_abstract_namespace() {
            Some(name) => Self::UnixAbstract(name.to_vec()),
            None => Self::Unnamed,
        }
    }

    pub(crate) fn to_sockaddr(&self) -> io::Result<SockAddr> {
        match self {
            Self::Tcp(address) => Ok((*address).into()),
            Self::Unix(path) => SockAddr::unix(path),
            Self::UnixAbstract(name) => {
                let name = [&b"\0"[..], name].concat();
                SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(&name)))
            }
            Self::Unnamed => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The IP address of a TCP address.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            _ => None,
        }
    }

    /// The port of a TCP address.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            _ => None,
        }
    }
}

/// An IPv4 client of a dual-stack socket is an IPv4 client.
fn unmap(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => (ip, address.port()).into(),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

/// As gRPC writes a peer: `ipv4:127.0.0.1:80`, `ipv6:%5B::1%5D:80`, `unix:/path`, `unix-abstract:name`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(SocketAddr::V4(address)) => write!(f, "ipv4:{address}"),
            Self::Tcp(SocketAddr::V6(address)) => {
                write!(f, "ipv6:%5B{}", address.ip())?;
                if address.scope_id() != 0 {
                    write!(f, "%25{}", address.scope_id())?;
                }
                write!(f, "%5D:{}", address.port())
            }
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => {
                write!(f, "unix-abstract:{}", String::from_utf8_lossy(name))
            }
            Self::Unnamed => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Address {
        Address::Tcp(text.parse().unwrap())
    }

    #[test]
    fn peers_are_written_as_grpc_does() {
        assert_eq!(tcp("127.0.0.1:80").to_string(), "ipv4:127.0.0.1:80");
        assert_eq!(tcp("[::1]:80").to_string(), "ipv6:%5B::1%5D:80");
        assert_eq!(Address::Unix("/a/b".into()).to_string(), "unix:/a/b");
        assert_eq!(Address::UnixAbstract(b"n".to_vec()).to_string(), "unix-abstract:n");
    }

    #[test]
    fn mapped_clients_are_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:5".parse().unwrap();
        assert_eq!(Address::of(&mapped.into()), tcp("10.0.0.1:5"));
    }
}
