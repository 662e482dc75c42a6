//! Errors in the language of the request: a gRPC status, or JSON with the mapped HTTP status.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::observe::REQUEST_ID;

/// Refuses a request. `headers` are the request's: they say which protocol it speaks, and carry its id.
pub(crate) fn refuse(headers: &HeaderMap, status: &Status) -> Response {
    let grpc =
        headers.get(CONTENT_TYPE).filter(|value| value.as_bytes().starts_with(b"application/grpc"));
    match grpc {
        // A response of headers alone, which gRPC and gRPC-Web read alike.
        Some(content_type) => {
            let mut response = Status::new(status.code(), status.message()).into_http::<Body>();
            response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
            response
        }
        None => json_error(headers, status, Vec::new()),
    }
}

/// Returns an error as JSON: `code`, `message`, `details` and the request's id.
pub(crate) fn json_error(headers: &HeaderMap, status: &Status, details: Vec<Value>) -> Response {
    let body = json!({
        "code": status.code() as i32,
        "status": oxgrpc_schema::code_name(status.code()),
        "message": status.message(),
        "details": details,
        "requestId": headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default(),
    });
    let mut response = (http_status(status.code()), axum::Json(body)).into_response();
    // Whatever a status has to say, an error page of it is text.
    response
        .headers_mut()
        .insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Returns the HTTP status of a gRPC code, after google.rpc's mapping.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}
