//! `oxgrpc gateway` and `oxgrpc up`: servers that run until SIGTERM or Ctrl-C and then let running calls end.

mod arguments;
pub(crate) mod environment;
mod program;
mod up;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use oxgrpc_gateway::config::Storage;
use oxgrpc_gateway::{Config, Gateway, StartError};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub(crate) use arguments::{BackendArguments, GatewayArguments};
pub(crate) use up::up;

use crate::arguments::Output;
use crate::call::print_line;
use crate::failure::{Failure, Kind};
use crate::look::failure_object;
use arguments::LogFormat;

/// Runs `gateway` and returns its exit code.
pub(crate) async fn gateway(arguments: &GatewayArguments) -> u8 {
    ended(arguments.output, run_gateway(arguments).await.map(|()| 0))
}

async fn run_gateway(arguments: &GatewayArguments) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let (gateway, listing) = start(arguments, arguments.config()?).await?;
    listing.print(arguments.output)?;
    interrupts.next().await;
    interrupts.or_at_once(gateway.stop()).await;
    Ok(())
}

fn ended(output: Output, result: Result<u8, Failure>) -> u8 {
    match result {
        Ok(code) => code,
        Err(failure) => {
            match output {
                Output::Text => failure.print(),
                // The exit code says what cannot be printed.
                Output::Json => drop(print_line(&failure_object(&failure).to_string())),
            }
            failure.kind.exit_code()
        }
    }
}

/// Starts a gateway.
async fn start(
    arguments: &GatewayArguments,
    config: Config,
) -> Result<(Gateway, Listing), Failure> {
    log(arguments)?;
    if let Some(text) = arguments.ignored() {
        tracing::warn!("{text}");
    }
    let data = match &config.storage {
        Storage::Ephemeral => "in memory: gone with this process".to_owned(),
        Storage::Directory(path) => path.display().to_string(),
        Storage::Nats { url } => without_password(url),
    };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let gateway = Gateway::start(config).await.map_err(|error| start_failure(&error))?;
    let listing = Listing {
        grpc: gateway.grpc_address(),
        http: gateway.http_address(),
        scheme,
        data,
        backends: Vec::new(),
    };
    Ok((gateway, listing))
}

fn start_failure(error: &StartError) -> Failure {
    let kind = match error {
        StartError::Exposed { .. } => Kind::Usage,
        _ => Kind::Io,
    };
    let failure = Failure::new(kind, format!("the gateway does not start: {error}"));
    match error {
        StartError::Storage(_) => failure
            .hint("--data DIR keeps state elsewhere, --ephemeral in memory, --nats URL in NATS"),
        _ => failure,
    }
}

/// A URL as it may be printed.
fn without_password(url: &str) -> String {
    let servers = url.split(',').map(|server| match (server.find("://"), server.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}{}", &server[..scheme + 3], &server[at + 1..])
        }
        _ => server.to_owned(),
    });
    servers.collect::<Vec<_>>().join(",")
}

/// Where everything listens, and where state lies.
struct Listing {
    grpc: SocketAddr,
    http: SocketAddr,
    scheme: &'static str,
    data: String,
    backends: Vec<(&'static str, SocketAddr)>,
}

impl Listing {
    fn to_text(&self) -> String {
        let mut text = format!(
            "gateway gRPC      {}\ngateway HTTP      {}://{}/\nstate             {}",
            self.grpc, self.scheme, self.http, self.data
        );
        for (name, address) in &self.backends {
            text.push_str(&format!("\n{name:<17} {address}"));
        }
        text
    }

    fn to_json(&self) -> Value {
        let backends: serde_json::Map<String, Value> = self
            .backends
            .iter()
            .map(|(name, address)| ((*name).to_owned(), json!(address.to_string())))
            .collect();
        json!({
            "grpc": self.grpc.to_string(),
            "http": format!("{}://{}/", self.scheme, self.http),
            "state": self.data,
            "backends": backends,
        })
    }

    /// Prints to standard output that everything listens.
    fn print(&self, output: Output) -> Result<(), Failure> {
        print_line(&match output {
            Output::Text => self.to_text(),
            Output::Json => self.to_json().to_string(),
        })
    }

    /// Prints to standard error, where standard output is a command's.
    fn print_aside(&self, output: Output) {
        let text = match output {
            Output::Text => self.to_text(),
            Output::Json => self.to_json().to_string(),
        };
        // A closed standard error leaves nowhere to report to.
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }
}

/// The address by which this machine reaches what listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Starts the log on standard error.
fn log(arguments: &GatewayArguments) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&arguments.log_level)
        .map_err(|error| Failure::usage(format!("--log-level {}: {error}", arguments.log_level)))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// SIGTERM and SIGINT.
struct Interrupts {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        let failed = |error| Failure::io(format!("signals cannot be handled: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for either; returns true if it came from the terminal, whose other processes have it as well.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => true,
        }
    }

    /// Waits for an orderly end; another signal means that there is no time for it.
    async fn or_at_once(&mut self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            _ = self.next() => std::process::exit(130),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        assert_eq!(
            without_password("nats://user:p@ss@a:4222,nats://b:4222,c"),
            "nats://a:4222,nats://b:4222,c"
        );
    }
}
