//! The server's side: who we are, by the name that a client asks for, and whether clients have to say who they are.

use super::H2;
use super::certificate::Certificate;
use super::error::TlsError;
use super::pem::{self, Identity};
use super::provider;
use super::session::Session;
use super::stream::TlsStream;
use super::verifier::{ClientVerifier, Trust};
use crate::socket::Socket;
use crate::stream::Stream;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use std::io;
use std::sync::{Arc, OnceLock};

/// A server's configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    identities: Arc<ByName>,
    clients: Option<Arc<ClientVerifier>>,
}

impl ServerTls {
    /// A server that is any of `identities`, the first where a client asks for nobody in particular. With `client_roots`
    /// clients need a certificate that these have signed.
    pub fn new(identities: Vec<Identity>, client_roots: Option<&[u8]>) -> Result<Self, TlsError> {
        if identities.is_empty() {
            return Err(TlsError::new("a server needs a private key and a certificate"));
        }
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| TlsError::new(error.to_string()))?;
        let clients = match client_roots {
            Some(pem) => {
                let trust = Trust::new(pem::certificates(pem, "root_certificates")?)?;
                Some(Arc::new(ClientVerifier::new(trust)))
            }
            None => None,
        };
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(clients.clone()),
            None => builder.with_no_client_auth(),
        };
        let keys = identities.into_iter().map(|identity| identity.0).collect();
        let identities = Arc::new(ByName(keys));
        let mut config = builder.with_cert_resolver(identities.clone());
        config.alpn_protocols = vec![H2.to_vec()];
        Ok(Self { config: Arc::new(config), identities, clients })
    }

    /// Begins TLS on an accepted socket.
    pub fn accept(&self, socket: Socket) -> io::Result<Stream> {
        // The configuration is a handful of references. That of a connection notes what its client asks for.
        let mut config = (*self.config).clone();
        let asked = Arc::new(OnceLock::new());
        let (identities, asked_here) = (self.identities.clone(), asked.clone());
        config.cert_resolver = Arc::new(Asking { identities, asked: asked_here });
        let session =
            UnbufferedServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
        let session =
            Session::Server { session: Box::new(session), asked, clients: self.clients.clone() };
        Ok(Stream::Tls(Box::new(TlsStream::new(socket, session))))
    }
}

/// Several identities. The first whose certificate names what the client asks for is it; of those the first whose key the
/// client can verify.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let is_named = |key: &CertifiedKey| {
            asked.is_some_and(|name| {
                let own = key.cert.first().map(|der| Certificate::parse(der));
                own.is_some_and(|own| own.is_ok_and(|own| own.names(name)))
            })
        };
        let is_usable =
            |key: &CertifiedKey| key.key.choose_scheme(hello.signature_schemes()).is_some();
        if let [only] = &self.0[..] {
            return Some(only.clone());
        }
        let found = self.0.iter().find(|key| is_usable(key) && is_named(key));
        found.or_else(|| self.0.iter().find(|key| is_usable(key))).or(self.0.first()).cloned()
    }
}

/// Notes the name that a client asks for.
#[derive(Debug)]
struct Asking {
    identities: Arc<ByName>,
    asked: Arc<OnceLock<String>>,
}

impl ResolvesServerCert for Asking {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(name) = hello.server_name() {
            // A second hello, behind a HelloRetryRequest, asks for the same.
            let _ = self.asked.set(name.to_owned());
        }
        self.identities.resolve(hello)
    }
}
