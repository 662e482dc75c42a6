//! What went wrong, in words: for a user who gave something unusable, and for the status or the log where a peer did.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use std::fmt;

/// Certificates or keys that cannot be used; says what to do where that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsError(String);

impl TlsError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// Why a session failed.
pub(super) fn explain(error: &Error, is_client: bool) -> String {
    let peer = if is_client { "server" } else { "client" };
    match error {
        Error::InvalidCertificate(reason) => {
            format!("the {peer}'s certificate is refused: {}", why(reason))
        }
        Error::NoCertificatesPresented => format!("the {peer} has no certificate"),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("the {peer} asks for a certificate (alert certificate_required)")
        }
        Error::AlertReceived(alert) => format!("the {peer} refuses (alert {alert:?})"),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("what the {peer} sends is not TLS")
        }
        Error::NoApplicationProtocol => format!("the {peer} does not offer HTTP/2 by ALPN"),
        _ => error.to_string(),
    }
}

fn why(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "it is not signed by anything that is trusted (unknown issuer)".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("it has expired ({error})")
        }
        CertificateError::BadSignature => "it is not signed by who it says (bad signature)".into(),
        CertificateError::Other(other) => other.to_string(),
        _ => error.to_string(),
    }
}
