//! Why a connection failed, and the flag that cures it.
//!
//! The evidence is the step that failed, the error, and the first octets that the peer sent. Where these do not suffice,
//! because the peer closed without a word, one more connection asks it in another protocol ([`ask`]).

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::observed::Seen;
use super::tls::{ClientCertificate, TlsOptions, client_config};
use super::{Stream, Target};
use crate::address::Place;
use crate::failure::Failure;

/// How long a peer has to answer a question that is only asked to explain a failure.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(300);

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Resolve,
    Tcp,
    Tls,
    Http2,
}

/// A connection that failed after it was connected.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) stage: Stage,
    pub(crate) peer: Place,
    /// What came over the socket.
    pub(crate) wire: Arc<Seen>,
    /// What came out of TLS, or over the socket where there is none.
    pub(crate) inner: Arc<Seen>,
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    pub(crate) tls_error: Option<rustls::Error>,
    pub(crate) error: Option<String>,
}

/// What a peer speaks, by its first octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Nothing,
    Http1,
    Http2,
    Tls,
    Other,
}

impl Spoken {
    pub(crate) fn of(octets: &[u8]) -> Self {
        match octets {
            [] => Self::Nothing,
            // Records of alerts and of the handshake; the version's first octet is 3 in every TLS.
            [0x15 | 0x16, 3, ..] => Self::Tls,
            [b'H', b'T', b'T', b'P', b'/', b'1', ..] => Self::Http1,
            // SETTINGS on stream 0, or GOAWAY, which some servers send without it.
            [0, _, _, 4 | 7, _, 0, 0, 0, 0, ..] => Self::Http2,
            _ => Self::Other,
        }
    }
}

/// Nothing was found under the name.
pub(super) fn unresolved(host: &str, error: &io::Error) -> Failure {
    Failure::connection(format!("the name {host} cannot be resolved: {error}"))
        .hint("check the name; an address can be given instead, with the name as --authority")
}

/// The socket could not be connected.
pub(super) fn refused(target: &Target, error: &io::Error) -> Failure {
    let address = &target.address;
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            Failure::connection(format!("nothing listens on {address} (connection refused)"))
                .hint("start the server, or give the address it listens on")
        }
        ErrorKind::NotFound => Failure::connection(format!("{address} does not exist"))
            .hint("start the server, or give the address it listens on"),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            Failure::connection(format!("no route leads to {address}: {error}"))
                .hint("check the address, the network and the VPN")
        }
        ErrorKind::TimedOut => timed_out(target, Stage::Tcp),
        _ => Failure::connection(format!("{address} cannot be connected to: {error}")),
    }
}

/// `--connect-timeout` is over.
pub(super) fn timed_out(target: &Target, stage: Stage) -> Failure {
    let address = &target.address;
    let limit = format!("--connect-timeout is {:?}", target.connect_timeout);
    let longer = "check the address and port; for a slow network raise --connect-timeout SECONDS";
    match stage {
        Stage::Resolve => Failure::connection(format!(
            "the name {} was not resolved in time ({limit})",
            address.host()
        ))
        .hint("check the name and the name server, or give an address"),
        Stage::Tcp => Failure::connection(format!(
            "{address} does not answer: no TCP connection in time ({limit})"
        ))
        .hint(format!("a firewall may drop the packets: {longer}")),
        Stage::Tls | Stage::Http2 => Failure::connection(format!(
            "{address} accepted the connection and then sent nothing ({limit}): \
             no gRPC server answers on this port"
        ))
        .hint(longer),
    }
}

/// Explains a connection that was made and then failed.
pub(super) async fn explain(target: &Target, broken: Broken) -> Failure {
    let failure = match broken.stage {
        Stage::Tls => explain_tls(target, &broken).await,
        _ => explain_http2(target, &broken).await,
    };
    failure.unwrap_or_else(|| {
        let what = match (&broken.tls_error, &broken.error) {
            (Some(error), _) => format!("TLS failed: {error}"),
            (None, Some(error)) => error.clone(),
            (None, None) => "it closed the connection before it said anything".to_owned(),
        };
        Failure::connection(format!(
            "{} is not a gRPC server that can be used: {what}",
            target.address
        ))
        .hint("-v shows how far the connection came")
    })
}

/// The TLS handshake failed.
async fn explain_tls(target: &Target, broken: &Broken) -> Option<Failure> {
    let address = &target.address;
    match Spoken::of(&broken.wire.octets()) {
        Spoken::Http2 => return Some(plaintext(target)),
        Spoken::Http1 => return Some(plaintext_http1(target, broken).await),
        Spoken::Tls => {}
        Spoken::Nothing | Spoken::Other => {
            return match ask(&broken.peer, Question::Http2).await {
                Spoken::Http2 => Some(plaintext(target)),
                Spoken::Http1 => Some(plaintext_http1(target, broken).await),
                _ => match ask(&broken.peer, Question::Http1).await {
                    Spoken::Http1 => Some(http1(target)),
                    _ => None,
                },
            };
        }
    }
    use rustls::Error as E;
    Some(match broken.tls_error.as_ref()? {
        E::InvalidCertificate(
            error @ (CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }),
        ) => {
            let names = match error {
                CertificateError::NotValidForNameContext { presented, .. }
                    if !presented.is_empty() =>
                {
                    format!("it is made out to {}", presented.join(", "))
                }
                _ => "it is made out to another name".to_owned(),
            };
            Failure::connection(format!(
                "the certificate of {address} is not for `{}`: {names}",
                target.expected_name()
            ))
            .hint("--servername NAME expects another name, --authority NAME also sends it as the host")
        }
        E::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            let tls = target.tls.as_ref();
            let known = match tls.and_then(|tls| tls.cacert.as_ref()) {
                Some(path) => format!("{} does not hold the authority", path.display()),
                None => "this system does not know the authority".to_owned(),
            };
            Failure::connection(format!("the certificate of {address} is not trusted: {known} that signed it"))
                .hint("--cacert FILE trusts the authority in FILE; --insecure trusts anybody")
        }
        E::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            Failure::connection(format!(
                "the certificate of {address} is an authority's own, which no server may show"
            ))
            .hint("give the server a certificate that the authority signed; --insecure trusts anybody")
        }
        E::InvalidCertificate(error) => {
            Failure::connection(format!("the certificate of {address} is not valid: {error}"))
                .hint("--insecure accepts it all the same")
        }
        E::AlertReceived(AlertDescription::NoApplicationProtocol) => http1(target),
        _ => client_certificate(target, broken)?,
    })
}

