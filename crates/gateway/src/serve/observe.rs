//! Each request's id, its line in the log and its numbers; and the end of endless streams when the gateway stops.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;
use tracing::Instrument as _;

use super::refuse;
use crate::invoke::parse_timeout;
use crate::metrics::{InProgress, Metrics};

/// The header, or gRPC metadata, that carries a request's id in both directions.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// In a response's extensions: what metrics call the route.
#[derive(Clone, Debug)]
struct Route(MatchedPath);

/// Labels the responses of a router's own routes.
pub(crate) async fn label(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(path) = matched {
        response.extensions_mut().insert(Route(path));
    }
    response
}

/// Calls that last until the caller leaves: they must not hold up a gateway that stops.
const ENDLESS: [&str; 9] = [
    "/virtufin.Gateway/Subscribe",
    "/virtufin.Pubsub/Subscribe",
    "/virtufin.Pubsub/SubscribeSystemEvents",
    "/dapr.proto.runtime.v1.Dapr/SubscribeTopicEventsAlpha1",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/v1/pubsub/subscribe",
    "/v1/gateway/subscribe",
];

const STOPS: &str = "the gateway stops";
const LATE: &str = "the call's deadline has passed at the gateway";

/// tonic ends a call at its deadline with CANCELLED; this much earlier we say DEADLINE_EXCEEDED.
const EARLIER: Duration = Duration::from_millis(2);

/// Waits for the deadline that the caller has set, or for ever.
async fn deadline(headers: &HeaderMap) {
    let timeout = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
    match timeout.and_then(parse_timeout) {
        Some(timeout) => tokio::time::sleep(timeout.saturating_sub(EARLIER)).await,
        None => std::future::pending().await,
    }
}

/// What requests are observed with.
#[derive(Clone)]
pub(crate) struct Observer {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) port: &'static str,
    pub(crate) ending: super::Ending,
}

/// Observes a request.
pub(crate) async fn observe(
    State(observer): State<Observer>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = match request.headers().get(&REQUEST_ID) {
        Some(id) if is_usable(id) => id.clone(),
        _ => fresh_id(),
    };
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        port = observer.port,
        %method,
        path
    );
    let in_progress = observer.metrics.begin(observer.port);
    let headers = request.headers().clone();
    let expired = observer.ending.expired.clone();
    let deadline = deadline(&headers);
    let mut response = tokio::select! {
        // A response that is ready is better than the news that it is late.
        biased;
        response = next.run(request).instrument(span.clone()) => response,
        () = expired.cancelled() => refuse(&headers, &Status::unavailable(STOPS)),
        () = deadline => refuse(&headers, &Status::deadline_exceeded(LATE)),
    };
    response.headers_mut().insert(REQUEST_ID, id);
    let route = match response.extensions().get::<Route>() {
        Some(route) => route.0.as_str().to_owned(),
        None => observer.metrics.route(&path),
    };
    let http_status = response.status().as_u16();
    let grpc_status = grpc_status(response.headers());
    let last_call =
        if ENDLESS.contains(&path.as_str()) { observer.ending.stopping.clone() } else { expired };
    let stopping = Box::pin(last_call.cancelled_owned());
    let ending = Ending {
        observer,
        route,
        http_status,
        grpc_status,
        begun,
        span,
        _in_progress: in_progress,
    };
    response.map(|body| Body::new(Observed { body, ending, stopping, ended: false }))
}

fn is_usable(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn fresh_id() -> HeaderValue {
    let id = uuid::Uuid::new_v4().simple().to_string();
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn grpc_status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What is told about a request once its response has ended, or its caller has left.
struct Ending {
    observer: Observer,
    route: String,
    http_status: u16,
    grpc_status: Option<i32>,
    begun: Instant,
    span: tracing::Span,
    _in_progress: InProgress,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let code = match self.grpc_status {
            Some(code) => oxgrpc_schema::code_name(tonic::Code::from(code)).to_owned(),
            None => self.http_status.to_string(),
        };
        self.observer.metrics.end(self.observer.port, &self.route, &code, took);
        let failed = self.http_status >= 400 || self.grpc_status.is_some_and(|code| code != 0);
        let _entered = self.span.enter();
        let took_ms = took.as_secs_f64() * 1000.0;
        if failed {
            tracing::info!(code, took_ms, "request failed");
        } else {
            tracing::debug!(code, took_ms, "request done");
        }
    }
}

/// A response's body that notices its trailers and its end.
struct Observed {
    body: Body,
    ending: Ending,
    /// When the stream has to end, whether or not it has come to its end.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(grpc_status) {
                    this.ending.grpc_status = Some(status);
                }
            }
            Poll::Pending => {
                let stops = Future::poll(this.stopping.as_mut(), context).is_ready();
                if stops {
                    this.ended = true;
                    return Poll::Ready(this.last_words().map(Ok));
                }
            }
            Poll::Ready(_) => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Observed {
    /// On a stream of gRPC, trailers that say why it ends; elsewhere the stream just ends.
    fn last_words(&mut self) -> Option<Frame<Bytes>> {
        if self.ending.observer.port != "grpc" {
            return None;
        }
        let code = tonic::Code::Unavailable as i32;
        self.ending.grpc_status = Some(code);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(code));
        trailers.insert("grpc-message", HeaderValue::from_static(STOPS));
        Some(Frame::trailers(trailers))
    }
}
