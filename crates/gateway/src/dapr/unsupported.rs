//! RPCs of Dapr that the gateway does not have: each answers UNIMPLEMENTED and says what to use instead.

use std::convert::Infallible;
use std::future::Ready;
use std::task::{Context, Poll};

use futures_util::future::Either;
use oxgrpc_proto::dapr::proto::runtime::v1::dapr_server::{DaprServer, SERVICE_NAME};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::Dapr;

const SUPPORTED: [&str; 10] = [
    "PublishEvent",
    "BulkPublishEvent",
    "BulkPublishEventAlpha1",
    "SubscribeTopicEventsAlpha1",
    "GetState",
    "GetBulkState",
    "SaveState",
    "DeleteState",
    "DeleteBulkState",
    "ExecuteStateTransaction",
];

/// A part of a method's name, and what does the same job here. The first that is found counts.
const INSTEAD: [(&str, &str); 15] = [
    ("QueryState", "virtufin.State/ListKeys lists keys by prefix, GetBulkState reads them"),
    ("InvokeService", "virtufin.Gateway/InvokeJson calls registered services"),
    ("InvokeActor", "a worker of virtufin.WorkManager reacts to events one by one"),
    ("Actor", "virtufin.State keeps what an actor would, with etags"),
    (
        "InvokeBinding",
        "virtufin.WebSocketManager and the services in services.json reach the outside",
    ),
    ("Secret", "the environment or the files of the process hold its secrets"),
    (
        "Configuration",
        "virtufin.State keeps configuration, and the topic state-changes tells of changes",
    ),
    (
        "Lock",
        "SaveState with first-write concurrency and ttlInSeconds creates a key that one caller wins",
    ),
    ("Workflow", "a worker of virtufin.WorkManager with its progress in virtufin.State"),
    ("Job", "a scheduler such as cron that publishes an event"),
    ("Crypt", "a library in the application"),
    ("Subtle", "a library in the application"),
    ("Converse", "a service of one's own in services.json"),
    ("Metadata", "virtufin.Config/ListServices, and grpc.reflection for the methods"),
    ("Shutdown", "SIGTERM to the gateway's process"),
];

/// The first part of an HTTP path below `/v1.0/`, and the method that it belongs to.
const PATHS: [(&str, &str); 11] = [
    ("invoke", "InvokeService"),
    ("actors", "InvokeActor"),
    ("bindings", "InvokeBinding"),
    ("secrets", "GetSecret"),
    ("configuration", "GetConfiguration"),
    ("lock", "TryLock"),
    ("unlock", "Unlock"),
    ("workflows", "StartWorkflow"),
    ("jobs", "ScheduleJob"),
    ("metadata", "GetMetadata"),
    ("shutdown", "Shutdown"),
];

/// Returns the refusal of an HTTP path below `/v1.0/`.
pub(super) fn path_refusal(path: &str) -> Status {
    let first = path.split('/').next().unwrap_or_default();
    let method = PATHS.iter().find(|(known, _)| *known == first);
    refusal(method.map_or(path, |(_, method)| *method))
}

fn refusal(method: &str) -> Status {
    let instead = INSTEAD
        .iter()
        .find(|(part, _)| method.contains(part))
        .map_or(String::new(), |(_, instead)| format!("; instead: {instead}"));
    Status::unimplemented(format!("the gateway does not have Dapr's {method}{instead}"))
}

/// The service `dapr.proto.runtime.v1.Dapr`, with answers to the RPCs that it lacks.
#[derive(Clone, Debug)]
pub struct DaprGrpc {
    supported: DaprServer<Dapr>,
}

impl DaprGrpc {
    pub(super) fn new(dapr: Dapr) -> Self {
        Self { supported: DaprServer::new(dapr) }
    }

    /// Refuses requests that are larger, decoded.
    #[must_use]
    pub fn max_decoding_message_size(mut self, bytes: usize) -> Self {
        self.supported = self.supported.max_decoding_message_size(bytes);
        self
    }
}

impl NamedService for DaprGrpc {
    const NAME: &'static str = SERVICE_NAME;
}

type Answer = Result<http::Response<Body>, Infallible>;

impl Service<http::Request<Body>> for DaprGrpc {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<<DaprServer<Dapr> as Service<http::Request<Body>>>::Future, Ready<Answer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        if SUPPORTED.contains(&method) {
            return Either::Left(self.supported.call(request));
        }
        let refusal = refusal(method).into_http();
        Either::Right(std::future::ready(Ok(refusal)))
    }
}
