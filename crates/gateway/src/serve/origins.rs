//! Keeps pages of other sites away from a gateway that only listens on this machine.
//!
//! A browser sends a page's requests to `localhost` whoever wrote the page, and a name of the page's own site may resolve to
//! 127.0.0.1 (DNS rebinding). So `Host` must name this machine, and `Origin`, where there is one, a page of this machine or one
//! that CORS admits.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{HOST, ORIGIN};
use http::uri::{Authority, Uri};
use tonic::Status;

use super::refuse;
use crate::Config;

/// Which hosts and origins are admitted on a port.
#[derive(Debug)]
pub(crate) struct Origins {
    /// Where the port listens.
    pub(crate) address: SocketAddr,
    /// Beside loopback, in lower case.
    pub(crate) allowed_hosts: Vec<String>,
    /// Admitted by CORS.
    pub(crate) cors_origins: Vec<String>,
    /// Whether `Host` is checked too: clients of gRPC are no browsers, and name the gateway as they like.
    pub(crate) check_host: bool,
}

/// Refuses requests whose `Host` or `Origin` is not admitted.
pub(crate) async fn check(
    State(origins): State<Arc<Origins>>,
    request: Request,
    next: Next,
) -> Response {
    match origins.admit(&request) {
        Ok(()) => next.run(request).await,
        Err(reason) => refuse(request.headers(), &Status::permission_denied(reason)),
    }
}

impl Origins {
    pub(crate) fn new(config: &Config, address: SocketAddr, check_host: bool) -> Self {
        Self {
            address,
            allowed_hosts: config.allowed_hosts.iter().map(|host| host.to_lowercase()).collect(),
            cors_origins: config.cors_origins.clone(),
            check_host,
        }
    }

    fn admit(&self, request: &Request) -> Result<(), String> {
        let headers = request.headers();
        if self.check_host {
            let host = match request.uri().authority() {
                Some(authority) => Some(authority.as_str()),
                None => headers.get(HOST).and_then(|host| host.to_str().ok()),
            };
            let Some(host) = host else { return Err("the Host header is missing".to_owned()) };
            let admitted =
                Authority::try_from(host).is_ok_and(|authority| self.is_allowed(&authority));
            if !admitted {
                return Err(format!(
                    "Host {host:?} does not name this machine; if it should, allow it with --allowed-host"
                ));
            }
        }
        let mut origins = headers.get_all(ORIGIN).iter().peekable();
        if origins.peek().is_none() {
            // Images, scripts and the like of another site have no Origin, but say where they come from.
            let header = |name: &str| headers.get(name).map(|value| value.as_bytes());
            let embedded = header("sec-fetch-site") == Some(b"cross-site")
                && header("sec-fetch-mode") != Some(b"navigate");
            if embedded {
                return Err("the request comes from a page of another site".to_owned());
            }
        }
        for origin in origins {
            let origin = origin.to_str().unwrap_or_default();
            if !self.is_admitted_origin(origin) {
                return Err(format!(
                    "Origin {origin:?} is another site; if its pages may call, allow them with --cors-origin"
                ));
            }
        }
        Ok(())
    }

    fn is_admitted_origin(&self, origin: &str) -> bool {
        if self.cors_origins.iter().any(|admitted| admitted == origin) {
            return true;
        }
        let Ok(uri) = Uri::try_from(origin) else { return false };
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| self.is_allowed(authority))
    }

    /// Ports are not compared: whoever can listen on one of this machine's could call the gateway anyway.
    fn is_allowed(&self, authority: &Authority) -> bool {
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        if host == "localhost" || host.ends_with(".localhost") {
            return true;
        }
        if self
            .allowed_hosts
            .iter()
            .any(|allowed| *allowed == host || *allowed == authority.as_str())
        {
            return true;
        }
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match literal.unwrap_or(&host).parse::<IpAddr>() {
            // An address cannot be rebound: a page that has it as its host was served from it.
            Ok(address) => {
                address.is_loopback()
                    || address == self.address.ip()
                    || self.address.ip().is_unspecified()
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(address: &str) -> Origins {
        Origins {
            address: address.parse().unwrap(),
            allowed_hosts: vec!["gateway.internal".to_owned()],
            cors_origins: vec!["https://app.example".to_owned()],
            check_host: true,
        }
    }

    #[test]
    fn loopback_and_allowed_hosts_are_admitted_and_nothing_else() {
        let origins = origins("127.0.0.1:5001");
        let allowed = |host: &str| origins.is_allowed(&Authority::try_from(host).unwrap());
        for host in [
            "localhost:5001",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.8.8.8",
            "[::1]:5001",
            "app.localhost",
            "gateway.internal",
            "Gateway.Internal:80",
            "localhost.",
        ] {
            assert!(allowed(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.1",
            "0.0.0.0",
            "xgateway.internal",
            "[::2]",
        ] {
            assert!(!allowed(host), "{host}");
        }
    }

    #[test]
    fn a_gateway_that_listens_everywhere_admits_addresses_but_no_names() {
        let origins = origins("0.0.0.0:5001");
        let allowed = |host: &str| origins.is_allowed(&Authority::try_from(host).unwrap());
        assert!(allowed("192.168.1.1:5001"));
        assert!(!allowed("evil.example"));
    }

    #[test]
    fn origins_are_pages_of_this_machine_or_listed() {
        let origins = origins("127.0.0.1:5001");
        for origin in ["http://localhost:5001", "http://127.0.0.1:3000", "https://app.example"] {
            assert!(origins.is_admitted_origin(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://app.example",
            "file://",
            "https://app.example.evil",
            "ftp://localhost",
        ] {
            assert!(!origins.is_admitted_origin(origin), "{origin}");
        }
    }
}
