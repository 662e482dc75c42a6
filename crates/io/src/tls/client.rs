//! The client's side: whom to trust, and who we are if we are asked.

use super::H2;
use super::error::TlsError;
use super::pem::{self, Identity};
use super::provider;
use super::session::Session;
use super::stream::TlsStream;
use super::verifier::{ServerVerifier, Trust};
use crate::socket::Socket;
use crate::stream::Stream;
use rustls::client::{
    ClientSessionMemoryCache, ResolvesClientCert, Resumption, UnbufferedClientConnection,
};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The certificates that a client trusts.
#[derive(Clone, Debug)]
pub struct Roots(Arc<Trust>);

impl Roots {
    /// Those in a text.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let trust = Trust::new(pem::certificates(pem, "root_certificates")?)?;
        Ok(Self(Arc::new(trust)))
    }

    /// Those in a file, or `None` if it cannot be used.
    pub fn from_file(path: &Path) -> Option<Self> {
        let pem = std::fs::read(path).ok()?;
        let trust = Trust::lenient(pem::certificates(&pem, "the file").ok()?);
        Some(Self(Arc::new(trust)))
    }

    /// Those that the system trusts, read once. There may be none, which is found out when a server is to be verified.
    pub fn of_system() -> Self {
        static SYSTEM: OnceLock<Roots> = OnceLock::new();
        let load = || {
            let found = rustls_native_certs::load_native_certs();
            Self(Arc::new(Trust::lenient(found.certs)))
        };
        SYSTEM.get_or_init(load).clone()
    }
}

/// Sessions that clients go on with, one for each server, the latest. Shared where it is cloned.
#[derive(Clone, Debug)]
pub struct SessionCache(Arc<ClientSessionMemoryCache>);

impl SessionCache {
    /// For so many servers.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(ClientSessionMemoryCache::new(capacity)))
    }
}

/// A client's configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// A client that trusts `roots`, and is `identity` where a server wants to know.
    pub fn new(roots: Roots, identity: Option<Identity>) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| TlsError::new(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier { trust: roots.0 }));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(Own(identity.0))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![H2.to_vec()];
        // As grpc-core without a session cache. A server that has changed its certificate is seen at once.
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// The same, which goes on with sessions from a cache. Only those of the same credentials count.
    pub fn with_sessions(&self, cache: &SessionCache) -> Self {
        let mut config = (*self.0).clone();
        config.resumption = Resumption::store(cache.0.clone());
        Self(Arc::new(config))
    }

    /// Begins TLS on a connected socket, to a server that has to be `host`, a name or an address.
    pub fn connect(&self, socket: Socket, host: &str) -> io::Result<Stream> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let text = format!("TLS: '{host}' is no name that a certificate could have");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let session =
            UnbufferedClientConnection::new(self.0.clone(), name).map_err(io::Error::other)?;
        let session = Session::Client(Box::new(session));
        Ok(Stream::Tls(Box::new(TlsStream::new(socket, session))))
    }
}

/// One identity, whatever a server asks for: it may say why it does not like it.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
