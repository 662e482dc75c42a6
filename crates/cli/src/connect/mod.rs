//! A connection to a gRPC server: name resolution, TCP, TLS, HTTP/2, each step marked and timed.
//!
//! hyper carries HTTP/2; the steps below it are ours, because a failure must be told by the step that failed and by what the peer
//! sent instead ([`diagnosis`]). A connection counts as established when the server's SETTINGS have come.

mod diagnosis;
mod observed;
pub(crate) mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Uri};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use crate::address::{Address, Place};
use crate::failure::Failure;
use crate::trace::Trace;
use diagnosis::{Broken, Stage};
use observed::{Observed, Seen};
use tls::TlsOptions;

/// The octets of a SETTINGS frame's header.
const FRAME_HEADER: usize = 9;
/// How much earlier one address is tried than the next (RFC 8305 section 8).
const ADDRESS_DELAY: Duration = Duration::from_millis(250);

/// A server, and how to speak to it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: Address,
    /// `None` for plaintext.
    pub(crate) tls: Option<TlsOptions>,
    /// The `:authority` of requests, and the name in the server's certificate unless `servername` says otherwise.
    pub(crate) authority: Option<String>,
    /// The name in the server's certificate.
    pub(crate) servername: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) user_agent: HeaderValue,
}

impl Target {
    /// The name that the server's certificate must be made out to.
    fn expected_name(&self) -> &str {
        let authority = self.authority.as_deref().map(|authority| {
            let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
            host.trim_start_matches('[').trim_end_matches(']')
        });
        self.servername.as_deref().or(authority).unwrap_or(self.address.host())
    }

    /// Scheme and authority of requests.
    fn origin(&self) -> Result<Uri, Failure> {
        let authority = self.authority.clone().unwrap_or_else(|| self.address.authority());
        Uri::builder()
            .scheme(if self.tls.is_some() { "https" } else { "http" })
            .authority(authority.as_str())
            .path_and_query("/")
            .build()
            .map_err(|_| Failure::usage(format!("--authority {authority} is not an authority")))
    }
}

/// Requests over one HTTP/2 connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    origin: Uri,
    user_agent: HeaderValue,
}

impl tower_service::Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let headers = request.headers_mut();
        headers.entry(http::header::USER_AGENT).or_insert_with(|| self.user_agent.clone());
        // tonic gives the path alone; HTTP/2 sends scheme and authority with it.
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        Box::pin(self.sender.send_request(request))
    }
}

impl Connection {
    /// Connects, within the target's time limit; a failure names its cause and the flag that cures it.
    pub(crate) async fn open(target: &Target, trace: &Trace) -> Result<Self, Failure> {
        let origin = target.origin()?;
        let stage = std::cell::Cell::new(Stage::Resolve);
        let attempt = connect(target, trace, &stage);
        match tokio::time::timeout(target.connect_timeout, attempt).await {
            Ok(Ok(sender)) => Ok(Self { sender, origin, user_agent: target.user_agent.clone() }),
            Ok(Err(Error::Failure(failure))) => Err(failure),
            Ok(Err(Error::Broken(broken))) => Err(diagnosis::explain(target, *broken).await),
            Err(_) => Err(diagnosis::timed_out(target, stage.get())),
        }
    }
}

