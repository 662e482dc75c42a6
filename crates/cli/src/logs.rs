//! `oxgrpc logs`: what a worker has printed, through the gateway.

use clap::Args;
use oxgrpc_proto::virtufin::InvokeJsonRequest;
use oxgrpc_proto::virtufin::gateway_client::GatewayClient;
use oxgrpc_schema::code_name;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::arguments::ConnectionArguments;
use crate::call::print_line;
use crate::connect::Connection;
use crate::failure::{Failure, Kind};
use crate::metadata::Headers;
use crate::trace::Trace;

/// What `logs` takes.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// The worker's id, as ListWorkers shows it
    id: String,
    /// Go on with what comes until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// At most this many of the lines that are there
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// The gateway's gRPC address
    #[arg(long, value_name = "ADDRESS", default_value = "http://127.0.0.1:5002")]
    gateway: String,
    #[command(flatten)]
    connection: ConnectionArguments,
}

/// Runs the command and returns its exit code.
pub(crate) async fn run(arguments: &LogsArguments) -> u8 {
    let result = tokio::select! {
        result = read(arguments) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => {
            failure.print();
            failure.kind.exit_code()
        }
    }
}

async fn read(arguments: &LogsArguments) -> Result<(), Failure> {
    let address = arguments.connection.default_address.as_ref().unwrap_or(&arguments.gateway);
    let target = arguments.connection.target(address)?;
    let headers = Headers::read(&arguments.connection.header).await?;
    let trace = Trace::new(arguments.connection.verbose);
    let connection = Connection::open(&target, &trace).await?;
    let mut request = tonic::Request::new(InvokeJsonRequest {
        service: "workmanager".into(),
        method: "StreamWorkerLogs".into(),
        request_data: json!({
            "id": arguments.id,
            "follow": arguments.follow,
            "tailLines": arguments.tail.unwrap_or(0),
        })
        .to_string(),
    });
    *request.metadata_mut() = headers.map;
    let failed = |status: Status| {
        Failure::new(
            Kind::Rpc(status.code()),
            format!("{}: {}", code_name(status.code()), status.message()),
        )
    };
    let mut lines = GatewayClient::new(connection)
        .invoke_json_stream(request)
        .await
        .map_err(failed)?
        .into_inner();
    while let Some(line) = lines.message().await.map_err(failed)? {
        if !line.success {
            return Err(Failure::new(
                Kind::Rpc(code_of(&line.status)),
                format!("{}: {}", line.status, line.message),
            ));
        }
        if line.response_data.is_empty() {
            continue;
        }
        let line: Value = serde_json::from_str(&line.response_data)
            .map_err(|error| Failure::schema(format!("a line of the log is not JSON: {error}")))?;
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        print_line(&format!("{} {} {}", text("timestamp"), text("stream"), text("text")))?;
    }
    Ok(())
}

/// The code that a status word of the gateway's stands for.
fn code_of(word: &str) -> Code {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    (0..=16)
        .map(Code::from)
        .find(|code| plain(code_name(*code)) == plain(word))
        .unwrap_or(Code::Unknown)
}
