//! The flags of `gateway` and `up`, and what they make of the gateway's configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use oxgrpc_gateway::Config;
use oxgrpc_gateway::config::{ApiKey, Storage, Tls};

use crate::arguments::{Output, seconds};
use crate::failure::Failure;

/// How a gateway is started. Each flag overrides its environment variable.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Gateway")]
pub(crate) struct GatewayArguments {
    /// The address to listen on; others than loopback are for machines that may call
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// REST, gRPC-Web, /health, /metrics and the console ($HttpPort); 0 takes a free port
    #[arg(long, value_name = "PORT", default_value_t = 5001)]
    http_port: u16,
    /// gRPC ($GrpcPort); 0 takes a free port
    #[arg(long, value_name = "PORT", default_value_t = 5002)]
    grpc_port: u16,
    /// The registry of backends ($ServicesConfigPath); config/services.json if that exists
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, visible_alias = "services-config-path")]
    services: Option<PathBuf>,
    /// Keep state in this directory; by default in the user's data directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["ephemeral", "nats"])]
    data: Option<PathBuf>,
    /// Keep state in memory only: it is gone with the process
    #[arg(long, conflicts_with = "nats")]
    ephemeral: bool,
    /// Keep state in NATS JetStream, and share it and all events with other gateways
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Ask callers for x-api-key ($ApiAuth__Keys__NAME=SECRET, which other users cannot read)
    #[arg(long, value_name = "NAME=SECRET")]
    api_key: Vec<String>,
    /// A host that requests may name beside loopback, for containers and reverse proxies
    #[arg(long, value_name = "NAME")]
    allowed_host: Vec<String>,
    /// An origin whose pages may call ($Cors__AllowedOrigins__0)
    #[arg(long, value_name = "ORIGIN")]
    cors_origin: Vec<String>,
    /// The certificate chain of both ports, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", value_hint = ValueHint::FilePath)]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    tls_key: Option<PathBuf>,
    /// Admit only clients with a certificate of this authority, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    tls_client_ca: Option<PathBuf>,
    /// The deadline of a backend's call whose caller sets none ($Grpc__DefaultTimeoutSeconds)
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    default_timeout: Duration,
    /// The largest message in either direction
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024)]
    max_message_bytes: usize,
    /// Calls that a connection may have at once
    #[arg(long, value_name = "CALLS", default_value_t = 1000)]
    max_streams: u32,
    /// How long running calls have to end after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    grace: Duration,
    /// What is logged, such as warn or oxgrpc_gateway=debug ($Logging__LogLevel__Default)
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(super) log_level: String,
    /// How the log on standard error is written
    #[arg(long, value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
    /// How the addresses that are listened on are printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
    /// A sidecar's port: there is no sidecar.
    #[arg(long, hide = true)]
    dapr_http_port: Option<u16>,
    /// A sidecar's port: there is no sidecar.
    #[arg(long, hide = true)]
    dapr_grpc_port: Option<u16>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

/// Where `config/services.json` is looked for when nothing is said.
const DEFAULT_SERVICES: &str = "config/services.json";

impl GatewayArguments {
    /// The gateway's configuration.
    pub(super) fn config(&self) -> Result<Config, Failure> {
        let services_file = match &self.services {
            Some(path) => Some(path.clone()),
            None => Some(PathBuf::from(DEFAULT_SERVICES)).filter(|path| path.exists()),
        };
        let storage = if self.ephemeral {
            Storage::Ephemeral
        } else if let Some(url) = &self.nats {
            Storage::Nats { url: url.clone() }
        } else {
            Storage::Directory(self.data.clone().map_or_else(default_data, Ok)?)
        };
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(Tls {
                certificate_chain: read(cert, "--tls-cert")?,
                private_key: read(key, "--tls-key")?,
                client_authority: match &self.tls_client_ca {
                    Some(path) => Some(read(path, "--tls-client-ca")?),
                    None => None,
                },
            }),
            _ => None,
        };
        Ok(Config {
            http: SocketAddr::new(self.listen, self.http_port),
            grpc: SocketAddr::new(self.listen, self.grpc_port),
            runs_code: services_file.as_deref().is_some_and(registers_workers),
            services_file,
            storage,
            api_keys: self.api_key.iter().map(|text| api_key(text)).collect::<Result<_, _>>()?,
            allowed_hosts: self.allowed_host.clone(),
            cors_origins: self.cors_origin.clone(),
            tls,
            default_timeout: self.default_timeout,
            max_message_bytes: self.max_message_bytes,
            max_streams_per_connection: self.max_streams,
            grace: self.grace,
        })
    }

    /// Flags that have no effect here.
    pub(super) fn ignored(&self) -> Option<&'static str> {
        let given = self.dapr_http_port.is_some() || self.dapr_grpc_port.is_some();
        given.then_some(
            "--dapr-http-port and --dapr-grpc-port are ignored: the gateway needs no sidecar",
        )
    }
}

/// A registry file that names WorkManager lets callers run code; a file that cannot be read is the gateway's to refuse.
fn registers_workers(path: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { return false };
    value["services"].as_array().is_some_and(|services| {
        services.iter().any(|service| {
            service["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("workmanager"))
        })
    })
}

fn read(path: &Path, flag: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::io(format!("{flag} {}: {error}", path.display())))
}

/// `oxgrpc` in the user's data directory.
fn default_data() -> Result<PathBuf, Failure> {
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")))
        .map(|base| base.join("oxgrpc"))
        .ok_or_else(|| {
            Failure::usage("there is no home directory to keep state in")
                .hint("--data DIR says where, --ephemeral keeps it in memory")
        })
}

/// Parses `NAME=SECRET`. Not a parser of clap's, whose errors show the value.
fn api_key(text: &str) -> Result<ApiKey, Failure> {
    match text.split_once('=') {
        Some((name, secret)) if !name.is_empty() && !secret.is_empty() => {
            Ok(ApiKey { name: name.to_owned(), secret: secret.to_owned() })
        }
        _ => Err(Failure::usage("a value of --api-key is not NAME=SECRET")),
    }
}

/// The backends that `up` starts.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Backends")]
pub(crate) struct BackendArguments {
    /// Do not start WorkManager, which runs the code that it is given
    #[arg(long)]
    pub(super) no_workmanager: bool,
    /// Do not start WebSocketManager
    #[arg(long)]
    pub(super) no_websocketmanager: bool,
    /// The Python that runs workers; by default that of the environment
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    worker_python: Option<PathBuf>,
    /// A private address that worker code may be loaded from
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) allow_worker_url: Vec<String>,
    /// An authority to trust for wss:// and worker code beside the system's, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// The authority that signed --tls-cert, if the backends do not know it, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    tls_ca: Option<PathBuf>,
}

impl BackendArguments {
    /// `--ca`.
    pub(super) fn authority(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.ca.as_ref().map(|path| read(path, "--ca")).transpose()
    }

    /// `--tls-ca`.
    pub(super) fn gateway_authority(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.tls_ca.as_ref().map(|path| read(path, "--tls-ca")).transpose()
    }

    /// The interpreter of the virtual environment that `oxgrpc` is started from, or else the first `python3` on the path.
    pub(super) fn python(&self) -> PathBuf {
        if let Some(python) = &self.worker_python {
            return python.clone();
        }
        let active = std::env::var_os("VIRTUAL_ENV").map(|root| PathBuf::from(root).join("bin"));
        // A wheel's program lies beside the interpreter of its environment.
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
        active
            .into_iter()
            .chain(beside)
            .map(|folder| folder.join("python3"))
            .find(|python| python.is_file())
            .unwrap_or_else(|| "python3".into())
    }
}
