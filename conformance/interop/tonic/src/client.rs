//! The cases, as grpc's doc/interop-test-descriptions.md has them.

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::proto::test_service_client::TestServiceClient;
use crate::proto::unimplemented_service_client::UnimplementedServiceClient;
use crate::proto::{
    EchoStatus, Empty, ResponseParameters, SimpleRequest, StreamingInputCallRequest,
    StreamingOutputCallRequest,
};
use crate::{Failure, INITIAL, TRAILING, payload};

const MESSAGE: &str = "test status message";
const SPECIAL: &str = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
/// What is asked for, and what is sent with it.
const PING_PONG: [(i32, i32); 4] = [(31415, 27182), (9, 8), (2653, 1828), (58979, 45904)];
const INITIAL_VALUE: &str = "test_initial_metadata_value";
const TRAILING_VALUE: &[u8] = &[0xab, 0xab, 0xab];

type Client = TestServiceClient<Channel>;
type Outcome = Result<(), Failure>;

pub(crate) async fn run(port: &str, case: &str, tls: Option<(&str, &str)>) -> Outcome {
    let channel = match tls {
        None => Endpoint::new(format!("http://127.0.0.1:{port}"))?,
        Some((ca, name)) => {
            let ca = Certificate::from_pem(std::fs::read(ca)?);
            let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(name);
            Endpoint::new(format!("https://127.0.0.1:{port}"))?.tls_config(tls)?
        }
    };
    let channel = channel.connect().await?;
    let mut client = Client::new(channel.clone());
    let client = &mut client;
    match case {
        "empty_unary" => empty_unary(client).await,
        "large_unary" => large_unary(client).await,
        "client_streaming" => client_streaming(client).await,
        "server_streaming" => server_streaming(client).await,
        "ping_pong" => ping_pong(client).await,
        "empty_stream" => empty_stream(client).await,
        "cancel_after_begin" => cancel_after_begin(client).await,
        "cancel_after_first_response" => cancel_after_first_response(client).await,
        "timeout_on_sleeping_server" => timeout_on_sleeping_server(client).await,
        "status_code_and_message" => status_code_and_message(client).await,
        "special_status_message" => special_status_message(client).await,
        "unimplemented_method" => expect_unimplemented(client.unimplemented_call(Empty {}).await),
        "unimplemented_service" => expect_unimplemented(
            UnimplementedServiceClient::new(channel).unimplemented_call(Empty {}).await,
        ),
        "custom_metadata" => custom_metadata(client).await,
        _ => Err(format!("no case {case}").into()),
    }
}

fn expect<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("{what} was {got:?}, not {wanted:?}").into()) }
}

fn expect_status<T: Debug>(result: Result<T, Status>, code: Code, message: &str) -> Outcome {
    match result {
        Ok(response) => Err(format!("a response instead of a status: {response:?}").into()),
        Err(status) => expect("the status", (status.code(), status.message()), (code, message)),
    }
}

fn expect_unimplemented(result: Result<Response<Empty>, Status>) -> Outcome {
    let code = result.map_or_else(|status| status.code(), |_| Code::Ok);
    expect("the status", code, Code::Unimplemented)
}

fn large() -> SimpleRequest {
    SimpleRequest { response_size: 314_159, payload: payload(271_828), response_status: None }
}

fn ping((response, request): (i32, i32)) -> StreamingOutputCallRequest {
    let parameters = ResponseParameters { size: response, interval_us: 0 };
    StreamingOutputCallRequest {
        response_parameters: vec![parameters],
        payload: payload(request),
        response_status: None,
    }
}

fn asking_for(message: &str) -> Option<EchoStatus> {
    Some(EchoStatus { code: Code::Unknown as i32, message: message.to_owned() })
}

/// A stream of requests, written as the case goes on.
fn requests<T>() -> (UnboundedSender<T>, UnboundedReceiverStream<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, UnboundedReceiverStream::new(receiver))
}

async fn empty_unary(client: &mut Client) -> Outcome {
    expect("the response", client.empty_call(Empty {}).await?.into_inner(), Empty {})
}

async fn large_unary(client: &mut Client) -> Outcome {
    expect("the payload", client.unary_call(large()).await?.into_inner().payload, payload(314_159))
}

async fn client_streaming(client: &mut Client) -> Outcome {
    let sizes = [27182, 8, 1828, 45904];
    let requests =
        tokio_stream::iter(sizes.map(|size| StreamingInputCallRequest { payload: payload(size) }));
    let response = client.streaming_input_call(requests).await?.into_inner();
    expect("the sum", response.aggregated_payload_size, 74922)
}

async fn server_streaming(client: &mut Client) -> Outcome {
    let sizes = [31415, 9, 2653, 58979];
    let response_parameters =
        sizes.map(|size| ResponseParameters { size, interval_us: 0 }).to_vec();
    let request = StreamingOutputCallRequest { response_parameters, ..Default::default() };
    let mut responses = client.streaming_output_call(request).await?.into_inner();
    for size in sizes {
        expect(
            "the payload",
            responses.message().await?.and_then(|response| response.payload),
            payload(size),
        )?;
    }
    expect("the end", responses.message().await?, None)
}

