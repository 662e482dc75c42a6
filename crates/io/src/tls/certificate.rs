//! What a certificate says (RFC 5280 §4): whom it names, what it may be used for, who has signed it.
//!
//! It believes nothing: whether a certificate is to be trusted is the verifier's business.

use super::error::TlsError;
use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef, UtcTime};
use der::{Decode, Encode, Reader, SliceReader, Tag, Tagged};
use rustls::pki_types::UnixTime;
use std::net::IpAddr;
use std::time::Duration;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");

/// Bits of KeyUsage (RFC 5280 §4.2.1.3).
const DIGITAL_SIGNATURE: usize = 0;
const KEY_ENCIPHERMENT: usize = 2;
const KEY_AGREEMENT: usize = 4;
const KEY_CERT_SIGN: usize = 5;

/// A name in a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AltName {
    /// A host, perhaps with a wildcard.
    Dns(String),
    /// An address of a host.
    Ip(IpAddr),
    /// A URI, a SPIFFE id for example.
    Uri(String),
    /// An e-mail address.
    Email(String),
    /// Anything else.
    Other,
}

/// A certificate, read.
#[derive(Clone, Debug)]
pub struct Certificate<'a> {
    pub(super) der: &'a [u8],
    /// What is signed.
    pub(super) signed: &'a [u8],
    /// How, as an AlgorithmIdentifier without its header.
    pub(super) signature_algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    /// 1, 2 or 3; the first two have no extensions.
    pub(super) version: u8,
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) not_before: Duration,
    pub(super) not_after: Duration,
    /// A SubjectPublicKeyInfo.
    pub(super) public_key_info: &'a [u8],
    /// `None` where the extension is missing.
    pub(super) is_ca: Option<bool>,
    /// The octets of the KeyUsage bits, if the extension is there.
    pub(super) key_usage: Option<&'a [u8]>,
    pub(super) extended_usages: Option<Vec<ObjectIdentifier>>,
    /// It says whom those that it signs may name (RFC 5280 §4.2.1.10), which is not read here.
    pub(super) constrains_names: bool,
    /// It says something that must be understood and is not here.
    pub(super) has_further_rules: bool,
    alt_names: Vec<AltName>,
    common_name: Option<String>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate from its DER encoding.
    pub fn parse(octets: &'a [u8]) -> Result<Self, TlsError> {
        Self::read(octets).map_err(|error| TlsError::new(error.to_string()))
    }

    fn read(octets: &'a [u8]) -> der::Result<Self> {
        let mut outer = inside(AnyRef::from_der(octets)?, Tag::Sequence)?;
        let signed = outer.tlv_bytes()?;
        let signature_algorithm = AnyRef::decode(&mut outer)?.value();
        let signature = BitStringRef::decode(&mut outer)?.raw_bytes();
        let mut body = inside(AnyRef::from_der(signed)?, Tag::Sequence)?;
        let mut version = 1;
        if is_tagged(&body, 0)? {
            version = match u8::from_der(AnyRef::decode(&mut body)?.value())? {
                1 => 2,
                2 => 3,
                _ => return Err(Tag::Integer.value_error().into()),
            };
        }
        AnyRef::decode(&mut body)?; // serial number
        // The signature does not cover what is outside (RFC 5280 §4.1.1.2).
        if AnyRef::decode(&mut body)?.value() != signature_algorithm {
            return Err(Tag::Sequence.value_error().into());
        }
        let issuer = body.tlv_bytes()?;
        let mut validity = inside(AnyRef::decode(&mut body)?, Tag::Sequence)?;
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        let subject = body.tlv_bytes()?;
        let public_key_info = body.tlv_bytes()?;
        let mut certificate = Self {
            der: octets,
            signed,
            signature_algorithm,
            signature,
            version,
            issuer,
            subject,
            not_before,
            not_after,
            public_key_info,
            is_ca: None,
            key_usage: None,
            extended_usages: None,
            constrains_names: false,
            has_further_rules: false,
            alt_names: Vec::new(),
            common_name: common_name(subject)?,
        };
        while !body.is_finished() {
            let has_extensions = is_tagged(&body, 3)?;
            let part = AnyRef::decode(&mut body)?;
            // What a version does not have cannot be meant: some would read it, and others pass over it.
            if version == 1 || has_extensions && version == 2 {
                return Err(part.tag().unexpected_error(None).into());
            }
            if has_extensions {
                certificate.add_all(inside(AnyRef::from_der(part.value())?, Tag::Sequence)?)?;
            }
        }
        Ok(certificate)
    }

    /// Takes in the extensions, none of which may be there twice (RFC 5280 §4.2).
    fn add_all(&mut self, mut extensions: SliceReader<'a>) -> der::Result<()> {
        let mut seen: Vec<ObjectIdentifier> = Vec::new();
        while !extensions.is_finished() {
            let mut extension = inside(AnyRef::decode(&mut extensions)?, Tag::Sequence)?;
            let id = ObjectIdentifier::decode(&mut extension)?;
            if seen.contains(&id) {
                return Err(Tag::ObjectIdentifier.value_error().into());
            }
            seen.push(id);
            self.add(id, extension)?;
        }
        Ok(())
    }

    fn add(&mut self, id: ObjectIdentifier, mut extension: SliceReader<'a>) -> der::Result<()> {
        let is_critical = match Tag::peek(&extension)? {
            Tag::Boolean => bool::decode(&mut extension)?,
            _ => false,
        };
        let value = <&OctetStringRef>::decode(&mut extension)?.as_bytes();
        match id {
            ALT_NAME => self.alt_names = alt_names(value)?,
            KEY_USAGE => self.key_usage = Some(BitStringRef::from_der(value)?.raw_bytes()),
            BASIC_CONSTRAINTS => {
                let mut constraints = inside(AnyRef::from_der(value)?, Tag::Sequence)?;
                let mut is_ca = false;
                if !constraints.is_finished() && Tag::peek(&constraints)? == Tag::Boolean {
                    is_ca = bool::decode(&mut constraints)?;
                }
                self.is_ca = Some(is_ca);
            }
            EXTENDED_KEY_USAGE => {
                let mut usages = inside(AnyRef::from_der(value)?, Tag::Sequence)?;
                let mut found = Vec::new();
                while !usages.is_finished() {
                    found.push(ObjectIdentifier::decode(&mut usages)?);
                }
                self.extended_usages = Some(found);
            }
            NAME_CONSTRAINTS => self.constrains_names = true,
            _ => self.has_further_rules |= is_critical,
        }
        Ok(())
    }

    /// The names that stand for its subject besides the common name.
    pub fn alt_names(&self) -> &[AltName] {
        &self.alt_names
    }

    /// The subject's common name.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The subject, written as RFC 2253 has it: the most specific part first.
    pub fn subject(&self) -> String {
        distinguished_name(self.subject).unwrap_or_default()
    }

    /// The SubjectPublicKeyInfo.
    pub(super) fn public_key_info(&self) -> &'a [u8] {
        self.public_key_info
    }

    pub(super) fn is_valid_at(&self, now: UnixTime) -> bool {
        (self.not_before.as_secs()..=self.not_after.as_secs()).contains(&now.as_secs())
    }

    /// Whether it may be used for a purpose (RFC 5280 §4.2.1.12); one that says nothing may. "Any" is not enough, neither for
    /// BoringSSL nor for webpki.
    pub(super) fn may_be_used_for(&self, purpose: ObjectIdentifier) -> bool {
        let Some(usages) = &self.extended_usages else { return true };
        usages.contains(&purpose)
    }

    /// Whether it may vouch for others, if it is trusted: one that says nothing may, as those of version 1 do.
    pub(super) fn may_sign(&self) -> bool {
        self.is_ca != Some(false) && self.has_key_usage(KEY_CERT_SIGN)
    }

    /// Whether its key may be used in a handshake.
    pub(super) fn may_prove_itself(&self) -> bool {
        let bits = [DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, KEY_AGREEMENT];
        bits.into_iter().any(|bit| self.has_key_usage(bit))
    }

    /// Whether a bit of KeyUsage is set, counted from the first (RFC 5280 §4.2.1.3). One that says nothing may all.
    fn has_key_usage(&self, bit: usize) -> bool {
        let Some(octets) = self.key_usage else { return true };
        octets.get(bit / 8).is_some_and(|octet| octet & (0x80 >> (bit % 8)) != 0)
    }

    /// Whether it names a host, by grpc-core's rules: alternative names count, and where there are none the common name
    /// does. A wildcard stands for one label, and not right below a top-level domain. An address has to be named itself.
    pub fn names(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.alt_names.contains(&AltName::Ip(address));
        }
        if self.alt_names.is_empty() {
            return self.common_name.as_deref().is_some_and(|name| covers(name, host));
        }
        self.alt_names.iter().any(|name| matches!(name, AltName::Dns(name) if covers(name, host)))
    }
}

