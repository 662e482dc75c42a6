//! TLS as the flags ask for it: whom we believe, which name we expect, what certificate we show.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::failure::Failure;

/// The flags about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    pub(crate) insecure: bool,
    pub(crate) cacert: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Remembers whether the server asked for a client certificate.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl ClientCertificate {
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn is_given(&self) -> bool {
        self.key.is_some()
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// The configuration of a client, with ALPN `h2`.
pub(crate) fn client_config(
    options: &TlsOptions,
) -> Result<(Arc<ClientConfig>, Arc<ClientCertificate>), Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::connection(format!("TLS cannot be set up: {error}")))?;
    let builder = if options.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoVerification(provider.clone())))
    } else {
        builder.with_root_certificates(roots(options)?)
    };
    let key = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => Some(Arc::new(certified_key(&provider, cert, key)?)),
        (Some(_), None) => return Err(Failure::usage("--cert needs --key, its private key")),
        (None, Some(_)) => return Err(Failure::usage("--key needs --cert, its certificate")),
        (None, None) => None,
    };
    let certificate = Arc::new(ClientCertificate { key, asked: AtomicBool::new(false) });
    let mut config = builder.with_client_cert_resolver(certificate.clone());
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((Arc::new(config), certificate))
}

fn roots(options: &TlsOptions) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &options.cacert {
        for certificate in certificates(path, "--cacert")? {
            roots
                .add(certificate)
                .map_err(|error| Failure::usage(format!("--cacert {}: {error}", path.display())))?;
        }
    } else {
        // A certificate of the system's that rustls does not like is no reason to refuse the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    Ok(roots)
}

/// Reads the certificates of a PEM file.
fn certificates(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let mut reader = BufReader::new(open(path, flag)?);
    let certificates: Vec<_> = CertificateDer::pem_reader_iter(&mut reader)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::usage(format!("{flag} {}: {error}", path.display())))?;
    if certificates.is_empty() {
        return Err(Failure::usage(format!("{flag} {} holds no certificate", path.display())));
    }
    Ok(certificates)
}

fn certified_key(
    provider: &CryptoProvider,
    cert: &Path,
    key: &Path,
) -> Result<CertifiedKey, Failure> {
    let chain = certificates(cert, "--cert")?;
    let wrong =
        |error: &dyn std::fmt::Display| Failure::usage(format!("--key {}: {error}", key.display()));
    let private = PrivateKeyDer::from_pem_reader(&mut BufReader::new(open(key, "--key")?))
        .map_err(|error| wrong(&error))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| wrong(&error))
}

fn open(path: &Path, flag: &str) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::io(format!("{flag} {}: {error}", path.display())))
}

/// `--insecure`: any certificate will do, as long as its holder has its key.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
