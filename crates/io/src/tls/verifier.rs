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
use rustls::pki_types::{
    CertificateDer, ServerName, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::fmt;
use std::ops::RangeInclusive;
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

/// When a certificate is valid, and the certificate as one that may sign others: webpki asks neither of those it trusts.
type Anchor = (RangeInclusive<u64>, TrustAnchor<'static>);

/// Trusted certificates.
#[derive(Debug)]
pub(super) struct Trust {
    /// All of them. Each may be a peer's own.
    certificates: Vec<CertificateDer<'static>>,
    /// Those that may sign others.
    anchors: Vec<Anchor>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    pub(super) fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, TlsError> {
        let anchors: Result<Vec<_>, _> = certificates.iter().map(anchor).collect();
        Ok(Self::of(anchors?.into_iter().flatten().collect(), certificates))
    }

    /// Those of a system's many certificates that can be read.
    pub(super) fn lenient(mut certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut anchors = Vec::new();
        certificates.retain(|der| anchor(der).map(|anchor| anchors.extend(anchor)).is_ok());
        Self::of(anchors, certificates)
    }

    fn of(anchors: Vec<Anchor>, certificates: Vec<CertificateDer<'static>>) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { certificates, anchors, algorithms }
    }

    /// Those that may sign others at a time.
    fn store(&self, now: UnixTime) -> RootCertStore {
        let valid = self.anchors.iter().filter(|(validity, _)| validity.contains(&now.as_secs()));
        RootCertStore { roots: valid.map(|(_, anchor)| anchor.clone()).collect() }
    }

    /// Whether a peer is to be trusted. `webpki` is asked first, with what may vouch for others: the trusted and the sent.
    fn judge<'a>(
        &self,
        first: &CertificateDer<'_>,
        sent: &'a [CertificateDer<'_>],
        purpose: Purpose,
        now: UnixTime,
        webpki: impl FnOnce(RootCertStore, &[CertificateDer<'a>]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let may_sign = |der: &CertificateDer<'_>| {
            Certificate::parse(der).is_ok_and(|certificate| certificate.may_sign())
        };
        let sent: Vec<CertificateDer<'a>> =
            sent.iter().filter(|der| may_sign(der)).map(|der| der[..].into()).collect();
        if let Err(refused) = webpki(self.store(now), &sent) {
            return self.reconsider(refused, first, purpose, now);
        }
        let certificate = Certificate::parse(first).map_err(|_| CertificateError::BadEncoding)?;
        if !certificate.may_prove_itself() {
            return Err(CertificateError::InvalidPurpose.into());
        }
        match certificate.alt_names().is_empty() && self.may_constrain_names(&certificate, &sent) {
            true => Err(other("it has no alternative names, and its issuer constrains names")),
            false => Ok(()),
        }
    }

    /// `refused` is webpki's verdict. One on a certificate's time or purpose stands.
    fn reconsider(
        &self,
        refused: Error,
        first: &CertificateDer<'_>,
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<(), Error> {
        use CertificateError::{BadSignature, Other, UnknownIssuer};
        let may_be_of_form =
            matches!(refused, Error::InvalidCertificate(UnknownIssuer | BadSignature | Other(_)));
        let algorithms = self.algorithms.all;
        match may_be_of_form
            && chain::is_trusted(first, &self.certificates, purpose, now, algorithms)
        {
            true => Ok(()),
            false if self.certificates.is_empty() => Err(other(
                "there are no trusted certificates on this system: give root_certificates, or name a \
                 file of them in GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
            )),
            false => Err(refused),
        }
    }

    /// Whether somebody who may be in a certificate's chain constrains names. webpki holds alternative names against such
    /// constraints, and a common name would pass.
    fn may_constrain_names(&self, first: &Certificate<'_>, sent: &[CertificateDer<'_>]) -> bool {
        let sent: Vec<_> = sent.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        let has_signed = |root: &Certificate<'_>| {
            let mut signed = sent.iter().chain([first]);
            signed.any(|certificate| certificate.issuer == root.subject)
        };
        sent.iter().any(|certificate| certificate.constrains_names)
            || self
                .certificates
                .iter()
                .filter_map(|der| Certificate::parse(der).ok())
                .any(|root| root.constrains_names && has_signed(&root))
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
        certificate if certificate.version == 1 => Ok(certificate),
        _ => Err(TlsError::new("it is not of version 1")),
    }
}

/// A trusted certificate as webpki has it, if it may sign others.
fn anchor(der: &CertificateDer<'static>) -> Result<Option<Anchor>, TlsError> {
    let unusable = |error: &dyn fmt::Display| {
        TlsError::new(format!("a root certificate cannot be used: {error}"))
    };
    let certificate = Certificate::parse(der).map_err(|error| unusable(&error))?;
    let mut store = RootCertStore::empty();
    store.add(der.clone()).map_err(|error| unusable(&error))?;
    let validity = certificate.not_before.as_secs()..=certificate.not_after.as_secs();
    let anchor = store.roots.pop().filter(|_| certificate.may_sign());
    Ok(anchor.map(|anchor| (validity, anchor)))
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
        trust.judge(first, sent, Purpose::Server, now, |store, sent| {
            let (parsed, all) = (ParsedCertificate::try_from(first)?, trust.algorithms.all);
            verify_server_cert_signed_by_trust_anchor(&parsed, &store, sent, now, all)
        })?;
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
    trust: Trust,
    /// Whom clients are told that they may be signed by.
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    pub(super) fn new(trust: Trust) -> Self {
        let mut all = RootCertStore::empty();
        all.add_parsable_certificates(trust.certificates.iter().cloned());
        Self { hints: all.subjects(), trust }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust.judge(first, sent, Purpose::Client, now, |store, sent| {
            if store.is_empty() {
                return Err(CertificateError::UnknownIssuer.into());
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider()).build();
            let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
            verifier.verify_client_cert(first, sent, now).map(drop)
        })?;
        Ok(ClientCertVerified::assertion())
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
