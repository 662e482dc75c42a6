//! The interop client and server on tonic.
//!
//!     oxgrpc-interop-tonic client PORT CASE [CA NAME]
//!     oxgrpc-interop-tonic server [CERT KEY]      prints its port

mod client;
mod echo;
mod server;

/// What the build script made of the proto.
mod proto {
    tonic::include_proto!("grpc.testing");
}

use proto::Payload;

type Failure = Box<dyn std::error::Error>;

const INITIAL: &str = "x-grpc-test-echo-initial";
const TRAILING: &str = "x-grpc-test-echo-trailing-bin";

fn payload(size: i32) -> Option<Payload> {
    Some(Payload { body: vec![0; usize::try_from(size).unwrap_or(0)] })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["client", port, case] => client::run(port, case, None).await,
        ["client", port, case, ca, name] => client::run(port, case, Some((ca, name))).await,
        ["server"] => server::run(None).await,
        ["server", cert, key] => server::run(Some((cert, key))).await,
        _ => Err("client PORT CASE [CA NAME] or server [CERT KEY]".into()),
    }
}