/// Whether a name in a certificate stands for a host.
fn covers(name: &str, host: &str) -> bool {
    let (name, host) =
        (name.strip_suffix('.').unwrap_or(name), host.strip_suffix('.').unwrap_or(host));
    if name.is_empty() || host.is_empty() {
        return false;
    }
    let Some(domain) = name.strip_prefix("*.") else { return name.eq_ignore_ascii_case(host) };
    let Some((label, rest)) = host.split_once('.') else { return false };
    !label.is_empty() && rest.contains('.') && domain.eq_ignore_ascii_case(rest)
}

fn inside<'a>(value: AnyRef<'a>, tag: Tag) -> der::Result<SliceReader<'a>> {
    value.tag().assert_eq(tag)?;
    SliceReader::new(value.value())
}

/// Whether what comes next has a tag of its context.
fn is_tagged(reader: &SliceReader<'_>, number: u32) -> der::Result<bool> {
    let tag = Tag::peek(reader)?;
    Ok(is_of_context(tag) && tag.number().value() == number)
}

fn is_of_context(tag: Tag) -> bool {
    matches!(tag, Tag::ContextSpecific { .. })
}

fn time(reader: &mut SliceReader<'_>) -> der::Result<Duration> {
    Ok(match Tag::peek(reader)? {
        Tag::UtcTime => UtcTime::decode(reader)?.to_unix_duration(),
        _ => GeneralizedTime::decode(reader)?.to_unix_duration(),
    })
}

