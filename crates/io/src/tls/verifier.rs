//! Whether a peer's certificate is trusted: webpki's judgement, widened by [`chain`](super::chain) to what grpcio's users
//! have, and grpc-core's idea of whom a certificate names.

use super::certificate::Certificate;
use super::error::TlsError;
use super::{chain, provider};
use der::asn1::ObjectIdentifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;

/// What a certificate is to prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    Server,
    Client,
}

impl Purpose {
    /// The id of an extended key usage (RFC 5280 §4.2.1.12).
    pub(super) fn id(self) -> ObjectIdentifier {
        match self {
            Self::Server => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
            Self::Client => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
        }
    }
}

/// Trusted certificates.
#[derive(Debug)]
pub(super) struct Trust {
    store: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone()).map_err(|error| {
                TlsError::new(format!("a root certificate cannot be used: {error}"))
            })?;
        }
        Ok(Self::of(store, certificates))
    }

    /// Those of a system's many certificates that can be read.
    pub(super) fn lenient(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        Self::of(store, certificates)
    }

    fn of(store: RootCertStore, certificates: Vec<CertificateDer<'static>>) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { store: Arc::new(store), certificates, algorithms }
    }

    /// `refused` is webpki's verdict.
    fn reconsider(
        &self,
        refused: Error,
        first: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.algorithms.all;
        match chain::is_trusted(first, sent, &self.certificates, purpose, now, algorithms) {
            true => Ok(()),
            false if self.certificates.is_empty() => Err(other(
                "there are no trusted certificates on this system: give root_certificates, or name a \
                 file of them in GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
            )),
            false => Err(refused),
        }
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls12_signature(message, certificate, signed, &self.algorithms);
        verified.or_else(|error| {
            let Ok(certificate) = version_1(certificate) else { return Err(error) };
            let of_scheme =
                self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
            let algorithms = of_scheme.into_iter().flat_map(|(_, algorithms)| *algorithms);
            match chain::is_signed_by(&certificate, message, signed.signature(), algorithms) {
                true => Ok(HandshakeSignatureValid::assertion()),
                false => Err(CertificateError::BadSignature.into()),
            }
        })
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, certificate, signed, &self.algorithms);
        verified.or_else(|error| {
            let Ok(certificate) = version_1(certificate) else { return Err(error) };
            let key = SubjectPublicKeyInfoDer::from(certificate.public_key_info());
            verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
        })
    }
}

/// A certificate that webpki does not read.
fn version_1<'a>(certificate: &'a CertificateDer<'_>) -> Result<Certificate<'a>, TlsError> {
    match Certificate::parse(certificate)? {
        certificate if !certificate.is_version_3 => Ok(certificate),
        _ => Err(TlsError::new("it is of version 3")),
    }
}

fn other(text: impl Into<String>) -> Error {
    CertificateError::Other(OtherError(Arc::new(TlsError::new(text)))).into()
}

/// Verifies servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) trust: Arc<Trust>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let trust = &self.trust;
        ParsedCertificate::try_from(first)
            .and_then(|parsed| {
                let all = trust.algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &trust.store, sent, now, all)
            })
            .or_else(|error| trust.reconsider(error, first, sent, Purpose::Server, now))?;
        let certificate = Certificate::parse(first).map_err(|_| CertificateError::BadEncoding)?;
        let host = server_name.to_str();
        match certificate.names(&host) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(other(format!("it is not for {host}, but for {}", whom(&certificate)))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

/// Whom a certificate names, for an error.
fn whom(certificate: &Certificate<'_>) -> String {
    use super::certificate::AltName;
    const SHOWN: usize = 10;
    let mut names: Vec<String> = certificate
        .alt_names()
        .iter()
        .filter_map(|name| match name {
            AltName::Dns(name) => Some(name.clone()),
            AltName::Ip(address) => Some(address.to_string()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        names.extend(certificate.common_name().map(str::to_owned));
    }
    match names.len() {
        0 => "nobody".into(),
        len if len > SHOWN => format!("{} and {} others", names[..SHOWN].join(", "), len - SHOWN),
        _ => names.join(", "),
    }
}

/// Verifies clients, all of which need a certificate.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    trust: Arc<Trust>,
    webpki: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    pub(super) fn new(trust: Trust) -> Result<Self, TlsError> {
        let webpki = WebPkiClientVerifier::builder_with_provider(trust.store.clone(), provider())
            .build()
            .map_err(|error| TlsError::new(error.to_string()))?;
        Ok(Self { trust: Arc::new(trust), webpki })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.webpki.verify_client_cert(first, sent, now).or_else(|error| {
            self.trust.reconsider(error, first, sent, Purpose::Client, now)?;
            Ok(ClientCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
