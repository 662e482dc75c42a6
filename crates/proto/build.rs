//! Generates the messages and services of `proto/` without `protoc`.

use std::error::Error;
use std::path::Path;

use prost::Message as _;

const FILES: [&str; 8] = [
    "virtufin/status.proto",
    "virtufin/gateway.proto",
    "virtufin/state.proto",
    "virtufin/pubsub.proto",
    "virtufin/config.proto",
    "virtufin/workmanager.proto",
    "virtufin/websocketmanager.proto",
    "dapr/proto/runtime/v1/dapr.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