/// What the parts of a name are called. Others are called by their numbers.
const ATTRIBUTES: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.42", "GN"),
    ("2.5.4.46", "dnQualifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn distinguished_name(name: &[u8]) -> der::Result<String> {
    let mut written = Vec::new();
    let mut parts = inside(AnyRef::from_der(name)?, Tag::Sequence)?;
    while !parts.is_finished() {
        let mut attributes = Vec::new();
        let mut part = inside(AnyRef::decode(&mut parts)?, Tag::Set)?;
        while !part.is_finished() {
            let mut attribute = inside(AnyRef::decode(&mut part)?, Tag::Sequence)?;
            let id: ObjectIdentifier = ObjectIdentifier::decode(&mut attribute)?;
            let id = id.to_string();
            let value = AnyRef::decode(&mut attribute)?;
            let named = ATTRIBUTES.iter().find(|(number, _)| *number == id);
            attributes.push(match (named, text(value)) {
                (Some((_, name)), Some(text)) => format!("{name}={}", escaped(&text)),
                _ => format!("{id}={}", hexadecimal(value)?),
            });
        }
        written.push(attributes.join("+"));
    }
    written.reverse();
    Ok(written.join(","))
}

/// RFC 2253 §2.4, with what is not ASCII as octets of UTF-8.
fn escaped(value: &str) -> String {
    let mut written = String::new();
    let last = value.len().saturating_sub(1);
    for (at, octet) in value.bytes().enumerate() {
        match octet {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                written.push('\\');
                written.push(char::from(octet));
            }
            b'#' | b' ' if at == 0 => {
                written.push('\\');
                written.push(char::from(octet));
            }
            b' ' if at == last => written.push_str("\\ "),
            b' '..=b'~' => written.push(char::from(octet)),
            _ => written.push_str(&format!("\\{octet:02X}")),
        }
    }
    written
}

fn hexadecimal(value: AnyRef<'_>) -> der::Result<String> {
    let octets = value.to_der()?;
    Ok(octets.iter().fold(String::from("#"), |text, octet| text + &format!("{octet:02X}")))
}

/// The first common name, as grpc-core takes it; what others come behind it do not count.
fn common_name(name: &[u8]) -> der::Result<Option<String>> {
    let mut parts = inside(AnyRef::from_der(name)?, Tag::Sequence)?;
    while !parts.is_finished() {
        let mut part = inside(AnyRef::decode(&mut parts)?, Tag::Set)?;
        while !part.is_finished() {
            let mut attribute = inside(AnyRef::decode(&mut part)?, Tag::Sequence)?;
            if ObjectIdentifier::decode(&mut attribute)? == COMMON_NAME {
                return Ok(text(AnyRef::decode(&mut attribute)?));
            }
        }
    }
    Ok(None)
}

