//! Fetches worker code from a URL.
//!
//! Names are resolved here and their addresses checked, so that neither a redirect nor a name that resolves differently
//! the second time leads to a private address. Proxies from the environment are not used: they would resolve for us.

use super::addresses::is_public;
use rustls::crypto::ring;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// The most code that a worker may have.
pub(super) const MAX_CODE_BYTES: usize = 1 << 20;

/// How long fetching may take, redirects included.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Addresses of a host that are tried: as many as the HTTP library takes.
const MAX_ADDRESSES: usize = 16;

/// Redirects that are followed.
const MAX_REDIRECTS: u32 = 5;

/// Fetches code, from public addresses and from the hosts that are named.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    agent: ureq::Agent,
}

impl Fetcher {
    /// Hosts in `allowed`, as `HOST:PORT`, may have any address. `authority`, PEM, is trusted beside the system's.
    pub(super) fn new(allowed: &[String], authority: Option<&[u8]>) -> Result<Self, String> {
        let system = rustls_native_certs::load_native_certs().certs;
        let mut roots: Vec<Certificate<'static>> =
            system.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        if let Some(pem) = authority {
            for item in ureq::tls::parse_pem(pem) {
                if let PemItem::Certificate(own) = item.map_err(|error| error.to_string())? {
                    roots.push(own);
                }
            }
        }
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .tls_config(tls)
            .max_redirects(MAX_REDIRECTS)
            .timeout_global(Some(TIMEOUT))
            .user_agent("oxgrpc-workmanager")
            .build();
        let allowed = allowed.iter().map(|host| host.to_ascii_lowercase()).collect();
        let agent =
            ureq::Agent::with_parts(config, DefaultConnector::default(), PublicOnly { allowed });
        Ok(Self { agent })
    }

    /// Fetches `url`. Errors name it and what went wrong.
    pub(super) async fn fetch(&self, url: &str) -> Result<String, Status> {
        let (agent, url) = (self.agent.clone(), url.to_owned());
        let fetching = tokio::task::spawn_blocking(move || fetch(&agent, &url));
        fetching.await.map_err(|error| Status::internal(error.to_string()))?
    }
}

fn fetch(agent: &ureq::Agent, url: &str) -> Result<String, Status> {
    let refused = |code, why: &str| Status::new(code, format!("worker code from {url}: {why}"));
    let uri: Uri = url.parse().map_err(|_| refused(Code::InvalidArgument, "not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(refused(Code::InvalidArgument, "only http and https URLs are fetched"));
    }
    let mut response = agent.get(uri).call().map_err(|error| match error {
        ureq::Error::Other(error) if error.is::<Refused>() => {
            refused(Code::PermissionDenied, &error.to_string())
        }
        error => refused(Code::FailedPrecondition, &error.to_string()),
    })?;
    let body = response.body_mut().with_config().limit(MAX_CODE_BYTES as u64).read_to_vec();
    let body = body.map_err(|error| refused(Code::FailedPrecondition, &error.to_string()))?;
    String::from_utf8(body).map_err(|_| refused(Code::FailedPrecondition, "not UTF-8 text"))
}

/// Why an address is not connected to.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {address}, a private address; --allow-worker-url {host} admits it")]
struct Refused {
    host: String,
    address: std::net::IpAddr,
}

/// Resolves names to public addresses only.
#[derive(Debug)]
struct PublicOnly {
    allowed: Vec<String>,
}

impl Resolver for PublicOnly {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(default);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = format!("{host}:{port}").to_ascii_lowercase();
        let is_allowed = self.allowed.contains(&name);
        let mut addresses = self.empty();
        let mut private = None;
        let found = (bare, port).to_socket_addrs().map_err(|_| ureq::Error::HostNotFound)?;
        for address in found.take(MAX_ADDRESSES) {
            match is_allowed || is_public(address.ip()) {
                true => addresses.push(address),
                false => private = Some(address.ip()),
            }
        }
        if addresses.is_empty() {
            return Err(match private {
                Some(address) => ureq::Error::Other(Box::new(Refused { host: name, address })),
                None => ureq::Error::HostNotFound,
            });
        }
        Ok(addresses)
    }
}