async fn ping_pong(client: &mut Client) -> Outcome {
    let (sender, requests) = requests();
    sender.send(ping(PING_PONG[0]))?;
    let mut responses = client.full_duplex_call(requests).await?.into_inner();
    for (turn, (size, _)) in PING_PONG.into_iter().enumerate() {
        if turn > 0 {
            sender.send(ping(PING_PONG[turn]))?;
        }
        expect(
            "the payload",
            responses.message().await?.and_then(|response| response.payload),
            payload(size),
        )?;
    }
    drop(sender);
    expect("the end", responses.message().await?, None)
}

async fn empty_stream(client: &mut Client) -> Outcome {
    let mut responses = client.full_duplex_call(tokio_stream::empty()).await?.into_inner();
    expect("the end", responses.message().await?, None)
}

/// A call of tonic's is cancelled by being dropped, and has no status then. That its connection has
/// taken no harm is what can be seen.
async fn cancel_after_begin(client: &mut Client) -> Outcome {
    let (_sender, requests) = requests::<StreamingInputCallRequest>();
    let call = client.streaming_input_call(requests);
    expect(
        "the call that was given up",
        tokio::time::timeout(Duration::from_millis(100), call).await.is_err(),
        true,
    )?;
    empty_unary(client).await
}

async fn cancel_after_first_response(client: &mut Client) -> Outcome {
    let (sender, requests) = requests();
    sender.send(ping(PING_PONG[0]))?;
    let mut responses = client.full_duplex_call(requests).await?.into_inner();
    let first = responses.message().await?.and_then(|response| response.payload);
    expect("the payload", first, payload(PING_PONG[0].0))?;
    drop(responses);
    empty_unary(client).await
}

async fn timeout_on_sleeping_server(client: &mut Client) -> Outcome {
    let (sender, requests) = requests();
    sender.send(StreamingOutputCallRequest { payload: payload(27182), ..Default::default() })?;
    let mut request = Request::new(requests);
    request.set_timeout(Duration::from_millis(1));
    let outcome = match client.full_duplex_call(request).await {
        Err(status) => Err(status),
        // Once there are headers, tonic leaves the time to the server.
        Ok(response) => response.into_inner().message().await,
    };
    match outcome {
        // What tonic's own timer says.
        Err(status) if status.message() == "Timeout expired" => Ok(()),
        Err(status) => expect("the status", status.code(), Code::DeadlineExceeded),
        Ok(message) => Err(format!("a message in spite of the time: {message:?}").into()),
    }
}

async fn status_code_and_message(client: &mut Client) -> Outcome {
    let unary = SimpleRequest { response_status: asking_for(MESSAGE), ..Default::default() };
    expect_status(client.unary_call(unary).await, Code::Unknown, MESSAGE)?;
    let request =
        StreamingOutputCallRequest { response_status: asking_for(MESSAGE), ..Default::default() };
    match client.full_duplex_call(tokio_stream::once(request)).await {
        Ok(response) => {
            expect_status(response.into_inner().message().await, Code::Unknown, MESSAGE)
        }
        refused => expect_status(refused, Code::Unknown, MESSAGE),
    }
}

async fn special_status_message(client: &mut Client) -> Outcome {
    let request = SimpleRequest { response_status: asking_for(SPECIAL), ..Default::default() };
    expect_status(client.unary_call(request).await, Code::Unknown, SPECIAL)
}

fn with_metadata<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(INITIAL, MetadataValue::from_static(INITIAL_VALUE));
    request.metadata_mut().insert_bin(TRAILING, MetadataValue::from_bytes(TRAILING_VALUE));
    request
}

fn expect_initial(metadata: &MetadataMap) -> Outcome {
    let value = metadata.get(INITIAL).map(|value| value.as_encoded_bytes());
    expect("the initial metadata", value, Some(INITIAL_VALUE.as_bytes()))
}

fn expect_trailing(metadata: &MetadataMap) -> Outcome {
    let value = metadata.get_bin(TRAILING).and_then(|value| value.to_bytes().ok());
    expect("the trailing metadata", value.as_deref(), Some(TRAILING_VALUE))
}

async fn custom_metadata(client: &mut Client) -> Outcome {
    let response = client.unary_call(with_metadata(large())).await?;
    // tonic merges both into one map.
    expect_initial(response.metadata())?;
    expect_trailing(response.metadata())?;

    let requests = tokio_stream::once(ping((314_159, 271_828)));
    let response = client.full_duplex_call(with_metadata(requests)).await?;
    expect_initial(response.metadata())?;
    let mut responses = response.into_inner();
    expect(
        "the payload",
        responses.message().await?.and_then(|response| response.payload),
        payload(314_159),
    )?;
    expect("the end", responses.message().await?, None)?;
    expect_trailing(&responses.trailers().await?.unwrap_or_default())
}
