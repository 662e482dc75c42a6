//! Certificates that BoringSSL, and so grpcio, takes and webpki does not: of X.509 version 1, of an authority used as a
//! server's own, and one that is trusted by itself. `openssl` makes all three where it is not told otherwise.
//!
//! Only asked when webpki has refused a chain and its first certificate is one of the three. It follows RFC 5280 §6 as far
//! as these go, and refuses whatever it does not know: name constraints, extensions that must be understood.

use super::certificate::Certificate;
use super::verifier::Purpose;
use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, SliceReader};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};

/// Certificates between the first and a trusted one, at most.
const MAX_DEPTH: usize = 6;

/// Signatures that one chain may cost: a peer chooses what it sends.
const MAX_SIGNATURES: usize = 50;

/// Bits of KeyUsage (RFC 5280 §4.2.1.3).
const DIGITAL_SIGNATURE: usize = 0;
const KEY_ENCIPHERMENT: usize = 2;
const KEY_AGREEMENT: usize = 4;
const KEY_CERT_SIGN: usize = 5;

type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

/// Whether a chain leads to a certificate that is trusted.
pub(super) fn is_trusted(
    first: &CertificateDer<'_>,
    sent: &[CertificateDer<'_>],
    trusted: &[CertificateDer<'static>],
    purpose: Purpose,
    now: UnixTime,
    algorithms: Algorithms,
) -> bool {
    let Ok(first) = Certificate::parse(first) else { return false };
    let is_trusted_itself = trusted.iter().any(|root| root.as_ref() == first.der);
    if first.is_version_3 && first.is_ca != Some(true) && !is_trusted_itself {
        return false;
    }
    let may_prove_itself = [DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, KEY_AGREEMENT]
        .into_iter()
        .any(|bit| first.has_key_usage(bit));
    if !may_prove_itself || !first.may_be_used_for(purpose.id()) {
        return false;
    }
    let parse = |der| Certificate::parse(der).ok();
    let mut search = Search {
        sent: sent.iter().filter_map(|der| parse(der)).collect(),
        trusted: trusted.iter().filter_map(|der| parse(der)).collect(),
        purpose,
        now,
        algorithms,
        signatures: 0,
    };
    search.leads_to_trust(&first, 0)
}

struct Search<'a> {
    sent: Vec<Certificate<'a>>,
    trusted: Vec<Certificate<'a>>,
    purpose: Purpose,
    now: UnixTime,
    algorithms: Algorithms,
    signatures: usize,
}

impl<'a> Search<'a> {
    fn leads_to_trust(&mut self, certificate: &Certificate<'a>, depth: usize) -> bool {
        if !certificate.is_valid_at(self.now) || certificate.has_further_rules {
            return false;
        }
        if self.trusted.iter().any(|root| root.der == certificate.der) {
            return true;
        }
        for root in self.trusted.clone() {
            if self.may_issue(&root, depth, true)
                && root.is_valid_at(self.now)
                && !root.has_further_rules
                && self.has_signed(&root, certificate)
            {
                return true;
            }
        }
        if depth == MAX_DEPTH {
            return false;
        }
        for issuer in self.sent.clone() {
            if issuer.der != certificate.der
                && self.may_issue(&issuer, depth, false)
                && self.has_signed(&issuer, certificate)
                && self.leads_to_trust(&issuer, depth + 1)
            {
                return true;
            }
        }
        false
    }

    /// Whether a certificate may sign others, with so many authorities below it. One of version 1 cannot say so; it may if
    /// it is trusted for it.
    fn may_issue(&self, issuer: &Certificate<'_>, below: usize, is_trusted: bool) -> bool {
        let is_authority = match issuer.is_ca {
            Some(is_ca) => is_ca,
            None => is_trusted && !issuer.is_version_3,
        };
        is_authority
            && issuer.has_key_usage(KEY_CERT_SIGN)
            && issuer.may_be_used_for(self.purpose.id())
            && issuer.path_length.is_none_or(|length| below as u64 <= length)
    }

    fn has_signed(&mut self, issuer: &Certificate<'_>, certificate: &Certificate<'_>) -> bool {
        if issuer.subject != certificate.issuer || self.signatures == MAX_SIGNATURES {
            return false;
        }
        self.signatures += 1;
        is_signed_by(
            issuer,
            certificate.signed,
            certificate.signature,
            self.algorithms.iter().filter(|algorithm| {
                algorithm.signature_alg_id().as_ref() == certificate.signature_algorithm
            }),
        )
    }
}

/// Whether a signature is made with a certificate's key, by one of the algorithms.
pub(super) fn is_signed_by<'a>(
    signer: &Certificate<'_>,
    message: &[u8],
    signature: &[u8],
    algorithms: impl Iterator<Item = &'a &'static dyn SignatureVerificationAlgorithm>,
) -> bool {
    let Ok((kind, key)) = public_key(signer) else { return false };
    algorithms
        .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == kind)
        .any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

/// The key's AlgorithmIdentifier, without its header, and the key.
fn public_key<'a>(certificate: &Certificate<'a>) -> der::Result<(&'a [u8], &'a [u8])> {
    let info = AnyRef::from_der(certificate.public_key_info)?;
    let mut parts = SliceReader::new(info.value())?;
    let kind = AnyRef::decode(&mut parts)?.value();
    Ok((kind, BitStringRef::decode(&mut parts)?.raw_bytes()))
}
