//! A host's channel, and a count of the connections that it has lost.
//!
//! A lost connection means that the host may have been replaced by another version of itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::registry::Target;

/// What a channel tells about its connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    lost: AtomicU64,
    /// Notified when a connection is lost.
    pub(super) changed: Notify,
}

impl Connections {
    /// Returns how many connections were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }
}

/// Opens a channel that connects when it is used.
pub(super) fn channel(
    target: &Target,
    connect_timeout: Duration,
    connections: &Arc<Connections>,
) -> Result<Channel, String> {
    let scheme = if target.tls { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{target}"))
        .map_err(|error| format!("{target} is not an address: {error}"))?
        .connect_timeout(connect_timeout)
        .http2_keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(30))
        .tcp_nodelay(true);
    if target.tls {
        let mut tls = ClientTlsConfig::new().domain_name(target.host.clone());
        tls = match &target.authority {
            None => return Err(format!("TLS to {target} needs an authority")),
            Some(path) => {
                let pem = std::fs::read(path)
                    .map_err(|error| format!("authority {}: {error}", path.display()))?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
        };
        endpoint = endpoint.tls_config(tls).map_err(|error| format!("TLS to {target}: {error}"))?;
    }
    let (host, port) = (target.host.clone(), target.port);
    let connections = connections.clone();
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (host, connections) = (host.clone(), connections.clone());
        async move {
            let socket = TcpStream::connect((host.as_str(), port)).await?;
            socket.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(Connection { socket, connections }))
        }
    })))
}

/// A socket whose end is counted.
struct Connection {
    socket: TcpStream,
    connections: Arc<Connections>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.lost.fetch_add(1, Ordering::Release);
        self.connections.changed.notify_waiters();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, octets)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
