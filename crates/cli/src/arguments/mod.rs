//! The command line as types. Flags have grpcurl's names where they mean what grpcurl's mean.

mod connection;
mod normalise;
mod profile;

use std::ffi::OsString;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

pub(crate) use connection::{ConnectionArguments, SchemaArguments, seconds};

use crate::completion;
use crate::failure::{Failure, exit_codes};
use crate::logs::LogsArguments;
use crate::serve::{self, GatewayArguments};

/// Calls any gRPC server from the command line, and runs the gateway.
#[derive(Debug, Parser)]
#[command(
    name = "oxgrpc",
    version,
    after_help = exit_codes(),
    args_override_self = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List a server's services, or a service's methods
    List(LookArguments),
    /// Show a service, a method, a message or an enum as .proto source
    Describe(LookArguments),
    /// Call a method with JSON
    Call(CallArguments),
    /// Measure a method: closed loop, or open loop with --rate
    Bench(BenchArguments),
    /// Run the gateway
    Gateway(GatewayArguments),
    /// Run the gateway and its backends with everything embedded
    Up(UpArguments),
    /// Show what a worker has printed
    Logs(LogsArguments),
    /// Print the completion script of a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
}

/// The shells that completion is written for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// One JSON object on standard output, whatever the outcome
    Json,
}

/// What `list` and `describe` take.
#[derive(Debug, Args)]
pub(crate) struct LookArguments {
    /// Where the server is: host:port, unix:PATH, http:// or https://
    #[arg(value_name = "ADDRESS", add = ArgValueCompleter::new(completion::address))]
    first: Option<String>,
    /// A service, method, message, enum or field
    #[arg(value_name = "SYMBOL", add = ArgValueCompleter::new(completion::symbol))]
    second: Option<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    #[command(flatten)]
    pub(crate) schema: SchemaArguments,
    /// text or json
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// What names a method and says how it is called.
#[derive(Debug, Args)]
pub(crate) struct MethodArguments {
    /// Where the server is: host:port, unix:PATH, http:// or https://
    #[arg(value_name = "ADDRESS", add = ArgValueCompleter::new(completion::address))]
    first: Option<String>,
    /// The method: package.Service/Method or package.Service.Method
    #[arg(value_name = "METHOD", add = ArgValueCompleter::new(completion::method))]
    second: Option<String>,
    /// Request messages as JSON, one after another; @ reads standard input, @FILE a file
    #[arg(short, long, value_name = "JSON")]
    pub(crate) data: Option<String>,
    /// The call's deadline
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) max_time: Option<std::time::Duration>,
    /// The largest message to accept; unlimited by default
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_msg_sz: Option<usize>,
    /// Ignore fields in the JSON that the schema does not have
    #[arg(long)]
    pub(crate) allow_unknown_fields: bool,
    /// Metadata for the call only, not for reflection
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) rpc_header: Vec<String>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    #[command(flatten)]
    pub(crate) schema: SchemaArguments,
    /// text or json
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// What `call` takes.
#[derive(Debug, Args)]
pub(crate) struct CallArguments {
    #[command(flatten)]
    pub(crate) method: MethodArguments,
    /// Print fields that have their default value
    #[arg(long)]
    pub(crate) emit_defaults: bool,
}

/// What `bench` takes.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    pub(crate) method: MethodArguments,
    /// Calls that run at the same time
    #[arg(short, long, default_value_t = 16, value_name = "CALLS")]
    pub(crate) concurrency: usize,
    /// Connections that the calls are spread over
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) connections: usize,
    /// How long to measure
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: std::time::Duration,
    /// Measure this many calls instead of a duration
    #[arg(short = 'n', long, value_name = "CALLS", conflicts_with = "duration")]
    pub(crate) requests: Option<u64>,
    /// Open loop: start this many calls a second, and count latency from when a call was due
    #[arg(short, long, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// Calls of the first seconds are made and not counted
    #[arg(long, default_value = "0", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) warmup: std::time::Duration,
    /// Exit with 6 if this holds: METRIC>VALUE or METRIC<VALUE; p50, p99.9, mean, max, rate, errors, messages
    #[arg(long, value_name = "LIMIT")]
    pub(crate) fail_if: Vec<crate::bench::Limit>,
}

/// What `up` takes.
#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    #[command(flatten)]
    pub(crate) gateway: GatewayArguments,
    #[command(flatten)]
    pub(crate) backends: serve::BackendArguments,
    /// Run this command once everything answers; stop with it and exit with its code
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) run: Vec<OsString>,
}

impl LookArguments {
    /// The address and the symbol.
    pub(crate) fn places(&self) -> Result<(Option<String>, Option<String>), Failure> {
        let (address, symbol) =
            self.connection.places(&self.first, &self.second, self.schema.has_files());
        if address.is_none() && !self.schema.has_files() {
            return Err(Failure::usage("no server is named").hint(
                "give host:port, a --profile with an address, --protoset FILE or --proto FILE",
            ));
        }
        Ok((address, symbol))
    }
}

impl MethodArguments {
    /// The address and the method.
    pub(crate) fn places(&self) -> Result<(String, String), Failure> {
        match self.connection.places(&self.first, &self.second, false) {
            (Some(address), Some(method)) => Ok((address, method)),
            (Some(_), None) => Err(Failure::usage("no method is named")
                .hint("give package.Service/Method; `oxgrpc list ADDRESS` lists the services")),
            (None, _) => Err(Failure::usage("no server is named")
                .hint("give host:port before the method, or a --profile with an address")),
        }
    }
}

/// What was on the command line.
pub(crate) enum Parsed {
    Arguments(Box<Arguments>),
    /// clap has the answer: help, the version, or what is wrong.
    Answer(clap::Error),
}

/// Reads the command line, with the flags of its profile or of the environment before its own.
pub(crate) fn parse(line: Vec<OsString>) -> Result<Parsed, Failure> {
    let command = Arguments::command();
    let line = normalise::normalise(&command, line);
    let mut line = profile::apply(&command, line)?;
    if line.get(1).is_some_and(|word| word == "gateway" || word == "up") {
        line.splice(2..2, serve::environment::flags(std::env::vars_os()));
    }
    let parsed = command
        .try_get_matches_from(line)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    Ok(match parsed {
        Ok(arguments) => Parsed::Arguments(Box::new(arguments)),
        Err(error) => Parsed::Answer(error),
    })
}

/// Returns true if the command line asks for JSON, however wrong the rest of it may be.
pub(crate) fn wants_json(line: &[OsString]) -> bool {
    let words: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
    words
        .iter()
        .take_while(|word| *word != "--")
        .any(|word| matches!(&**word, "-ojson" | "-o=json" | "--output=json" | "-output=json"))
        || words
            .windows(2)
            .any(|pair| matches!(&*pair[0], "-o" | "--output" | "-output") && pair[1] == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_consistent() {
        Arguments::command().debug_assert();
    }
}