enum Error {
    Failure(Failure),
    Broken(Box<Broken>),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        Self::Broken(Box::new(broken))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(
    target: &Target,
    trace: &Trace,
    stage: &std::cell::Cell<Stage>,
) -> Result<SendRequest<Body>, Error> {
    let (raw, peer) = dial(target, trace, stage).await?;
    let (raw, wire) = Observed::new(raw);
    let Some(options) = &target.tls else {
        stage.set(Stage::Http2);
        return handshake(target, Box::new(raw), trace, Broken::new(Stage::Http2, peer, wire))
            .await;
    };
    stage.set(Stage::Tls);
    let (config, certificate) = tls::client_config(options)?;
    let name = ServerName::try_from(target.expected_name().to_owned()).map_err(|_| {
        Failure::usage(format!(
            "`{}` cannot be the name in a certificate; give one with --servername",
            target.expected_name()
        ))
    })?;
    let mut broken = Broken::new(Stage::Tls, peer, wire);
    broken.certificate = Some(certificate);
    match TlsConnector::from(config).connect(name, raw).await {
        Err(error) => {
            broken.tls_error = observed::tls_error(&error);
            broken.error = Some(error.to_string());
            Err(broken.into())
        }
        Ok(stream) => {
            let session = stream.get_ref().1;
            trace.mark("tls", || {
                let alpn = session.alpn_protocol().map_or("none".into(), String::from_utf8_lossy);
                format!("{:?}, ALPN {alpn}", session.protocol_version())
            });
            stage.set(Stage::Http2);
            broken.stage = Stage::Http2;
            handshake(target, Box::new(stream), trace, broken).await
        }
    }
}

/// HTTP/2's prefaces.
async fn handshake(
    target: &Target,
    stream: Box<dyn Stream>,
    trace: &Trace,
    mut broken: Broken,
) -> Result<SendRequest<Body>, Error> {
    let (stream, seen) = Observed::new(stream);
    broken.inner = seen.clone();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_header_list_size(1 << 20)
        .keep_alive_interval(target.keepalive);
    let (sender, connection) = match builder.handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(error) => {
            broken.error = Some(error.to_string());
            return Err(broken.into());
        }
    };
    let mut connection = tokio::spawn(connection);
    tokio::select! {
        () = seen.wait_for(FRAME_HEADER) => {}
        // Where writing fails, nothing is read any more.
        ended = &mut connection => {
            if let Ok(Err(error)) = ended {
                broken.error = Some(error.to_string());
            }
        }
    }
    if diagnosis::Spoken::of(&seen.octets()) == diagnosis::Spoken::Http2 {
        trace.mark("http2", || "the server's SETTINGS have come".into());
        return Ok(sender);
    }
    drop(sender);
    connection.abort();
    broken.tls_error = seen.tls_error();
    broken.error = seen.error().or(broken.error);
    Err(broken.into())
}

/// A connected socket, and where it leads.
async fn dial(
    target: &Target,
    trace: &Trace,
    stage: &std::cell::Cell<Stage>,
) -> Result<(Box<dyn Stream>, Place), Error> {
    let (host, port) = match &target.address.place {
        Place::Unix(path) => {
            stage.set(Stage::Tcp);
            let stream = UnixStream::connect(path)
                .await
                .map_err(|error| diagnosis::refused(target, &error))?;
            trace.mark("connect", || target.address.to_string());
            return Ok((Box::new(stream), target.address.place.clone()));
        }
        Place::Tcp { host, port } => (host, *port),
    };
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Err(diagnosis::unresolved(host, &error).into()),
    };
    trace.mark("resolve", || {
        let texts: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
        texts.join(", ")
    });
    stage.set(Stage::Tcp);
    let (stream, address) =
        race(&addresses).await.map_err(|error| diagnosis::refused(target, &error))?;
    trace.mark("connect", || address.to_string());
    Ok((Box::new(stream), Place::Tcp { host: address.ip().to_string(), port }))
}

/// The first of `addresses` that connects; each is tried a little after the one before it, or once that has failed.
async fn race(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let mut waiting = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut first_error = None;
    loop {
        match waiting.next() {
            Some(address) => attempts.push(async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok((stream, address))
            }),
            None if attempts.is_empty() => {
                return Err(first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into()));
            }
            None => {}
        }
        let delay = if waiting.len() == 0 { Duration::MAX } else { ADDRESS_DELAY };
        match tokio::time::timeout(delay, attempts.next()).await {
            Ok(Some(Ok(connected))) => return Ok(connected),
            Ok(Some(Err(error))) => first_error = first_error.or(Some(error)),
            Ok(None) | Err(_) => {}
        }
    }
}

impl Broken {
    fn new(stage: Stage, peer: Place, wire: Arc<Seen>) -> Self {
        Self {
            stage,
            peer,
            inner: wire.clone(),
            wire,
            certificate: None,
            tls_error: None,
            error: None,
        }
    }
}
