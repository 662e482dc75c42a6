//! Listening sockets, with or without TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::StartError;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections of a listener, ready for HTTP.
pub(crate) type Incoming = ReceiverStream<std::io::Result<Connection>>;

/// A connection, plain or secured. Once it is cut, reading fails.
pub(crate) struct Connection {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The steps of a gateway's end, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// No further connections and calls; streams that never end, end.
    pub(crate) stopping: CancellationToken,
    /// The grace is over: calls that still run are answered with UNAVAILABLE.
    pub(crate) expired: CancellationToken,
    /// Connections that are still there are cut.
    pub(crate) cut: CancellationToken,
}

/// Opens a listener; `flag` sets the port on the command line.
pub(crate) async fn bind(
    address: SocketAddr,
    flag: &'static str,
) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => StartError::AddressInUse { address, flag },
        _ => StartError::Listen { address, flag, error },
    })
}

/// Accepts connections until the gateway stops. Handshakes run beside each other, so that a client that stalls holds up
/// nobody else.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>,
    ending: Ending,
) -> Incoming {
    let (accepted, connections) = tokio::sync::mpsc::channel(64);
    let acceptor = tls.map(TlsAcceptor::from);
    let Ending { stopping, cut, .. } = ending;
    tokio::spawn(async move {
        loop {
            let socket = tokio::select! {
                () = stopping.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => socket,
                    Err(error) => {
                        // Out of file descriptors, most likely: those that end make room.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let _ = socket.set_nodelay(true);
            match &acceptor {
                None => {
                    let cut = Box::pin(cut.clone().cancelled_owned());
                    let connection = Connection { stream: Either::Left(socket), cut };
                    if accepted.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Some(acceptor) => {
                    let handshake = acceptor.accept(socket);
                    let accepted = accepted.clone();
                    let (stopping, cut) = (stopping.clone(), cut.clone());
                    tokio::spawn(async move {
                        let secured = tokio::select! {
                            () = stopping.cancelled() => return,
                            secured = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => secured,
                        };
                        match secured {
                            Ok(Ok(stream)) => {
                                let stream = Either::Right(Box::new(stream));
                                let cut = Box::pin(cut.cancelled_owned());
                                let connection = Connection { stream, cut };
                                let _ = accepted.send(Ok(connection)).await;
                            }
                            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                            Err(_) => tracing::debug!("TLS handshake timed out"),
                        }
                    });
                }
            }
        }
    });
    ReceiverStream::new(connections)
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

mod io {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Connection;

    impl AsyncRead for Connection {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            if self.cut.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()));
            }
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Connection {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write(context, octets)
        }

        fn poll_flush(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[std::io::IoSlice<'_>],
        ) -> Poll<std::io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write_vectored(context, slices)
        }

        fn is_write_vectored(&self) -> bool {
            self.stream.is_write_vectored()
        }
    }
}
