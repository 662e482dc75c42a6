//! Generates the messages and services. `PROTOC` names the compiler.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::configure().compile_protos(&["../test.proto"], &[".."])?;
    Ok(())
}
