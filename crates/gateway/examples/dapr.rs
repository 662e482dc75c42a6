//! Dapr's API on embedded engines and free ports, for tests with Dapr's SDKs: prints `grpc PORT http PORT`, and serves until
//! its standard input ends.

use std::error::Error;
use std::sync::Arc;

use oxgrpc_gateway::config::Storage;
use oxgrpc_gateway::dapr::{Components, Dapr};
use oxgrpc_gateway::{pubsub, state};
use oxgrpc_proto::virtufin::pubsub_server::PubsubServer;
use oxgrpc_proto::virtufin::state_server::StateServer;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let storage = match std::env::args_os().nth(1) {
        Some(directory) => Storage::Directory(directory.into()),
        None => Storage::Ephemeral,
    };
    let store = state::open(&storage).await?;
    let bus = pubsub::open(&storage).await?;
    let dapr = Dapr::new(store.clone(), bus.clone(), Components::default());
    let grpc = TcpListener::bind("127.0.0.1:0").await?;
    let http = TcpListener::bind("127.0.0.1:0").await?;
    println!("grpc {} http {}", grpc.local_addr()?.port(), http.local_addr()?.port());
    let rpcs = Server::builder()
        .add_service(dapr.grpc())
        .add_service(StateServer::new(state::StateService::new(store, Arc::clone(&bus))))
        .add_service(PubsubServer::new(pubsub::PubsubService::new(bus)))
        .serve_with_incoming(TcpListenerStream::new(grpc));
    let (ended, input_ends) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ended.send(())
    });
    tokio::select! {
        result = rpcs => result?,
        result = axum::serve(http, dapr.http()) => result?,
        _ = input_ends => {}
    }
    Ok(())
}
