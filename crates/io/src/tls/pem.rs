//! Certificates and keys as users give them: PEM (RFC 7468).

use super::certificate::Certificate;
use super::error::TlsError;
use super::provider;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// A private key and the certificates that go with it, the key's own first.
#[derive(Clone, Debug)]
pub struct Identity(pub(super) Arc<CertifiedKey>);

impl Identity {
    /// Reads a key and a chain, and makes sure that they belong together.
    pub fn from_pem(private_key: &[u8], chain: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain, "the certificate chain")?;
        let key = provider().key_provider.load_private_key(private_key_of(private_key)?);
        let key = key.map_err(|error| {
            TlsError::new(format!("the private key cannot be used: {}", reason(&error)))
        })?;
        let own = Certificate::parse(&chain[0])
            .map_err(|error| TlsError::new(format!("the certificate cannot be read: {error}")))?;
        if key.public_key().is_some_and(|public| public.as_ref() != own.public_key_info()) {
            return Err(TlsError::new("the private key is not the certificate's"));
        }
        Ok(Self(Arc::new(CertifiedKey::new(chain, key))))
    }
}

fn reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::General(text) => text.clone(),
        error => error.to_string(),
    }
}

/// What is wrong with PEM, and nothing of what is in it: a key on one line is a bad first line, and errors are logged.
fn why(error: &Error) -> &'static str {
    match error {
        Error::MissingSectionEnd { .. } => "its -----END line is missing",
        Error::IllegalSectionStart { .. } => {
            "its -----BEGIN line does not end with -----; each of its lines is a line of its own"
        }
        Error::Base64Decode(_) => "what is between its first and last line is no base64",
        Error::SectionTooLarge => "it is too long",
        _ => "it cannot be read",
    }
}

/// A certificate as PEM, with lines of 64 characters.
pub fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|octet| char::from(*octet)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// All certificates of a text, at least one.
pub(super) fn certificates(
    pem: &[u8],
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::new(format!(
            "{what} holds no certificate: it is PEM, with -----BEGIN CERTIFICATE-----"
        ))),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::new(format!("{what} is no PEM: {}", why(&error)))),
    }
}

fn private_key_of(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let has = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::new(
            "the private key is encrypted: decrypt it first, as in \
             `openssl pkey -in key.pem -out decrypted.pem`",
        ));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        TlsError::new(match error {
            Error::NoItemsFound => "the private key holds no key: it is PEM, with \
                                    -----BEGIN PRIVATE KEY-----"
                .into(),
            error => format!("the private key is no PEM: {}", why(&error)),
        })
    })
}
