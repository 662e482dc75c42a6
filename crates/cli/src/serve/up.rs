//! `oxgrpc up`: the gateway, and its backends behind it, in one process.
//!
//! The backends listen on loopback, on ports of their own choice, and are registered with the gateway beside those of its file.
//! They stop before the gateway, which keeps their state and carries their last events.

use std::net::{Ipv4Addr, SocketAddr};

use oxgrpc_backends::websocketmanager::{self, WebSocketManagerOptions};
use oxgrpc_backends::workmanager::{self, WorkManagerOptions};
use oxgrpc_backends::{Backend, GatewayAddress, Options, StartError};
use oxgrpc_gateway::Gateway;
use oxgrpc_gateway::config::ApiKey;
use oxgrpc_gateway::registry::ServiceEntry;

use super::program::Program;
use super::{Interrupts, Listing, ended, reachable, start};
use crate::arguments::UpArguments;
use crate::failure::Failure;

/// Runs `up` and returns its exit code, or that of its command.
pub(crate) async fn up(arguments: &UpArguments) -> u8 {
    ended(arguments.gateway.output, run_up(arguments).await)
}

async fn run_up(arguments: &UpArguments) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::new()?;
    let mut config = arguments.gateway.config()?;
    config.runs_code |= !arguments.backends.no_workmanager;
    if config.tls.as_ref().is_some_and(|tls| tls.client_authority.is_some()) {
        return Err(Failure::usage(
            "up's own backends have no client certificate for --tls-client-ca",
        )
        .hint("run `oxgrpc gateway`, and backends that have one"));
    }
    let api_key = config.api_keys.first().map(|key| key.secret.clone());
    let (gateway, mut listing) = start(&arguments.gateway, config).await?;
    let backends = match Backends::start(arguments, &gateway, &mut listing, api_key).await {
        Ok(backends) => backends,
        Err(failure) => {
            gateway.stop().await;
            return Err(failure);
        }
    };
    let code = if arguments.run.is_empty() {
        match listing.print(arguments.gateway.output) {
            Ok(()) => {
                interrupts.next().await;
                Ok(0)
            }
            Err(failure) => Err(failure),
        }
    } else {
        listing.print_aside(arguments.gateway.output);
        run(&arguments.run, &listing, &mut interrupts).await
    };
    let stopping = async {
        backends.stop().await;
        gateway.stop().await;
    };
    interrupts.or_at_once(stopping).await;
    code
}

/// Runs the command to its end. A SIGTERM is passed on to it; Ctrl-C reaches it from the terminal.
async fn run(
    words: &[std::ffi::OsString],
    listing: &Listing,
    interrupts: &mut Interrupts,
) -> Result<u8, Failure> {
    let mut program = Program::start(words, &environment(listing))?;
    loop {
        tokio::select! {
            code = program.ended() => return code,
            from_terminal = interrupts.next() => {
                if !from_terminal {
                    program.terminate();
                }
            }
        }
    }
}

/// How clients of the gateway, and Dapr's, find it.
fn environment(listing: &Listing) -> [(&'static str, String); 6] {
    let (grpc, http) = (reachable(listing.grpc), reachable(listing.http));
    [
        ("VIRTUFIN_API_HOST", grpc.ip().to_string()),
        ("VIRTUFIN_API_GRPC_PORT", grpc.port().to_string()),
        ("VIRTUFIN_API_HTTP_PORT", http.port().to_string()),
        ("DAPR_RUNTIME_HOST", grpc.ip().to_string()),
        ("DAPR_GRPC_PORT", grpc.port().to_string()),
        ("DAPR_HTTP_PORT", http.port().to_string()),
    ]
}

/// The running backends.
struct Backends {
    running: Vec<Backend>,
    /// What they ask callers for.
    key: Option<ApiKey>,
}

impl Backends {
    async fn start(
        arguments: &UpArguments,
        gateway: &Gateway,
        listing: &mut Listing,
        api_key: Option<String>,
    ) -> Result<Self, Failure> {
        let own = &arguments.backends;
        // Where the gateway asks for keys, nobody gets past it: its backends ask for one that only it has.
        let secret = || uuid::Uuid::new_v4().to_string();
        let key = api_key.is_some().then(|| ApiKey { name: "gateway".into(), secret: secret() });
        let address = reachable(gateway.grpc_address());
        let options = Options {
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            gateway: GatewayAddress {
                uri: format!("{}://{address}", listing.scheme),
                api_key,
                authority: own.gateway_authority()?,
            },
            api_keys: key.iter().map(|key| key.secret.clone()).collect(),
        };
        let mut backends = Self { running: Vec::new(), key };
        if !own.no_workmanager {
            let started = workmanager::start(
                &options,
                WorkManagerOptions {
                    python: own.python(),
                    allowed_urls: own.allow_worker_url.clone(),
                    authority: own.authority()?,
                    ..WorkManagerOptions::default()
                },
            );
            backends.add("workmanager", started.await, gateway, listing).await?;
        }
        if !own.no_websocketmanager {
            let started = websocketmanager::start(
                &options,
                WebSocketManagerOptions {
                    authority: own.authority()?,
                    ..WebSocketManagerOptions::default()
                },
            );
            backends.add("websocketmanager", started.await, gateway, listing).await?;
        }
        Ok(backends)
    }

    /// Registers a backend that has started; if it has not, those before it are stopped.
    async fn add(
        &mut self,
        name: &'static str,
        started: Result<Backend, StartError>,
        gateway: &Gateway,
        listing: &mut Listing,
    ) -> Result<(), Failure> {
        match started {
            Ok(backend) => {
                let address = backend.address();
                let mut entry = ServiceEntry::new(name, address.ip().to_string(), address.port());
                for target in &mut entry.targets {
                    target.api_key.clone_from(&self.key);
                }
                gateway.registry().add(entry);
                listing.backends.push((name, address));
                self.running.push(backend);
                Ok(())
            }
            Err(error) => {
                let running = std::mem::take(&mut self.running);
                Self { running, key: None }.stop().await;
                Err(Failure::io(format!("{name} does not start: {error}"))
                    .hint(format!("--no-{name} leaves it out")))
            }
        }
    }

    async fn stop(self) {
        for backend in self.running {
            backend.stop().await;
        }
    }
}
