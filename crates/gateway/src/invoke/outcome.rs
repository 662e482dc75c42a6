//! How a call to a backend fails, and the words for it.

use std::sync::Arc;

use oxgrpc_schema::{code_name, details};
use serde_json::json;
use tonic::{Code, Status};

use crate::backend::HostSchema;

/// Why a call to a backend failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The service or the method is not known.
    NotFound(String),
    /// The request does not fit the method.
    InvalidRequest(String),
    /// The method streams.
    Unsupported(String),
    /// No host can be reached, or its schema cannot be had; nothing of the call was sent.
    Unreachable(String),
    /// The gateway's own fault.
    Internal(String),
    /// The backend's answer is an error.
    Backend {
        /// As the backend sent it.
        status: Status,
        /// For the details that are in it.
        schema: Option<Arc<HostSchema>>,
    },
}

impl Failure {
    pub(crate) fn unreachable(status: &Status) -> Self {
        Self::Unreachable(status.message().to_owned())
    }

    pub(crate) fn backend(status: Status, schema: &Arc<HostSchema>) -> Self {
        Self::Backend { status, schema: Some(schema.clone()) }
    }

    /// Returns the word that `status` carries in band.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "NOT_FOUND",
            Self::InvalidRequest(_) => "INVALID_REQUEST",
            Self::Unsupported(_) => "UNSUPPORTED",
            Self::Unreachable(_) => "UNAVAILABLE",
            Self::Internal(_) => "INTERNAL",
            Self::Backend { status, .. } => code_name(status.code()),
        }
    }

    /// Returns the code that the failure has out of band.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::InvalidRequest(_) => Code::InvalidArgument,
            Self::Unsupported(_) => Code::Unimplemented,
            Self::Unreachable(_) => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
            Self::Backend { status, .. } => status.code(),
        }
    }

    pub(crate) fn message(&self) -> &str {
        match self {
            Self::NotFound(message)
            | Self::InvalidRequest(message)
            | Self::Unsupported(message)
            | Self::Unreachable(message)
            | Self::Internal(message) => message,
            Self::Backend { status, .. } => status.message(),
        }
    }

    /// Returns the details of the backend's error, decoded with its own descriptors.
    pub(crate) fn details(&self) -> Vec<serde_json::Value> {
        match self {
            Self::Backend { status, schema } if !status.details().is_empty() => details::decode(
                status.details(),
                schema.as_ref().map(|schema| schema.schema().pool()),
            ),
            _ => Vec::new(),
        }
    }

    /// Returns `{"code", "message", "details"}` as JSON if there are details, else the empty string: what a failed response
    /// carries as its data.
    pub(crate) fn details_json(&self) -> String {
        let details = self.details();
        if details.is_empty() {
            return String::new();
        }
        json!({ "code": self.code() as i32, "message": self.message(), "details": details })
            .to_string()
    }

    pub(crate) fn into_status(self) -> Status {
        match self {
            Self::Backend { status, .. } => status,
            failure => Status::new(failure.code(), failure.message()),
        }
    }
}
