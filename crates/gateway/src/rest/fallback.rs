//! What no route takes: gRPC-Web and gRPC go to the services, everything else is not found.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use tonic::Status;
use tonic::service::Routes;
use tonic_web::GrpcWebService;
use tower::Service;

use crate::serve::refusal::json_error;

/// The service behind all routes.
#[derive(Clone)]
pub(super) struct Fallback {
    pub(super) web: GrpcWebService<Routes>,
}

impl Service<Request> for Fallback {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let is_grpc = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc {
            let status = Status::not_found(format!(
                "no route {} {}; see /swagger for those there are",
                request.method(),
                request.uri().path()
            ));
            let response = json_error(request.headers(), &status, Vec::new());
            return Box::pin(std::future::ready(Ok(response)));
        }
        let mut web = self.web.clone();
        Box::pin(async move {
            let response = web.call(request.map(tonic::body::Body::new)).await;
            Ok(response.into_response())
        })
    }
}
