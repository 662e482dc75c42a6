//! The command line `oxgrpc`.

#![forbid(unsafe_code)]

use clap::Parser;

/// gRPC from the command line, and the gateway.
#[derive(Debug, Parser)]
#[command(name = "oxgrpc", version)]
struct Arguments {}

fn main() {
    Arguments::parse();
}
