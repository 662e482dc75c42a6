//! Certificates that BoringSSL, and so grpcio, takes and webpki does not: one that is trusted itself, and one of X.509
//! version 1 or of an authority that somebody trusted has signed. docs/decisions/0006-certificates-beyond-webpki.md has why.
//!
//! It builds no paths: what a peer sends beyond its own certificate is not looked at. What it does not know it refuses:
//! constraints on names, extensions that must be understood.

use super::certificate::Certificate;
use super::verifier::Purpose;
use der::asn1::{AnyRef, BitStringRef};
use der::{Decode, SliceReader};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};

/// Signatures that one certificate may cost: of the trusted that have the issuer's name.
const MAX_SIGNATURES: usize = 16;

type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

/// Whether a certificate is one of the trusted, or of a kind that webpki does not judge and signed by one of them.
pub(super) fn is_trusted(
    first: &CertificateDer<'_>,
    trusted: &[CertificateDer<'static>],
    purpose: Purpose,
    now: UnixTime,
    algorithms: Algorithms,
) -> bool {
    let Ok(first) = Certificate::parse(first) else { return false };
    let may_be_used = first.may_prove_itself() && first.may_be_used_for(purpose.id());
    if !may_be_used || !is_in_force(&first, now) {
        return false;
    }
    if trusted.iter().any(|root| root.as_ref() == first.der) {
        return true;
    }
    let is_for_webpki = first.version != 1 && first.is_ca != Some(true);
    !is_for_webpki
        && trusted
            .iter()
            .filter_map(|root| Certificate::parse(root).ok())
            .filter(|root| {
                root.subject == first.issuer && root.may_sign() && is_in_force(root, now)
            })
            .filter(|root| root.may_be_used_for(purpose.id()))
            .take(MAX_SIGNATURES)
            .any(|root| {
                let of_kind = algorithms.iter().filter(|algorithm| {
                    algorithm.signature_alg_id().as_ref() == first.signature_algorithm
                });
                is_signed_by(&root, first.signed, first.signature, of_kind)
            })
}

fn is_in_force(certificate: &Certificate<'_>, now: UnixTime) -> bool {
    certificate.is_valid_at(now) && !certificate.has_further_rules && !certificate.constrains_names
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
