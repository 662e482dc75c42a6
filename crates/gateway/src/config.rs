//! Everything that can be set about a gateway, in one typed object.
//!
//! The command line and the environment are read in `crates/cli`; nothing here reads either.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a gateway is started with. [`Config::default`] is what `oxgrpc gateway` uses without flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// REST, gRPC-Web, `/health`, `/metrics` and the console. Port 0 takes a free port.
    pub http: SocketAddr,
    /// Native gRPC, with HTTP/2 prior knowledge or over TLS. Port 0 takes a free port.
    pub grpc: SocketAddr,
    /// The registry file of backends; reloaded when it changes. `None` starts with an empty registry.
    pub services_file: Option<PathBuf>,
    /// Where state lies, and how events travel.
    pub storage: Storage,
    /// Accepted values of `x-api-key`, by name; empty means that no key is asked for.
    pub api_keys: Vec<ApiKey>,
    /// Hosts, beside loopback names and addresses, that `Host` and `Origin` headers may name.
    pub allowed_hosts: Vec<String>,
    /// Origins that CORS admits; empty means none.
    pub cors_origins: Vec<String>,
    /// A certificate chain and its key, PEM, for both ports.
    pub tls: Option<Tls>,
    /// The deadline of a backend's call whose caller sets none.
    pub default_timeout: Duration,
    /// The largest message, in either direction.
    pub max_message_bytes: usize,
    /// How many calls a connection may have at once.
    pub max_streams_per_connection: u32,
    /// How long running calls have to end once the gateway stops.
    pub grace: Duration,
    /// Whether a backend runs code that callers give it. An address that other machines reach is then refused unless keys or
    /// client certificates say who calls.
    pub runs_code: bool,
}

/// Where state lies, and how events travel from gateway to gateway.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In memory: gone with the process.
    Ephemeral,
    /// In a directory that one gateway owns.
    Directory(PathBuf),
    /// In NATS JetStream, shared by any number of gateways.
    Nats {
        /// `nats://host:port`, several separated by commas.
        url: String,
    },
}

/// A named API key. The name may be logged, the secret never.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Who uses it.
    pub name: String,
    /// What `x-api-key` must equal.
    pub secret: String,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A server's certificate and key, and the authority whose clients it admits.
#[derive(Clone)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub certificate_chain: Vec<u8>,
    /// The private key, PEM.
    pub private_key: Vec<u8>,
    /// With an authority, PEM, clients must present a certificate that it signed.
    pub client_authority: Option<Vec<u8>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("mutual", &self.client_authority.is_some())
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: ([127, 0, 0, 1], 5001).into(),
            grpc: ([127, 0, 0, 1], 5002).into(),
            services_file: None,
            storage: Storage::Ephemeral,
            api_keys: Vec::new(),
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            tls: None,
            default_timeout: Duration::from_secs(30),
            max_message_bytes: 4 * 1024 * 1024,
            max_streams_per_connection: 1000,
            grace: Duration::from_secs(10),
            runs_code: false,
        }
    }
}
