//! The flags that say where a server is, how to speak to it, and where its schema comes from.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use http::HeaderValue;

use crate::address::{Address, Place, looks_like_address};
use crate::connect::Target;
use crate::connect::tls::TlsOptions;
use crate::failure::Failure;

/// How to connect.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArguments {
    /// Take flags from this profile; $OXGRPC_PROFILE names it too
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Where the profile's server is.
    #[arg(long, hide = true)]
    pub(crate) default_address: Option<String>,
    /// Connect without TLS
    #[arg(long, overrides_with = "tls")]
    pub(crate) plaintext: bool,
    /// Connect with TLS, the default
    #[arg(long, overrides_with = "plaintext")]
    tls: bool,
    /// Accept any certificate of the server's
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Authorities to trust instead of the system's, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cacert: Option<PathBuf>,
    /// The client's certificate chain, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,
    /// The private key of --cert, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,
    /// The host that requests name, and the name in the server's certificate
    #[arg(long, value_name = "NAME")]
    authority: Option<String>,
    /// The name in the server's certificate, if it is not the host's
    #[arg(long, value_name = "NAME")]
    servername: Option<String>,
    /// How long connecting may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    connect_timeout: Duration,
    /// Ping an idle connection this often
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    keepalive_time: Option<Duration>,
    /// ADDRESS is the path of a Unix socket
    #[arg(long)]
    unix: bool,
    /// What requests call the client
    #[arg(long, value_name = "TEXT", default_value = concat!("oxgrpc/", env!("CARGO_PKG_VERSION")))]
    user_agent: String,
    /// Metadata for calls and reflection; a value `!command` is the output of the command
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Show each step with its time, and metadata
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Where the schema comes from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Schema")]
pub(crate) struct SchemaArguments {
    /// Descriptors in a FileDescriptorSet
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) protoset: Vec<PathBuf>,
    /// Descriptors in .proto source
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) proto: Vec<PathBuf>,
    /// Where --proto files and their imports lie
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) import_path: Vec<PathBuf>,
    /// Do not ask the server for what the files do not have
    #[arg(long)]
    pub(crate) no_reflection: bool,
    /// Metadata for reflection only
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) reflect_header: Vec<String>,
    /// Write the descriptors that were learned to a FileDescriptorSet
    #[arg(long, value_name = "FILE", visible_alias = "protoset-out", value_hint = ValueHint::FilePath)]
    pub(crate) save_schema: Option<PathBuf>,
}

impl SchemaArguments {
    /// Returns true if descriptors come from files.
    pub(crate) fn has_files(&self) -> bool {
        !self.protoset.is_empty() || !self.proto.is_empty()
    }
}

impl ConnectionArguments {
    /// Tells an address from a symbol: with a profile's address, or with descriptors in files, the address may be left out.
    pub(super) fn places(
        &self,
        first: &Option<String>,
        second: &Option<String>,
        has_files: bool,
    ) -> (Option<String>, Option<String>) {
        let default = self.default_address.clone();
        match (first, second) {
            (Some(address), Some(symbol)) => (Some(address.clone()), Some(symbol.clone())),
            (Some(only), None) if (default.is_some() || has_files) && !looks_like_address(only) => {
                (default, Some(only.clone()))
            }
            (Some(address), None) => (Some(address.clone()), None),
            (None, _) => (default, None),
        }
    }

    /// The server at `address`.
    pub(crate) fn target(&self, address: &str) -> Result<Target, Failure> {
        let address = if self.unix {
            Address { place: Place::Unix(address.into()), tls: None }
        } else {
            Address::parse(address)?
        };
        let plaintext = match (self.plaintext, address.tls) {
            (true, Some(true)) => {
                return Err(Failure::usage("--plaintext contradicts https://")
                    .hint("leave one of them out"));
            }
            (plaintext, scheme) => plaintext || (scheme == Some(false) && !self.tls),
        };
        let tls_flag = [
            (self.insecure, "--insecure"),
            (self.cacert.is_some(), "--cacert"),
            (self.cert.is_some(), "--cert"),
            (self.key.is_some(), "--key"),
        ];
        if plaintext && let Some((_, flag)) = tls_flag.iter().find(|(given, _)| *given) {
            return Err(Failure::usage(format!(
                "{flag} is about TLS, and --plaintext connects without"
            ))
            .hint("leave one of them out; --tls overrides a profile's plaintext"));
        }
        let tls = (!plaintext).then(|| TlsOptions {
            insecure: self.insecure,
            cacert: self.cacert.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
        });
        Ok(Target {
            address,
            tls,
            authority: self.authority.clone(),
            servername: self.servername.clone(),
            connect_timeout: self.connect_timeout,
            keepalive: self.keepalive_time,
            user_agent: HeaderValue::from_str(&self.user_agent)
                .map_err(|_| Failure::usage("--user-agent is not printable ASCII"))?,
        })
    }
}

/// Parses a number of seconds, which may have a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}