/// HTTP/2 did not begin.
async fn explain_http2(target: &Target, broken: &Broken) -> Option<Failure> {
    let spoken = Spoken::of(&broken.inner.octets());
    if target.tls.is_some() {
        if let Some(failure) = client_certificate(target, broken) {
            return Some(failure);
        }
        return (spoken != Spoken::Nothing).then(|| http1(target));
    }
    match spoken {
        Spoken::Tls => return Some(wants_tls(target)),
        Spoken::Http1 => return Some(http1(target)),
        _ => {}
    }
    if ask(&broken.peer, Question::Tls).await == Spoken::Tls {
        return Some(wants_tls(target));
    }
    (ask(&broken.peer, Question::Http1).await == Spoken::Http1).then(|| http1(target))
}

fn plaintext(target: &Target) -> Failure {
    Failure::connection(format!(
        "{} does not speak TLS: it answers in plaintext HTTP/2",
        target.address
    ))
    .hint("--plaintext connects without TLS")
}

/// An answer in HTTP/1 to TLS: a server of both versions answers so as well, so ask it.
async fn plaintext_http1(target: &Target, broken: &Broken) -> Failure {
    match ask(&broken.peer, Question::Http2).await {
        Spoken::Http2 => plaintext(target),
        _ => http1(target),
    }
}

fn wants_tls(target: &Target) -> Failure {
    Failure::connection(format!("{} wants TLS, and --plaintext was asked for", target.address))
        .hint("leave out --plaintext (--tls overrides a profile); --cacert FILE or --insecure if its authority is unknown")
}

fn http1(target: &Target) -> Failure {
    Failure::connection(format!(
        "{} is an HTTP/1 server: gRPC needs HTTP/2, and it does not offer it",
        target.address
    ))
    .hint("give the server's gRPC port; a proxy before it must pass HTTP/2 on (the gateway: --grpc-port, 5002)")
}

/// The server asked for a client certificate and then ended the connection.
fn client_certificate(target: &Target, broken: &Broken) -> Option<Failure> {
    let certificate = broken.certificate.as_ref()?;
    let address = &target.address;
    if !certificate.asked() {
        return None;
    }
    if certificate.is_given() {
        let error =
            broken.tls_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        return Some(
            Failure::connection(format!(
                "{address} refused the client certificate of --cert{error}"
            ))
            .hint("the certificate must be signed by an authority that the server trusts"),
        );
    }
    Some(
        Failure::connection(format!("{address} wants a client certificate, and none was given"))
            .hint("--cert FILE and --key FILE give one"),
    )
}

/// What to say to a peer that closed without a word.
#[derive(Clone, Copy, Debug)]
enum Question {
    Http2,
    Http1,
    Tls,
}

/// Connects again, says something in another protocol and returns what the peer answers in.
async fn ask(peer: &Place, question: Question) -> Spoken {
    let asking = async {
        let mut stream: Box<dyn Stream> = match peer {
            Place::Tcp { host, port } => {
                Box::new(TcpStream::connect((host.as_str(), *port)).await?)
            }
            Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        let octets = match question {
            // The preface and empty SETTINGS: RFC 9113 section 3.4.
            Question::Http2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
            Question::Http1 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            Question::Tls => client_hello(),
        };
        stream.write_all(&octets).await?;
        let mut answer = [0; 16];
        let mut length = 0;
        while length < 9 {
            match stream.read(&mut answer[length..]).await? {
                0 => break,
                octets => length += octets,
            }
        }
        io::Result::Ok(Spoken::of(&answer[..length]))
    };
    match tokio::time::timeout(QUESTION_TIMEOUT, asking).await {
        Ok(Ok(spoken)) => spoken,
        Ok(Err(_)) | Err(_) => Spoken::Nothing,
    }
}

/// The first octets of a TLS client; empty if TLS cannot be set up.
fn client_hello() -> Vec<u8> {
    let mut octets = Vec::new();
    let options = TlsOptions { insecure: true, ..TlsOptions::default() };
    if let Ok((config, _)) = client_config(&options)
        && let Ok(name) = rustls::pki_types::ServerName::try_from("localhost")
        && let Ok(mut hello) = rustls::ClientConnection::new(config, name)
    {
        // Writing into a vector does not fail.
        let _ = hello.write_tls(&mut octets);
    }
    octets
}