fn text(value: AnyRef<'_>) -> Option<String> {
    match value.tag() {
        Tag::BmpString => {
            let (units, []) = value.value().as_chunks() else { return None };
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            String::from_utf16(&units).ok()
        }
        // T61String is Latin-1 in practice.
        Tag::TeletexString => Some(value.value().iter().map(|octet| char::from(*octet)).collect()),
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString => String::from_utf8(value.value().to_vec()).ok(),
        _ => None,
    }
}

/// The names of SubjectAltName (RFC 5280 §4.2.1.6).
fn alt_names(value: &[u8]) -> der::Result<Vec<AltName>> {
    let mut names = Vec::new();
    let mut list = inside(AnyRef::from_der(value)?, Tag::Sequence)?;
    while !list.is_finished() {
        let tag = Tag::peek(&list)?;
        let octets = AnyRef::decode(&mut list)?.value();
        // What is no text names nobody: two such must not be taken for each other.
        let text = |kind: fn(String) -> AltName| {
            String::from_utf8(octets.to_vec()).map_or(AltName::Other, kind)
        };
        names.push(match (is_of_context(tag), tag.number().value()) {
            (true, 1) => text(AltName::Email),
            (true, 2) => text(AltName::Dns),
            (true, 6) => text(AltName::Uri),
            (true, 7) => address(octets).map_or(AltName::Other, AltName::Ip),
            _ => AltName::Other,
        });
    }
    Ok(names)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(octets).ok().map(Into::into),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    #[test]
    fn whom_a_name_covers() {
        for (name, host, covered) in [
            ("a.test", "a.test", true),
            ("a.test", "A.TEST", true),
            ("a.test.", "a.test", true),
            ("a.test", "a.test.", true),
            ("a.test", "b.a.test", false),
            ("*.a.test", "b.a.test", true),
            ("*.a.test", "a.test", false),
            ("*.a.test", "c.b.a.test", false),
            ("*.a.test", ".a.test", false),
            ("*.test", "a.test", false),
            ("*", "a.test", false),
            ("*.", "a.test", false),
            ("a*.b.test", "aa.b.test", false),
            ("", "", false),
            ("a.test", "", false),
        ] {
            assert_eq!(covers(name, host), covered, "{name} {host}");
        }
    }

    #[test]
    fn names_are_written_as_rfc_2253_has_it() {
        for (value, written) in [
            ("plain", "plain"),
            ("a,b+c\"d\\e<f>g;h", "a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h"),
            ("#first", "\\#first"),
            (" spaces ", "\\ spaces\\ "),
            ("größe", "gr\\C3\\B6\\C3\\9Fe"),
            ("a\nb", "a\\0Ab"),
        ] {
            assert_eq!(escaped(value), written);
        }
    }

    #[test]
    fn what_a_certificate_says() {
        let mut params = CertificateParams::new(vec!["a.test".into(), "10.0.0.1".into()]).unwrap();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, "Tests, Inc.");
        name.push(DnType::CommonName, DnValue::BmpString("Größe".try_into().unwrap()));
        name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "odd");
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let certificate = Certificate::parse(made.der()).unwrap();
        assert_eq!(certificate.common_name(), Some("Größe"));
        assert_eq!(
            certificate.alt_names(),
            [AltName::Dns("a.test".into()), AltName::Ip([10, 0, 0, 1].into())]
        );
        assert!(certificate.names("a.test") && certificate.names("10.0.0.1"));
        assert!(!certificate.names("Größe") && !certificate.names("10.0.0.2"));
        let subject = "1.2.3.4=#0C036F6464,O=Tests\\, Inc.,CN=Gr\\C3\\B6\\C3\\9Fe";
        assert_eq!(certificate.subject(), subject);
        assert!(certificate.has_key_usage(0));
    }

    #[test]
    fn what_is_no_certificate() {
        let params = CertificateParams::new(vec!["a.test".into()]).unwrap();
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let der: &[u8] = made.der();
        for len in 0..der.len() {
            assert!(Certificate::parse(&der[..len]).is_err());
        }
        // Whatever octet is another, it is read or refused.
        for at in 0..der.len() {
            for octet in [0, 1, 0x30, 0x80, 0xff] {
                let mut changed = der.to_vec();
                changed[at] = octet;
                if let Ok(certificate) = Certificate::parse(&changed) {
                    let _ = (certificate.subject(), certificate.names("a.test"));
                }
            }
        }
    }
}
