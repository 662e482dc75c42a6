//! What `auth_context` says of a client: grpc-core's properties of a connection, under its names and in its order.

use crate::credentials::Transport;
use oxgrpc_io::{AltName, Certificate, Handshake, pem};

const COMMON_NAME: &str = "x509_common_name";
const ALT_NAME: &str = "x509_subject_alternative_name";
const TRANSPORT: &str = "transport_security_type";

/// A SPIFFE id has at most so many octets, and its trust domain so many (SPIFFE-ID.md §2).
const MAX_SPIFFE_ID: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;

/// The properties of a connection, each with its values.
pub(crate) struct AuthContext {
    pub(super) properties: Vec<(&'static str, Vec<Vec<u8>>)>,
    /// Which of them says who the client is.
    pub(super) identity: Option<&'static str>,
}

impl AuthContext {
    pub(super) fn new(transport: Transport, handshake: Option<&Handshake>) -> Self {
        let mut context = Self { properties: Vec::new(), identity: None };
        let (kind, level) = match transport {
            Transport::Insecure => ("insecure", "TSI_SECURITY_NONE"),
            Transport::Local => ("local", "TSI_PRIVACY_AND_INTEGRITY"),
            Transport::Ssl => ("ssl", "TSI_PRIVACY_AND_INTEGRITY"),
        };
        context.add(TRANSPORT, kind);
        if transport == Transport::Local {
            context.identity = Some(TRANSPORT);
        }
        let mut spiffe_id = None;
        let certificates = handshake.map_or(&[][..], |handshake| &handshake.certificates);
        if let [own, others @ ..] = certificates
            && let Ok(certificate) = Certificate::parse(own)
        {
            context.add_certificate(&certificate, &pem(own));
            if !others.is_empty() {
                let chain: String = others.iter().map(|der| pem(der)).collect();
                context.add("x509_pem_cert_chain", &chain);
            }
            spiffe_id = spiffe_id_of(&certificate);
        }
        context.add("security_level", level);
        if let Some(handshake) = handshake {
            context.add("ssl_session_reused", if handshake.is_resumed { "true" } else { "false" });
            if let Some(name) = &handshake.server_name {
                context.add("ssl_requested_server_name", name);
            }
            context.add("ssl_tls_version", handshake.version);
            if let Some(group) = &handshake.key_exchange_group {
                context.add("ssl_negotiated_key_exchange_group", group);
            }
        }
        if let Some(id) = spiffe_id {
            context.add("peer_spiffe_id", &id);
        }
        context
    }

    fn add_certificate(&mut self, certificate: &Certificate<'_>, pem: &str) {
        self.add("x509_subject", &certificate.subject());
        if let Some(name) = certificate.common_name() {
            self.add(COMMON_NAME, name);
            self.identity = Some(COMMON_NAME);
        }
        self.add("x509_pem_cert", pem);
        for name in certificate.alt_names() {
            self.identity = Some(ALT_NAME);
            let (kind, text) = match name {
                AltName::Dns(name) => ("peer_dns", name.clone()),
                AltName::Ip(address) => ("peer_ip", address.to_string()),
                AltName::Uri(uri) => ("peer_uri", uri.clone()),
                AltName::Email(address) => ("peer_email", address.clone()),
                AltName::Other => {
                    self.add(ALT_NAME, "other types of SAN");
                    continue;
                }
            };
            self.add(ALT_NAME, &text);
            self.add(kind, &text);
        }
    }

    fn add(&mut self, key: &'static str, value: &str) {
        let value = value.as_bytes().to_vec();
        match self.properties.iter_mut().find(|(other, _)| *other == key) {
            Some((_, values)) => values.push(value),
            None => self.properties.push((key, vec![value])),
        }
    }

    /// What identifies the client.
    pub(super) fn identities(&self) -> Option<&[Vec<u8>]> {
        let key = self.identity?;
        let found = self.properties.iter().find(|(other, _)| *other == key);
        found.map(|(_, values)| &values[..])
    }
}

/// Its SPIFFE id, if it has one. It has none if it has several URIs (SPIFFE's X509-SVID.md §2).
fn spiffe_id_of(certificate: &Certificate<'_>) -> Option<String> {
    let mut uris = certificate.alt_names().iter().filter_map(|name| match name {
        AltName::Uri(uri) => Some(uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) if is_spiffe_id(uri) => Some(uri.clone()),
        _ => None,
    }
}

fn is_spiffe_id(uri: &str) -> bool {
    let Some(id) = uri.strip_prefix("spiffe://") else { return false };
    let Some((domain, workload)) = id.split_once('/') else { return false };
    let workload = workload.split('/').next().unwrap_or_default();
    uri.len() <= MAX_SPIFFE_ID && domain.len() <= MAX_TRUST_DOMAIN && !workload.is_empty()
}
