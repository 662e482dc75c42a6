//! TLS and mutual TLS for both ports.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};

use crate::StartError;
use crate::config::Tls;

/// Builds a server's TLS configuration that offers the given protocols, the preferred one first.
pub(crate) fn server_config(
    tls: &Tls,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, StartError> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| StartError::Tls(format!("{what}: {error}"));
    let chain = certificates(&tls.certificate_chain)
        .map_err(|error| wrong("the certificate chain", &error))?;
    let key = PrivateKeyDer::from_pem_slice(&tls.private_key)
        .map_err(|error| wrong("the private key", &error))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("protocol versions", &error))?;
    let builder = match &tls.client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for certificate in
                certificates(authority).map_err(|error| wrong("the client authority", &error))?
            {
                roots.add(certificate).map_err(|error| wrong("the client authority", &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| wrong("the client authority", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong("certificate and key", &error))?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("there is no certificate in it (PEM is expected)".to_owned());
    }
    Ok(certificates)
}
