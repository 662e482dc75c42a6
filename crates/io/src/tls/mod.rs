//! TLS 1.2 and 1.3 over sockets, on rustls: what gRPC asks of it (A29, "Credentials and TLS"): HTTP/2 by ALPN and by
//! nothing else, certificates in PEM, and grpc-core's idea of whom a certificate names.

mod certificate;
mod chain;
mod client;
mod error;
mod pem;
mod server;
mod session;
mod stream;
mod verifier;

pub use certificate::{AltName, Certificate};
pub use client::{ClientTls, Roots, SessionCache};
pub use error::TlsError;
pub use pem::{Identity, pem};
pub use server::ServerTls;
pub use stream::{Handshake, TlsStream};

use rustls::crypto::{CryptoProvider, ring};
use std::sync::{Arc, OnceLock};

/// The only protocol that gRPC is spoken in (RFC 9113 §3.2).
const H2: &[u8] = b"h2";

/// The cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(ring::default_provider())).clone()
}
